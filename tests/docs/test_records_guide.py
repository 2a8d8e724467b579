"""The guide to records runs as it stands: every block of it, in its order, against one core."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from core.domain.records.definitions import FieldKind
from core.domain.records.reverting import ALREADY_REVERTED, CHANGED_SINCE, FINAL, RECORD_DELETED
from core.domain.records.standard import STANDARD_TYPES
from core.store.records.reverting import MOST_RECORDS
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "records.md").read_text()
((NAME, HELP),) = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
BLOCKS = [text for text in re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL) if text != HELP]
SAID = re.findall(r"^```text\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_block_of_the_guide_says_what_it_promises(core: RunningCore, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(HELP)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path]),
        "no_proxy": "*",
        "DRIPSTONE_HTTP": core.http_url,
        "DRIPSTONE_API_KEY": core.api_key,
    }
    program = "from crm import call, put\n" + "print('-----')\n".join(BLOCKS)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    assert out.decode().split("-----\n") == SAID


def test_the_guide_names_what_the_code_has() -> None:
    table = re.findall(r"^\| `(\w+)` \| `(\w+)_` \| (.*) \|$", GUIDE, re.MULTILINE)
    assert table == [(one.name, one.id_prefix, one.description) for one in STANDARD_TYPES]
    for kind in FieldKind:
        assert f"`{kind}`" in GUIDE
    for reason in (CHANGED_SINCE, ALREADY_REVERTED, RECORD_DELETED, *FINAL.values()):
        assert f"`{reason}`" in GUIDE
    assert f"{MOST_RECORDS:,} records at most" in GUIDE
