"""The guide to control runs as it stands: its commands in their order against one core, its tables against the code."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from core.domain.control.key_limits import LISTS
from tests import warm
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "control.md").read_text()
COMMANDS = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
DRIPSTONE = warm.shell()

SAID = (
    '"role":"viewer"',
    '"state":"removed"',
    "Research agent",
    "the old secret works for 1 day more",
    "is revoked",
    "KEY_LIMITED",
    "it does not write contact.first_name",
    '"hidden_fields":["contact.phone"]',
    '"audience":"dripstone"',
    '"display_name":"Spring campaigns"',
    '"id":"agents-keep-owners"',
    "agents-keep-owners: did not match",
    "draft: matched",
    '"id":"two-for-projects"',
    "Do we need another one?",
    '"state":"approved"',
    '"display_name":"Autumn"',
    '"daily_limit":"100"',
    '"metric":"writes"',
)
"""What the commands say, in this order, among the rest."""


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_command_does_what_it_promises(core: RunningCore, tmp_path: Path) -> None:
    await core.core.write_connection(tmp_path / ".dripstone")
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]),
        "no_proxy": "*",
        "DRIPSTONE_HTTP": core.http_url,
        "DRIPSTONE_TARGET": core.grpc_target,
        "DRIPSTONE_API_KEY": core.api_key,
        "DRIPSTONE_APPROVER_KEY": core.approver_api_key,
    }
    process = await asyncio.create_subprocess_exec(
        "bash", "-ec", DRIPSTONE + "\necho\n".join(COMMANDS), cwd=tmp_path, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 120)
    assert process.returncode == 0, err.decode()
    rest = re.sub(r'": ', '":', out.decode())
    for told in SAID:
        assert told in rest, f"{told}\n{out.decode()}"
        rest = rest[rest.index(told) + len(told) :]
    assert "+4930123456" not in rest


def test_the_guide_names_every_limit() -> None:
    assert re.findall(r"^\| `([a-z_]+)` \| `--", GUIDE, re.MULTILINE) == list(LISTS)
