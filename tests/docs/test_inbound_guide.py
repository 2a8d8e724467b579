"""The guide to inbound sources runs as it stands: every block of it, in its order, against one core."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from core.domain.inbound import request, verifiers
from core.gateway import inbound
from core.store.events import quarantine
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "inbound.md").read_text()
((NAME, SHOP),) = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
BLOCKS = [text for text in re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL) if text != SHOP]
SAID = re.findall(r"^```text\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


async def _ran(core: RunningCore, folder: Path, program: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "no_proxy": "*",
        "DRIPSTONE_HTTP": core.http_url,
        "DRIPSTONE_API_KEY": core.api_key,
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "ignore", "-c", program, env=environment, cwd=folder, stdout=pipe, stderr=pipe
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{program}\n{err.decode()}"
    core.clock.advance(timedelta(seconds=1))
    return out.decode()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_block_of_the_guide_says_what_it_promises(core: RunningCore, tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(SHOP)
    assert len(BLOCKS) == len(SAID)
    for block, told in zip(BLOCKS, SAID, strict=True):
        assert await _ran(core, tmp_path, "from shop import *\n" + block) == told, block


def test_the_guide_names_every_kind_and_the_limits_that_the_code_has() -> None:
    assert [kind for kind in verifiers.Kind if kind and f"| `{kind}` |" not in GUIDE] == []
    assert (request.LARGEST_BODY, request.LARGEST_HEADERS, request.LONGEST_QUERY) == (1 << 20, 16 << 10, 8 << 10)
    assert (inbound.PER_SECOND, quarantine.LARGEST_KEPT) == (100, 256 << 10)
    assert (quarantine.KEPT_WAITING.days, quarantine.KEPT_ENDED.days) == (90, 30)
    for limit in ("1 MiB", "16 KiB", "8 KiB", "100 requests a second", "256 KiB", "90 days", "for 30"):
        assert limit in GUIDE
