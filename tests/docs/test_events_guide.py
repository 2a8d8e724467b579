"""The guide to events runs as it stands: every block of it, in its order, against one core."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from core.domain.records import lateness
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "events.md").read_text()
((NAME, DESK),) = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
(PROGRAM,) = re.findall(r"^<!-- example: grpc -->\n```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
BLOCKS = [text for text in re.findall(r"^```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL) if text != DESK]
SAID = re.findall(r"^```text\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


async def _ran(core: RunningCore, folder: Path, program: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "no_proxy": "*",
        "DRIPSTONE_TARGET": core.grpc_target,
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
    (tmp_path / NAME).write_text(DESK)
    assert len(BLOCKS) == len(SAID)
    for block, told in zip(BLOCKS, SAID, strict=True):
        beginning = "" if block == PROGRAM else "from desk import call, event\n"
        assert await _ran(core, tmp_path, beginning + block) == told, block


def test_the_guide_names_the_limits_that_the_code_has() -> None:
    assert (lateness.FARTHEST_AHEAD.days, lateness.LATE.seconds, lateness.LATEST_TRIGGER.days) == (1, 3600, 7)
    for limit in ("more than a day in the future", "more than an hour ago (late)", "more than 7 days ago (history)"):
        assert limit in GUIDE
