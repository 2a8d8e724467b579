"""The guide to MCP is true: its commands run, and what it shows of files is what the commands write."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from core.commands.mcp_clients import CLIENTS, Server
from tests import warm
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GUIDE = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text()
COMMANDS = re.findall(r"^```bash\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
SHOWN = re.findall(r"^```(json|toml)\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


def test_the_entries_that_it_shows_are_those_that_are_written() -> None:
    server = Server("dripstone", url="https://crm.example.com/mcp")
    read = [json.loads(text) if language == "json" else tomllib.loads(text) for language, text in SHOWN]
    snippets = [client.snippet(server) for client in CLIENTS.values()]
    assert read == [
        tomllib.loads(text) if client.is_toml else json.loads(text)
        for client, text in zip(CLIENTS.values(), snippets, strict=True)
    ]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_every_command_does_what_it_promises(core: RunningCore, tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        "bash", "-ec", warm.shell() + "\n".join(COMMANDS), cwd=tmp_path,
        env={
            **os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]), "no_proxy": "*",
            "DRIPSTONE_MCP": core.mcp_url, "DRIPSTONE_AGENT_KEY": core.agent_key,
        },
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    assert '"resultType":"complete"' in out.decode()
    for client in ("claude-code", "gemini-cli", "cursor"):
        assert "dripstone" in CLIENTS[client].file(tmp_path).read_text()
    assert not CLIENTS["vscode"].file(tmp_path).exists()
