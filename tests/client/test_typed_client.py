"""The typed client: forwards its key, has a deadline, retries without acting twice, decodes errors, finds its core."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_status import rpc_status

from core.domain import errors
from core.domain.nearest import meant
from core.rpc.errors import to_status
from dripstone.v1 import enrollment_pb2, organization_pb2, organization_pb2_grpc, record_pb2, record_pb2_grpc
from dripstone.v1.client import (
    ApiError,
    Client,
    FieldViolation,
    NotConnected,
    find_connection,
    from_environment,
    is_loopback,
    replayed,
    service_config,
    tls_for,
)

pytestmark = pytest.mark.anyio

Handler = Callable[[Any, Any], Awaitable[Any]]


class Core(record_pb2_grpc.RecordServiceServicer, organization_pb2_grpc.OrganizationServiceServicer):
    """A server that answers as the test says and remembers what it was sent."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self.answer: Handler = self.whoever
        self.target = ""

    @staticmethod
    async def whoever(request: Any, context: Any) -> Any:
        return organization_pb2.Caller(organization_id="org_1")

    async def _serve(self, request: Any, context: Any) -> Any:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        return await self.answer(request, context)

    async def GetCaller(self, request: Any, context: Any) -> Any:
        return await self._serve(request, context)

    async def UpdateRecord(self, request: Any, context: Any) -> Any:
        return await self._serve(request, context)


@pytest.fixture
async def core(anyio_backend: str) -> AsyncIterator[Core]:
    core, server = Core(), grpc.aio.server()
    record_pb2_grpc.add_RecordServiceServicer_to_server(core, server)
    organization_pb2_grpc.add_OrganizationServiceServicer_to_server(core, server)
    core.target = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield core
    await server.stop(None)


@pytest.fixture
async def client(core: Core) -> AsyncIterator[Client]:
    async with Client(core.target, "dripstone_live_secret", deadline=5.0) as client:
        yield client


async def get_caller(client: Client, **options: Any) -> organization_pb2.Caller:
    return await client.organization.GetCaller(organization_pb2.GetCallerRequest(), **options)


async def test_every_call_carries_the_key_and_a_deadline(core: Core, client: Client) -> None:
    left: list[float] = []

    async def answer(request: Any, context: Any) -> Any:
        left.append(context.time_remaining())
        return organization_pb2.Caller()

    core.answer = answer
    await get_caller(client)
    await get_caller(client, timeout=1.0, metadata=(("x-request-id", "req_1"),))
    assert [seen["authorization"] for seen in core.metadata] == ["Bearer dripstone_live_secret"] * 2
    assert core.metadata[1]["x-request-id"] == "req_1"
    assert 4 < left[0] <= 5
    assert left[1] < 2


async def test_several_keys_share_one_channel(core: Core, client: Client) -> None:
    await get_caller(client.with_key("dripstone_live_other"))
    await get_caller(client.with_key(None))
    assert [seen.get("authorization") for seen in core.metadata] == ["Bearer dripstone_live_other", None]


def test_the_key_is_not_in_the_client_s_repr() -> None:
    assert repr(Client("127.0.0.1:1", "dripstone_live_secret")) == (
        "Client('127.0.0.1:1', api_key=<redacted>, deadline=10.0)"
    )


async def test_an_unavailable_core_is_tried_again(core: Core, client: Client) -> None:
    async def third_time_lucky(request: Any, context: Any) -> Any:
        if len(core.requests) < 3:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "not yet")
        return record_pb2.UpdateRecordResponse()

    core.answer = third_time_lucky
    await client.records.UpdateRecord(record_pb2.UpdateRecordRequest(record_id="cnt_1"))
    ids = {request.request_id for request in core.requests}
    assert len(core.requests) == 3
    assert len(ids) == 1  # one id for every try: the core acts once
    assert ids.pop().startswith("auto-")


async def test_an_idempotency_key_and_a_dry_run_are_left_as_they_are(core: Core, client: Client) -> None:
    async def done(request: Any, context: Any) -> Any:
        return record_pb2.UpdateRecordResponse()

    core.answer = done
    mine = record_pb2.UpdateRecordRequest(record_id="cnt_1", request_id="mine")
    dry = record_pb2.UpdateRecordRequest(record_id="cnt_1", validate_only=True)
    bare = record_pb2.UpdateRecordRequest(record_id="cnt_1")
    for request in (mine, dry, bare):
        await client.records.UpdateRecord(request)
    assert core.requests[:2] == [mine, dry]
    assert core.requests[2].request_id
    assert not bare.request_id


async def test_a_deadline_ends_a_call(core: Core, client: Client) -> None:
    never = asyncio.Event()

    async def hang(request: Any, context: Any) -> Any:
        await never.wait()

    core.answer = hang
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await get_caller(client, timeout=0.05)
    assert client.error(raised.value).code == "DEADLINE_EXCEEDED"


def test_only_calls_that_cannot_act_twice_are_retried() -> None:
    (config,) = json.loads(service_config())["methodConfig"]
    retried = {name["method"] for name in config["name"]}
    assert {"GetRecord", "EnrollContacts", "Execute", "WatchEnrollment"} <= retried
    assert "TestEndpoint" not in retried  # calls the outside world


