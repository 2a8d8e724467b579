"""The on-call guide runs as it stands: every block of it, in its order, against one core."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.running import RunningCore

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="the guide needs curl and jq"),
]

GUIDE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
FILES = re.findall(r"^<!-- file: (\S+) -->\n```\w+\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
(PRELUDE,) = re.findall(r"^<!-- prelude -->\n```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
BLOCKS = [block for block in re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL) if block != PRELUDE]
(PROGRAM,) = re.findall(r"^<!-- example: grpc -->\n```python\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
DRIPSTONE = f'dripstone() {{ "{sys.executable}" -m core "$@"; }}\n'

SAID = (
    'renewal-desk is published: version 1, 8 changes.\n3\n',
    '{"active":3}\n["mood",3,{},0]\n',
    "leads to seats; without one it goes to the end",
    "event.fields.seats > 5 does not hold (event.fields.seats is 3).",
    "refused: output.intent: 'maybe' is not one of",
    '["open","seats","BAD_VALUE","employees: must be a whole number, not the text `many`."]\n',
    '[true,"active"]\n',
    "The workflow is paused: nothing happens before it is resumed",
    '["run_overdue",1,0]\n["shift",1,3]\n["skip_overdue",1,0]\n"active"\n',
    "12\npaused\n10 of the last 10 step outcomes failed; repair what failed, then resume.\n",
    '["pause","stays",3,"version 2 has no step pause; say which step it goes to"]\n',
    "[4,0]\n",
    '"cool_down":',
    "The contact is on competitors, which this workflow leaves out.\n",
)  # fmt: skip
"""What each block says, among the rest."""


async def _ran(core: RunningCore, folder: Path, *command: str) -> str:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
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
    for block, told in zip(BLOCKS, SAID, strict=True):
        out = await _ran(core, tmp_path, "sh", "-ec", DRIPSTONE + PRELUDE + block)
        assert told in out, f"{block}\n{out}"
    out = await _ran(core, tmp_path, sys.executable, "-c", PROGRAM)
    assert "mood: 1 stand here, 0% failed\n" in out
    assert "WRONG_STATE: workflow renewal-desk is active" in out
