"""The command line as a newcomer meets it: real processes, real signals, files with the right modes."""

from __future__ import annotations

import asyncio
import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import grpc
import httpx2
import pytest
from click.testing import CliRunner

from core import loading
from core.__main__ import main
from core.commands.later import Later
from dripstone.v1 import enrollment_pb2, workflow_pb2
from tests import warm
from tests.chaos.server_process import ServerProcess
from tests.databases import Databases

pytestmark = pytest.mark.anyio


def _commands(group: click.Group, path: str = "dripstone") -> Iterator[tuple[str, click.Command]]:
    for name, listed in group.commands.items():
        command = listed.load() if isinstance(listed, Later) else listed
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


@pytest.mark.parametrize(("path", "command"), [pytest.param(*one, id=one[0]) for one in _commands(main)])
def test_every_command_has_one_clear_line(path: str, command: click.Command) -> None:
    listed = CliRunner().invoke(main, [*path.split()[1:-1], "--help"], env={"COLUMNS": "80"}).output
    (line,) = re.findall(rf"^  {command.name} +(.+)$", listed, re.MULTILINE)
    assert line == (command.short_help or (command.help or "").partition("\n\n")[0]).strip()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


async def _dripstone(*arguments: str, command: Sequence[str] = ()) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(command or warm.command()), *arguments,
        env=_environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, out.decode(), err.decode()


_LISTING = """
import asyncio, pathlib, sys
import core.__main__
print(*sys.modules)

from core.bootstrap import Core
from core.clock import SystemClock
from core.settings import Settings

async def turn(database, folder):
    core = await Core.open(Settings(database, pathlib.Path(folder), frozenset({"engine"})), SystemClock())
    await core.ticker.turn()
    print(*sys.modules)
    await core.stop()

asyncio.run(turn(*sys.argv[1:]))
import core.outward, core.gateway.web_server, core.rpc.methods
core.rpc.methods.table()
print(*sys.modules)
"""


def test_neither_a_command_nor_an_engine_nor_a_start_loads_what_it_can_do_without(
    databases: Databases, tmp_path: Path
) -> None:
    told = subprocess.run(
        [sys.executable, "-c", _LISTING, databases.on_sqlite(tmp_path / "dripstone.db", "migrated"), str(tmp_path)],
        env=_environment(), capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    of_a_command, of_an_engine, of_a_start = (set(line.split()) for line in told)
    assert "core.commands.keys" in of_a_command
    assert not {"grpc", "google.protobuf", "sqlalchemy", "rich", "core.bootstrap", "core.simulation"} & of_a_command
    late = {"aiohttp", "jsonschema", "mcp", "pydantic", "rich", "alembic", "matplotlib", *loading.LATE}
    of_calls = {
        "grpc",
        "prometheus_client",
        "starlette",
        "uvicorn",
        "core.outward",
        "core.rpc.pipeline",
        "core.gateway",
    }
    of_others = {"sqlalchemy.orm", "sqlalchemy.ext.asyncio", "aiosmtplib", "core.simulation", "core.engine.scheduler"}
    assert "core.engine.ticker" in of_an_engine
    assert not (late | of_calls | of_others) & of_an_engine
    assert "core.delivery.dispatcher" in of_a_start
    assert not late & of_a_start


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
    from_nothing = [sys.executable, "-m", "core"]
    for command in (from_nothing, warm.command()):  # the second time everything is there already
        code, out, err = await _dripstone(*arguments, command=command)
        assert code == 0, out + err
        assert "signature verified" in out


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


async def test_sigterm_ends_streams_and_the_process_at_once(
    tmp_path: Path, databases: Databases, anyio_backend: str
) -> None:
    server = ServerProcess(tmp_path, databases.on_sqlite(tmp_path / "dripstone.db", "migrated"))
    await server.start()
    source = "title: Pause\nsteps:\n  - {id: pause, kind: wait, for: 1h}\n"
    async with server.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="pause", source=source, publish=True)
        )
        answer = await client.enrollments.EnrollContacts(
            enrollment_pb2.EnrollContactsRequest(workflow_id="pause", contacts=[{"email": "a@example.com"}])
        )
        watched = client.enrollments.WatchEnrollment(
            enrollment_pb2.WatchEnrollmentRequest(enrollment_id=answer.enrollment_ids[0]), timeout=60
        )
        messages = aiter(watched)
        await anext(messages)
        async with asyncio.timeout(10):  # the drain itself may take 20 seconds; nothing here needs them
            assert await server.terminate() == 0
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            async for _ in messages:
                pass
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_second_core_on_the_same_data_or_the_same_port_is_told_so(
    tmp_path: Path, databases: Databases, anyio_backend: str
) -> None:
    data = databases.on_sqlite(tmp_path / "dripstone.db", "migrated")
    server = ServerProcess(tmp_path, data)
    await server.start()
    http, grpc_target = server.connection["http"].removeprefix("http://"), server.connection["grpc"]
    anywhere = ("--grpc-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0")
    for number, (where, told) in enumerate(
        (
            (("--data-dir", str(tmp_path), *anywhere), "Another core is running"),
            (("--db", data, *anywhere), "Another core is running"),
            ((*anywhere[:2], "--http-listen", http), "is another core running?"),
            (("--grpc-listen", grpc_target, *anywhere[2:]), "is another core running?"),
        )
    ):
        code, _, err = await _dripstone("serve", "--data-dir", str(tmp_path / f"second-{number}"), *where)
        assert code == 1
        assert told in err
        assert "Traceback" not in err
    assert await server.terminate() == 0


