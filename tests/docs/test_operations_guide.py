"""The on-call guide runs as it stands: every block of it, in its order, against one core."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests import warm
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
FILES = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
(PROGRAM,) = re.findall(r"^<!-- example: grpc -->\n```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
BLOCKS = [
    (language, text)
    for language, text in re.findall(r"^```(bash|python)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    if text not in (PROGRAM, *(written for _, written in FILES))
]
DRIPSTONE = warm.shell()
DESK = "from desk import call\n"

SAID = (
    "renewal-desk is published: version 1, 8 changes.\n",
    "3 enrolled\n",
    "renewal-desk, all versions: 3 entered; active 3.\nstep   kind        here",
    "leads to seats; without one it goes to the end",
    "",
    "UTC: contract.ending came in, and event.fields.seats > 5 does not hold",
    "refused: output.intent must be one of interested, later, refused\n",
    "BAD_VALUE  employees: must be a whole number, not the text `many`.",
    "0 letters went on; 1 failed again.\nStill open: 1 letter.\nthat ends with 1\n",
    "",
    "1 letter went on.\n",
    "renewal-desk is paused; 3 enrollments held (pause 3).\n",
    "",
    "The workflow is paused: nothing happens before it is resumed",
    "--policy POLICY --yes\nrenewal-desk goes on after 0s.\n",
    "is cancelled, at mood.\n",
    "fragile is published: version 1, 4 changes.\n",
    "",
    "10 of the last 10 step outcomes failed; repair what failed, then resume.",
    "version 2 has no step pause; say which step it goes to",
    "3 moved, 0 stayed.\n",
    "'cool_down':",
    "competitors",
    "The contact is on competitors, which this workflow leaves out.\n",
)
"""What each block says, among the rest."""


async def _ran(core: RunningCore, folder: Path, *command: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(folder), *sys.path]),
        "no_proxy": "*",
        "DRIPSTONE_TARGET": core.grpc_target,
        "DRIPSTONE_HTTP": core.http_url,
        "DRIPSTONE_API_KEY": core.api_key,
        "DRIPSTONE_AGENT_KEY": core.agent_key,
    }
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, f"{command[-1]}\n{err.decode()}"
    await core.settle()
    return out.decode()


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_block_of_the_guide_says_what_it_promises(core: RunningCore, tmp_path: Path) -> None:
    for name, text in FILES:
        (tmp_path / name).write_text(text)
    assert len(BLOCKS) == len(SAID)
    for (language, block), told in zip(BLOCKS, SAID, strict=True):
        command = ("sh", "-ec", DRIPSTONE + block) if language == "bash" else (sys.executable, "-c", DESK + block)
        out = await _ran(core, tmp_path, *command)
        assert told in out, f"{block}\n{out}"
    out = await _ran(core, tmp_path, sys.executable, "-c", PROGRAM)
    assert "cool_down: 3 stand here, 0% failed\n" in out
    assert "WRONG_STATE: workflow renewal-desk is active" in out