async def test_an_error_is_decoded_with_reason_violations_and_the_way_out(core: Core, client: Client) -> None:
    async def refuse(request: Any, context: Any) -> Any:
        error = errors.Invalid(errors.Violation("fields.tire", "UNKNOWN_FIELD", "is not a field.", meant("tier")))
        await context.abort_with_status(rpc_status.to_status(to_status(error)))

    core.answer = refuse
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await get_caller(client)
    summary = "fields.tire: is not a field."
    assert client.error(raised.value) == ApiError(
        code="INVALID_ARGUMENT",
        reason="INVALID_ARGUMENT",
        message=f"The request is not well formed: {summary}",
        hint="Correct the named fields and call again.",
        violations=(FieldViolation("fields.tire", "UNKNOWN_FIELD", "is not a field. Did you mean tier?", "tier"),),
        variables={"summary": summary},
    )


async def test_an_error_says_how_long_to_wait(core: Core, client: Client) -> None:
    async def refuse(request: Any, context: Any) -> Any:
        error = errors.RateLimited(limit=50, retry_after=1.5)
        await context.abort_with_status(rpc_status.to_status(to_status(error)))

    core.answer = refuse
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await get_caller(client)
    told = client.error(raised.value)
    assert (told.reason, told.retry_after) == ("RATE_LIMITED", 1.5)


async def test_an_error_without_details_keeps_its_status(core: Core, client: Client) -> None:
    async def refuse(request: Any, context: Any) -> Any:
        await context.abort(grpc.StatusCode.NOT_FOUND, "nothing here")

    core.answer = refuse
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await get_caller(client)
    assert client.error(raised.value) == ApiError("NOT_FOUND", "NOT_FOUND", "nothing here")


async def test_a_replayed_answer_says_so(core: Core, client: Client) -> None:
    async def again(request: Any, context: Any) -> Any:
        context.set_trailing_metadata((("dripstone-replayed", "true"),))
        return organization_pb2.Caller()

    first = client.organization.GetCaller(organization_pb2.GetCallerRequest())
    await first
    core.answer = again
    second = client.organization.GetCaller(organization_pb2.GetCallerRequest())
    await second
    assert [await replayed(first), await replayed(second)] == [False, True]


async def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        Client("127.0.0.1:1", "k").enrollments.EnrollContacts(enrollment_pb2.EnrollContactsRequest())


TARGETS = [
    ("127.0.0.1:50051", True),
    ("localhost:50051", True),
    ("[::1]:50051", True),
    ("ipv4:127.0.0.1:50051", True),
    ("ipv6:[::1]:50051", True),
    ("dns:///localhost:50051", True),
    ("unix:/run/dripstone.sock", True),
    ("10.0.0.1:50051", False),
    ("crm.example.com:443", False),
    ("dns://8.8.8.8/crm.example.com:443", False),
    ("dns://6.6.6.6/localhost:1", False),
    ("127.0.0.1:1@evil.example.com", False),
    ("localhost:1@evil.example.com:1", False),
    ("localhost.example.com:443", False),
]


@pytest.mark.parametrize(("target", "here"), TARGETS)
def test_a_key_travels_unencrypted_only_on_this_machine(
    target: str, here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_loopback(target) == here
    assert tls_for(target) is (None if here else True)
    if here:
        Client(target, "k")
        return
    with pytest.raises(ValueError, match="is not a loopback address"):
        Client(target, "k")
    Client(target, "k", tls=True)
    monkeypatch.setenv("DRIPSTONE_INSECURE", "1")
    Client(target, "k")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    for name in ("TARGET", "API_KEY", "DATA_DIR", "INSECURE", "CA_FILE"):
        monkeypatch.delenv(f"DRIPSTONE_{name}", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    monkeypatch.chdir(tmp_path)
    return monkeypatch


def write_connection(folder: Path, port: int) -> None:
    folder.mkdir(parents=True)
    content = {"grpc": f"127.0.0.1:{port}", "http": "http://127.0.0.1:1", "mcp": "", "api_key": f"key{port}", "new": 1}
    (folder / "connection.json").write_text(json.dumps(content))
    (folder / "connection.json").chmod(0o600)


async def test_the_nearest_connection_file_is_used(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(NotConnected, match="no core found"):
        from_environment()
    write_connection(tmp_path / "share" / "dripstone", 1)
    assert from_environment().target == "127.0.0.1:1"
    write_connection(tmp_path / ".dripstone", 2)
    assert from_environment().target == "127.0.0.1:2"
    write_connection(tmp_path / "elsewhere", 3)
    environment.setenv("DRIPSTONE_DATA_DIR", str(tmp_path / "elsewhere"))
    found = find_connection()
    assert found is not None
    assert (found.grpc, found.api_key) == ("127.0.0.1:3", "key3")
    assert "key3" not in repr(found)


async def test_a_stored_key_is_not_sent_to_another_core(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    write_connection(tmp_path / ".dripstone", 2)
    environment.setenv("DRIPSTONE_TARGET", "127.0.0.1:9")
    with pytest.raises(NotConnected, match=r"no API key for 127\.0\.0\.1:9"):
        from_environment()
    environment.setenv("DRIPSTONE_API_KEY", "mine")
    assert from_environment().target == "127.0.0.1:9"
    environment.delenv("DRIPSTONE_TARGET")
    assert from_environment()._api_key == "key2", "nor is one's own sent to whoever stands in the folder"
    environment.setenv("DRIPSTONE_DATA_DIR", ".dripstone")
    assert from_environment()._api_key == "mine"
    (tmp_path / ".dripstone" / "connection.json").chmod(0o666)
    with pytest.raises(NotConnected, match="others may write it"):
        from_environment()


async def test_a_connection_file_that_cannot_be_read_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".dripstone").mkdir()
    (tmp_path / ".dripstone" / "connection.json").write_text("{")
    (tmp_path / ".dripstone" / "connection.json").chmod(0o600)
    with pytest.raises(NotConnected, match=r"connection\.json cannot be read"):
        from_environment()
