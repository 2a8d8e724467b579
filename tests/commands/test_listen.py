"""`dripstone listen` against a real core and a real receiver on this machine: what comes is signed, answers count."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import CliRunner
from standardwebhooks.webhooks import Webhook

from core.__main__ import main
from core.clock import SystemClock
from core.commands.listen import IDLE_SECONDS
from dripstone.v1 import record_pb2, webhook_pb2
from tests import warm
from tests.chaos.server_process import ServerProcess
from tests.databases import Databases
from tests.receiver import Receiver
from tests.running import RunningCore

pytestmark = pytest.mark.anyio
HERE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""With a core in this process: most tests need no clock that runs and no loop that turns."""


class Listening:
    """A `dripstone listen` under way."""

    def __init__(self, process: asyncio.subprocess.Process):
        self._process = process

    async def line(self) -> str:
        """Return the next line that it prints."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), 30)
        if not line:
            assert self._process.stderr is not None
            raise AssertionError((await self._process.stderr.read()).decode())
        return line.decode().rstrip()

    async def told(self) -> Any:
        """Return the next line as JSON."""
        return json.loads(await self.line())

    async def complaint(self) -> str:
        """Return the next line that it prints to stderr."""
        assert self._process.stderr is not None
        return (await asyncio.wait_for(self._process.stderr.readline(), 30)).decode().rstrip()

    async def stop(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """End it as Ctrl-C does; return its exit code and what it said to stderr."""
        self._process.send_signal(number)
        _, err = await asyncio.wait_for(self._process.communicate(), 30)
        return self._process.returncode or 0, err.decode()


@pytest.fixture
async def server(tmp_path: Path, databases: Databases, anyio_backend: str) -> AsyncIterator[ServerProcess]:
    started = ServerProcess(tmp_path, databases.on_sqlite(tmp_path / "dripstone.db", "migrated"))
    await started.start()
    yield started
    await started.terminate()


@asynccontextmanager
async def listening(core: ServerProcess | RunningCore, *arguments: str) -> AsyncIterator[Listening]:
    if isinstance(core, RunningCore):
        target, key = core.grpc_target, core.api_key
    else:
        target, key = core.connection["grpc"], core.connection["api_key"]
    process = await asyncio.create_subprocess_exec(
        *warm.command(), "listen", *arguments,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "DRIPSTONE_TARGET": target,
            "DRIPSTONE_API_KEY": key,
        },
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Listening(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _record(core: ServerProcess | RunningCore, email: str) -> None:
    """Make something happen: a contact is created, and every endpoint is told."""
    async with core.client() as client:
        request = record_pb2.UpsertRecordRequest(type="contact")
        request.fields.update({"email": email})
        await client.records.UpsertRecord(request)


async def _endpoints(core: RunningCore) -> list[webhook_pb2.Endpoint]:
    async with core.client() as client:
        return list((await client.webhooks.ListEndpoints(webhook_pb2.ListEndpointsRequest())).endpoints)


@HERE
async def test_what_happens_is_forwarded_signed_and_the_endpoint_goes_with_ctrl_c(
    core: RunningCore, receiver: Receiver
) -> None:
    core.clock.advance(SystemClock().now() - core.clock.now())  # whoever verifies looks at a clock of their own
    where = f"{receiver.base}/hook"
    async with listening(core, "--forward", where, "--event-type", "record.created", "--json") as listener:
        begun = await listener.told()
        (endpoint,) = await _endpoints(core)
        assert (begun["listening"], begun["forward"]) == (endpoint.id, where)
        assert (endpoint.kind, list(endpoint.event_types)) == (webhook_pb2.ENDPOINT_KIND_PULL, ["record.created"])
        await _record(core, "ada@example.com")
        told = await listener.told()
        (request,) = receiver.received
        assert (request.path, told["message_id"]) == ("/hook", request.headers["webhook-id"])
        assert (told["event_type"], told["status"], told["ok"], told["attempt"]) == ("record.created", 204, True, 1)
        verified = Webhook(begun["secret"]).verify(request.body, request.headers)
        assert verified["data"]["fields"]["email"] == "ada@example.com"
        async with core.client() as client:
            while True:  # the line is printed before the acknowledgement
                delivery = await client.webhooks.GetDelivery(
                    webhook_pb2.GetDeliveryRequest(delivery_id=told["delivery_id"])
                )
                if delivery.state == webhook_pb2.DELIVERY_STATE_DELIVERED:
                    break
        assert await listener.stop() == (0, "")
    assert await _endpoints(core) == []


@HERE
async def test_an_endpoint_whose_listener_was_killed_ends_by_itself(core: RunningCore, receiver: Receiver) -> None:
    async with listening(core, "--forward", receiver.url, "--json") as listener:
        await listener.told()
        (endpoint,) = await _endpoints(core)
        await listener.stop(warm.DIE_AT_ONCE)
    assert [one.id for one in await _endpoints(core)] == [endpoint.id]
    assert endpoint.idle_limit.ToSeconds() == IDLE_SECONDS
    left = endpoint.expire_time.ToDatetime() - endpoint.create_time.ToDatetime()
    assert left.total_seconds() == IDLE_SECONDS, "and an hour later the scheduler deletes it"


async def test_what_is_not_taken_comes_again_and_the_table_says_so(server: ServerProcess, receiver: Receiver) -> None:
    seen = 0

    async def second_time(_request: web.Request) -> web.StreamResponse:
        nonlocal seen
        seen += 1
        return web.Response(status=500 if seen == 1 else 200)

    receiver.answers["/"] = second_time
    async with listening(server, "--forward", receiver.url) as listener:
        assert (await listener.line()).startswith("Forwarding ep_")
        assert (await listener.line()).startswith("Signing secret: whsec_")
        assert await listener.line() == ""
        assert (await listener.line()).split() == ["time", "status", "ms", "event", "type", "message"]
        await _record(server, "bo@example.com")
        failed, taken = await listener.line(), await listener.line()
        assert failed.split()[1:4:2] == ["500", "record.created"]
        assert taken.split()[1:4:2] == ["200", "record.created"]
        assert taken.endswith("(attempt 2)")
        assert receiver.ids()[0] == receiver.ids()[1]
        assert await listener.stop(signal.SIGTERM) == (0, "")


@HERE
async def test_a_url_where_nobody_is_ends_nothing(core: RunningCore, receiver: Receiver) -> None:
    async with core.client() as client:
        made = await client.webhooks.CreateEndpoint(
            webhook_pb2.CreateEndpointRequest(kind=webhook_pb2.ENDPOINT_KIND_PULL)
        )
    await receiver.stop()
    async with listening(core, "--forward", receiver.url, "--endpoint", made.endpoint.id, "--json") as listener:
        assert (await listener.told())["secret"] == ""
        await _record(core, "cy@example.com")
        told = await listener.told()
        assert (told["ok"], told["status"], told["error"]) == (False, 0, "Connection refused")
        assert await listener.stop() == (0, "")
    assert [endpoint.id for endpoint in await _endpoints(core)] == [made.endpoint.id], "it was there before"


async def test_a_core_that_goes_away_is_waited_for(server: ServerProcess, receiver: Receiver) -> None:
    async with listening(server, "--forward", receiver.url, "--json") as listener:
        begun = await listener.told()
        await server.terminate()
        assert await listener.complaint() == "The core went away; waiting for it."
        code, err = await listener.stop()
        assert (code, f"{begun['listening']} could not be deleted (UNAVAILABLE)" in err) == (0, True), err
    await server.start()


@HERE
async def test_a_pushed_endpoint_cannot_be_listened_to(core: RunningCore, receiver: Receiver) -> None:
    async with core.client() as client:
        pushed = await client.webhooks.CreateEndpoint(webhook_pb2.CreateEndpointRequest(url=receiver.url))
    async with listening(core, "--forward", receiver.url, "--endpoint", pushed.endpoint.id, "--json") as listener:
        await listener.told()
        with pytest.raises(AssertionError, match="pushed to its URL"):
            await listener.line()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--forward"),
        (["--forward", "localhost:3000"], "http://localhost:3000/hook"),
        (["--forward", "http://localhost", "--endpoint", "ep_1", "--event-type", "a.b"], "leave --event-type out"),
    ],
)
def test_a_slip_is_told_with_the_way_out(arguments: list[str], told: str) -> None:
    result = CliRunner().invoke(main, ["listen", *arguments])
    assert (result.exit_code, told in result.output) == (2, True), result.output
