"""The command line as a newcomer meets it: real processes, real signals, files with the right modes."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import sys
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from core.__main__ import main
from tests.chaos.server_process import ServerProcess

pytestmark = pytest.mark.anyio


async def _dripstone(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "core", *arguments,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


async def test_the_demo_plays_the_whole_story_and_ends_with_zero(tmp_path: Path, anyio_backend: str) -> None:
    arguments = [
        "demo",
        "--exit",
        "--data-dir",
        str(tmp_path),
        "--grpc-listen",
        "127.0.0.1:0",
        "--http-listen",
        "127.0.0.1:0",
    ]
    for _ in range(2):  # the second time everything is there already
        code, out, err = await _dripstone(*arguments)
        assert code == 0, out + err
        assert "signature verified" in out
        assert "How to connect" in out


async def test_connection_json_is_for_its_owner_alone_and_keys_survive_a_restart(
    tmp_path: Path, anyio_backend: str
) -> None:
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'dripstone.db'}")
    await server.start()
    path = tmp_path / "connection.json"
    first = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(first) == {"grpc", "http", "mcp", "api_key", "agent_key", "approver_api_key"}
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {first['api_key']}"}) as http:
        assert (await http.get(f"{first['http']}/api/v1/caller")).status_code == 200
        assert (await http.get(f"{first['http']}/readyz")).status_code == 200
    assert await server.terminate() == 0
    await server.start()
    again = json.loads(path.read_text())
    assert {name: again[name] for name in ("api_key", "agent_key")} == {
        name: first[name] for name in ("api_key", "agent_key")
    }
    assert await server.terminate() == 0


async def test_a_second_core_on_the_same_port_is_told_so(tmp_path: Path, anyio_backend: str) -> None:
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'dripstone.db'}")
    await server.start()
    http, grpc = server.connection["http"].removeprefix("http://"), server.connection["grpc"]
    for taken in (("--http-listen", http, "--grpc-listen", "127.0.0.1:0"), ("--grpc-listen", grpc)):
        code, _, err = await _dripstone("serve", "--data-dir", str(tmp_path / "second"), *taken)
        assert code == 1
        assert "is another core running?" in err
        assert "Traceback" not in err
    assert await server.terminate() == 0


async def test_keys_are_minted_listed_and_revoked(tmp_path: Path, anyio_backend: str) -> None:
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'dripstone.db'}")
    await server.start()
    where = ("--data-dir", str(tmp_path))
    code, out, err = await _dripstone("keys", "create", "Lead bot", "--json", *where)
    assert code == 0, err
    made = json.loads(out)
    assert "approvals:decide" not in made["scopes"]
    code, out, _ = await _dripstone("keys", "list", "--json", *where)
    assert made["id"] in {key["id"] for key in json.loads(out)}
    assert made["secret"] not in out
    code, out, _ = await _dripstone("keys", "revoke", made["id"], *where)
    assert code == 0
    _, out, _ = await _dripstone("env", *where)
    assert f"export DRIPSTONE_TARGET={server.connection['grpc']}" in out
    assert await server.terminate() == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["serve", "--grpc-listen", "0.0.0.0:7443"], "--insecure"),
        (["serve", "--http-listen", "0.0.0.0:7480"], "--tls-cert"),
        (["serve", "--roles", "engine,cook"], "cook"),
        (["serve", "--db", "mysql://nowhere/x"], "mysql"),
        (["serve", "--http-listen", "here"], "host:port"),
        (["keys", "list"], "dripstone serve"),
    ],
)
def test_a_command_that_cannot_work_says_why_and_the_way_out(arguments: list[str], told: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, [*arguments, "--data-dir", str(tmp_path)])
    assert result.exit_code != 0
    assert told in result.output
    assert "Traceback" not in result.output