async def test_lost_keys_are_minted_again_and_an_agent_never_gets_the_service_key(
    tmp_path: Path, anyio_backend: str
) -> None:
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'dripstone.db'}")
    await server.start()
    assert await server.terminate() == 0
    (tmp_path / "connection.json").write_text("{oops")
    await server.start()
    keys = [server.connection[name] for name in ("api_key", "agent_key", "approver_api_key")]
    assert len(set(keys)) == 3
    async with httpx2.AsyncClient(headers={"Authorization": f"Bearer {keys[1]}"}) as http:
        caller = (await http.get(f"{server.connection['http']}/api/v1/caller")).json()
    assert caller["principal_kind"] == "agent"
    assert "keys:admin" not in caller["scopes"]
    assert stat.S_IMODE((tmp_path / "dripstone.db").stat().st_mode) == 0o600
    assert await server.terminate() == 0


async def test_keys_are_minted_listed_and_revoked(tmp_path: Path, databases: Databases, anyio_backend: str) -> None:
    server = ServerProcess(tmp_path, databases.on_sqlite(tmp_path / "dripstone.db", "migrated"))
    await server.start()
    where = ("--data-dir", str(tmp_path))
    code, out, err = await _dripstone("keys", "create", "Lead bot", "--json", *where)
    assert code == 0, err
    made = json.loads(out)
    assert "approvals:decide" not in made["scopes"]
    code, out, _ = await _dripstone("keys", "list", "--json", *where)
    assert made["id"] in {key["id"] for key in json.loads(out)}
    assert made["secret"] not in out
    code, out, err = await _dripstone("keys", "rotate", made["id"], "--grace", "0s", "--json", *where)
    assert code == 0, err
    assert json.loads(out)["secret"] not in ("", made["secret"])
    narrow = ("--expires-in", "90d", "--hide", "contact.phone", "--write", "contact.*", "--record-type", "contact")
    code, out, err = await _dripstone("keys", "create", "Narrow", *narrow, *where)
    assert "--hide: contact.phone\n" in out, err
    code, out, _ = await _dripstone("keys", "list", *where)
    assert made["id"] in out
    assert "until 20" in out
    code, out, _ = await _dripstone("keys", "revoke", made["id"], *where)
    assert code == 0
    for wrong, told in (
        (("create", "x", "--scope", "recordz:read"), "records:read"),
        (("revoke", "key_none"), "key_none"),
    ):
        code, _, err = await _dripstone("keys", *wrong, *where)
        assert (code, told in err, "Traceback" in err) == (1, True, False), err
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
        (["migrate", "--db", "mysql://nowhere/x"], "mysql"),
    ],
)
def test_a_command_that_cannot_work_says_why_and_the_way_out(arguments: list[str], told: str, tmp_path: Path) -> None:
    where = [] if arguments[0] == "migrate" else ["--data-dir", str(tmp_path)]
    result = CliRunner().invoke(main, [*arguments, *where])
    assert result.exit_code != 0
    assert told in result.output
    assert "Traceback" not in result.output
