"""The guide to identity runs as it stands: every block of it, in its order, against one core."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from core.domain.records.identity import MOST_IDENTIFIERS, ORDER, STRONG, normalise
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "identity.md").read_text()
((NAME, HELP),) = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
BLOCKS = [text for text in re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL) if text != HELP]
SAID = re.findall(r"^```text\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


async def _ran(core: RunningCore, folder: Path, program: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "no_proxy": "*",
        "DRIPSTONE_HTTP": core.http_url,
        "DRIPSTONE_API_KEY": core.api_key,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{program}\n{err.decode()}"
    await core.settle()
    return out.decode()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_block_of_the_guide_says_what_it_promises(core: RunningCore, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(HELP)
    assert len(BLOCKS) == len(SAID)
    for block, told in zip(BLOCKS, SAID, strict=True):
        assert await _ran(core, tmp_path, "from crm import call, contact, seen\n" + block) == told, block


def test_the_guide_names_the_order_the_limit_and_the_junk_that_the_code_has() -> None:
    table = re.findall(r"^\| (?:External reference|`(\w+)`)[^|]*\| (strong|weak) \|", GUIDE, re.MULTILINE)
    assert [(kind or "ext", strength == "strong") for kind, strength in table] == [
        (kind, kind in STRONG) for kind in ORDER
    ]
    assert f"A contact has {MOST_IDENTIFIERS} identifiers at most" in GUIDE
    for junk in ("null", "undefined", "guest", "anonymous", "test", "{{ email }}", "%user_id%"):
        assert f"`{junk}`" in GUIDE
        assert normalise("person_id", junk) is None
    assert normalise("email", "test@test.com") is None
