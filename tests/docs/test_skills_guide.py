"""The guide to the skills runs as it stands: its commands in their order, beside a running core."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from mcp_server import skill_pack
from tests import warm
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "skills.md").read_text()
COMMANDS = "".join(re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL))


async def test_every_command_does_what_it_promises(core: RunningCore, tmp_path: Path) -> None:
    environment = {**os.environ, "DRIPSTONE_HTTP": core.http_url, "no_proxy": "*"}
    process = await asyncio.create_subprocess_exec(
        "bash", "-ec", f"{warm.shell()}\n{COMMANDS}", cwd=tmp_path, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, complaints = (text.decode() for text in await asyncio.wait_for(process.communicate(), 60))
    assert process.returncode == 0, complaints
    pack = skill_pack.pack()
    for folder, names in {
        ".claude/skills": [*pack],
        ".agents/skills": [*pack],
        "my-agent/skills": ["dripstone", "dripstone-qualify-lead"],
    }.items():
        assert sorted(one.name for one in (tmp_path / folder).iterdir()) == names
    assert said.count(pack["dripstone"].archive_digest.removeprefix("sha256:")) == 2, "in the index, and of the archive"
    assert '"NOT_AN_ADDRESS"' in said
    assert '"2026-03-29T03:00+02:00"' in said
    assert '"held": true' in said


def test_the_guide_names_every_skill() -> None:
    assert set(re.findall(r"^\| `(dripstone[a-z-]*)` \|", GUIDE, re.MULTILINE)) == set(skill_pack.pack())
