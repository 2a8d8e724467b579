"""The guide to agents runs as it stands: its commands in their order against one core."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from core.clock import SystemClock
from tests import warm
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "agents.md").read_text()
COMMANDS = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
DRIPSTONE = warm.shell()
PAUSE = "\necho turn-the-loops\nread\n"
"""Between two blocks the core's loops are turned: here time stands still unless a test moves it."""

SAID = (
    '"version":1',
    '"state":"pending_approval"',
    '"state":"used"',
    '"agent_id":"helper"',
    '"state":"claimed"',
    '"state":"answered"',
    '"state":"succeeded"',
    '"said":"Good morning, Kim!"',
    '"tokens":"2100"',
    '"logs":["Greeting Kim"]',
    '"succeeded_count":1',
    '"cost":0.1075',
    "Helper",
    "Cost: 0.1075",
    '"state":"paused"',
    "AGENT_HELD",
    '"state":"active"',
    '"state":"stopped"',
    '"revoked_key_count":1',
    "UNAUTHENTICATED",
)
"""What the commands say, in this order, among the rest."""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_command_does_what_it_promises(core: RunningCore, tmp_path: Path) -> None:
    core.clock.advance(SystemClock().now() - core.clock.now())  # `dripstone usage` asks for the last days of today
    await core.core.write_connection(tmp_path / ".dripstone")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
        "no_proxy": "*",
        "COLUMNS": "120",
        "DRIPSTONE_HTTP": core.http_url,
        "DRIPSTONE_TARGET": core.grpc_target,
        "DRIPSTONE_API_KEY": core.api_key,
        "DRIPSTONE_APPROVER_KEY": core.approver_api_key,
    }
    process = await asyncio.create_subprocess_exec(
        "bash", "-ec", DRIPSTONE + PAUSE.join(COMMANDS), cwd=tmp_path, env=environment, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdin is not None
    told = ""
    while line := (await asyncio.wait_for(process.stdout.readline(), 60)).decode():
        told += line
        if line.endswith("turn-the-loops\n"):
            await core.settle()
            process.stdin.write(b"\n")
    _, err = await process.communicate()
    assert process.returncode == 0, err.decode() + told
    rest = re.sub(r'": ', '":', told)
    for said in SAID:
        assert said in rest, f"{said}\n{told}"
        rest = rest[rest.index(said) + len(said) :]
