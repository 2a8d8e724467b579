"""The channel inside the process tells, limits, cancels and ends calls as the wire does: each test goes both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from core.domain.errors import StoreUnavailable
from core.rpc import in_process_work, pipeline
from core.rpc.in_process import InProcessChannel
from core.rpc.server import GrpcServer
from dripstone.v1 import enrollment_pb2, event_pb2, organization_pb2, record_pb2
from dripstone.v1.client import ApiError, Client, replayed
from tests.rpc.control_calls import new_key
from tests.rpc.ingestion_calls import add_source, event, status
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

GET_CALLER, WATCH = "OrganizationService.GetCaller", "EnrollmentService.WatchEnrollment"
WHO = organization_pb2.GetCallerRequest()
ANY = enrollment_pb2.WatchEnrollmentRequest(enrollment_id="enr_1")
SOON = 5.0
"""Seconds within which what must end has ended, on any machine."""


@dataclass
class Ways:
    """One method table, reached by a wire and inside the process; a test may answer for its methods."""

    server: GrpcServer
    channel: InProcessChannel
    handlers: dict[str, Any]
    clients: dict[str, Client] = field(default_factory=dict)

    def __iter__(self) -> Any:
        return iter(self.clients.items())


@pytest.fixture
async def ways(core: RunningCore) -> AsyncIterator[Ways]:
    handlers: dict[str, Any] = {}

    def handler(method: Any) -> Callable[..., Any]:
        return lambda request, call: handlers.get(method.name, method.handler)(request, call)

    methods = [replace(method, handler=handler(method)) for method in core.core.outward.methods]
    admitting = core.core.outward.pipeline
    made = Ways(GrpcServer(methods, admitting), InProcessChannel(methods, admitting), handlers)
    (port,) = await made.server.start([("127.0.0.1:0", None)])
    async with (
        Client(f"127.0.0.1:{port}", core.api_key) as wire,
        Client(made.channel, core.api_key) as inside,
    ):
        made.clients.update(wire=wire, inside=inside)
        yield made
    await made.channel.close()
    await made.server.stop(0)


def _upsert(email: str, key: str = "", **more: Any) -> record_pb2.UpsertRecordRequest:
    fields: Any = {"email": email, **more}
    return record_pb2.UpsertRecordRequest(type="contact", fields=fields, request_id=key)


async def _told(call: Awaitable[Any]) -> ApiError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await asyncio.wait_for(asyncio.ensure_future(call), SOON)
    return ApiError.of(raised.value)


REFUSED: list[tuple[str, str, Callable[[Client], Awaitable[Any]]]] = [
    ("UNAUTHENTICATED", "UNAUTHENTICATED", lambda client: client.with_key("nonsense").organization.GetCaller(WHO)),
    (
        "NOT_FOUND",
        "NOT_FOUND",
        lambda client: client.records.GetRecord(
            record_pb2.GetRecordRequest(record_id="cnt_01ke5q86009xsb9zha55anfv7g")
        ),
    ),
    (
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        lambda client: client.records.UpsertRecord(_upsert("no e-mail", emial="x")),
    ),
    (
        "INVALID_ARGUMENT",
        "INVALID_ARGUMENT",
        lambda client: client.organization.CreateMember(organization_pb2.CreateMemberRequest(email="x" * 321)),
    ),
    (
        "PERMISSION_DENIED",
        "PERMISSION_DENIED",
        lambda client: client.reading().records.UpsertRecord(_upsert("a@b.example")),
    ),
    (
        "RESOURCE_EXHAUSTED",
        "RESOURCE_EXHAUSTED",
        lambda client: client.records.UpsertRecord(_upsert("a@b.example", note="x" * (11 << 20))),
    ),
    (
        "RESOURCE_EXHAUSTED",
        "RESOURCE_EXHAUSTED",
        lambda client: client.organization.GetCaller(WHO, metadata=(("x-long", "x" * 20_000),)),
    ),
    ("NOT_FOUND", "NOT_FOUND", lambda client: client.enrollments.WatchEnrollment(ANY).read()),
    (
        "UNAUTHENTICATED",
        "UNAUTHENTICATED",
        lambda client: client.with_key("nonsense").events.StreamEvents(iter([])).read(),
    ),
]


async def test_a_refused_call_is_told_the_same(ways: Ways) -> None:
    async def asked(ask: Callable[[Client], Awaitable[Any]], client: Client) -> None:
        await ask(client)  # some refuse before there is anything to wait for

    for code, reason, ask in REFUSED:
        wire, inside = [await _told(asked(ask, client)) for _, client in ways]
        assert (inside.code, inside.reason) == (code, reason)
        assert inside.message.startswith(wire.message.split(" (")[0]) or wire.message.startswith(inside.message)
        assert replace(inside, message="") == replace(wire, message="")


async def test_an_answer_is_each_side_s_own_and_says_whether_it_was_given_before(ways: Ways) -> None:
    kept = organization_pb2.Caller(display_name="x" * (6 << 20))
    seen: list[organization_pb2.GetCallerRequest] = []
    sent_along = ContextVar("sent_along", default="")
    carried: list[str] = []

    async def answer(request: Any, call: Any) -> organization_pb2.Caller:
        seen.append(request)
        carried.append(sent_along.get())
        return kept

    sent_along.set("the caller's")
    for way, client in ways:
        first = client.records.UpsertRecord(_upsert(f"{way}@example.com", key=way))
        made = await first
        again = client.records.UpsertRecord(_upsert(f"{way}@example.com", key=way))
        assert await again == made
        assert (await replayed(first), await replayed(again)) == (False, True)
        request = organization_pb2.CreateMemberRequest(email=f"{way}@acme.example", display_name="Ann")
        request.role = organization_pb2.ROLE_EDITOR
        call = client.organization.CreateMember(request)
        if way == "inside":  # the wire's client reads it a moment later
            request.email = "changed@acme.example"
        assert (await call).email == f"{way}@acme.example"
        ways.handlers[GET_CALLER] = answer
        told = await client.organization.GetCaller(WHO)
        told.display_name = "changed"
        assert len(kept.display_name) == 6 << 20
        del ways.handlers[GET_CALLER]
    assert not any(request is WHO for request in seen)
    assert carried == ["", ""]


async def test_a_call_that_is_given_up_ends_for_its_client_and_goes_on_to_its_end(
    core: RunningCore, ways: Ways
) -> None:
    for way, client in ways:
        begun, over, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def hang(request: Any, call: Any, begun: Any = begun, over: Any = over, done: Any = done) -> Any:
            begun.set()
            await over.wait()
            done.set()
            return organization_pb2.Caller()

        ways.handlers[GET_CALLER] = hang
        late = client.organization.GetCaller(WHO, timeout=0.05)
        assert (await _told(late)).code == "DEADLINE_EXCEEDED", way
        assert (late.done(), late.cancelled(), late.cancel()) == (True, False, False)
        await begun.wait()

        call = client.organization.GetCaller(WHO)
        assert call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert (await call.code(), call.cancelled()) == (grpc.StatusCode.CANCELLED, True)

        call = client.organization.GetCaller(WHO)
        waiting = asyncio.ensure_future(call)
        asyncio.get_running_loop().call_soon(waiting.cancel)
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await call.code() is grpc.StatusCode.CANCELLED
        over.set()
        await core.core.outward.pipeline.finish(SOON)
        assert done.is_set(), "a process that goes away waits for it"

        begun.clear()
        over.clear()
        tries: list[str] = []

        async def fail(request: Any, call: Any, begun: Any = begun, over: Any = over, tries: Any = tries) -> Any:
            tries.append("call")
            begun.set()
            await over.wait()
            raise StoreUnavailable(retry_after=1.0)

        ways.handlers[GET_CALLER] = fail
        assert client.organization.GetCaller(WHO).cancel(), "before it began"
        call = client.organization.GetCaller(WHO)
        await begun.wait()
        call.cancel()
        over.set()
        await core.core.outward.pipeline.finish(SOON)
        assert tries == ["call"], way


async def test_a_call_without_a_deadline_ends_with_the_core_s_own(
    core: RunningCore, ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (pipeline, in_process_work):
        monkeypatch.setattr(module, "LONGEST_CALL_SECONDS", 0.05)
    over = asyncio.Event()

    async def hang(request: Any, call: Any) -> Any:
        await over.wait()
        return organization_pb2.Caller()

    ways.handlers[GET_CALLER] = hang
    for way, client in ways:
        told = await _told(client.organization.GetCaller(WHO))
        assert (told.reason, told.message[:31]) == ("DEADLINE_EXCEEDED", "The call took longer than 0.05 "), way
        assert told.hint, way
    over.set()
    await core.core.outward.pipeline.finish(SOON)


async def test_a_read_that_is_unavailable_is_tried_again_and_a_stream_before_its_first_answer(ways: Ways) -> None:
    for way, client in ways:
        tries: list[str] = []

        async def third(request: Any, call: Any, tries: Any = tries) -> Any:
            tries.append("call")
            if len(tries) < 3:
                raise StoreUnavailable(retry_after=1.0)
            return organization_pb2.Caller()

        async def second(request: Any, call: Any, tries: Any = tries) -> Any:
            tries.append("stream")
            if tries.count("stream") > 1:
                yield enrollment_pb2.WatchEnrollmentResponse(resume_token="1")
            raise StoreUnavailable(retry_after=1.0)

        ways.handlers.update({GET_CALLER: third, WATCH: second})
        await client.organization.GetCaller(WHO)
        watching = client.enrollments.WatchEnrollment(ANY)
        assert (await watching.read()).resume_token == "1"
        assert (await _told(watching.read())).reason == "STORE_UNAVAILABLE"
        assert tries == ["call"] * 3 + ["stream"] * 2, way


async def test_a_stream_ends_with_its_last_answer_its_deadline_its_reader_and_its_key(
    core: RunningCore, ways: Ways
) -> None:
    for way, client in ways:
        more, left = asyncio.Event(), asyncio.Event()

        async def follow(request: Any, call: Any, more: Any = more, left: Any = left) -> Any:
            try:
                for number in range(40):  # more than is read ahead
                    yield enrollment_pb2.WatchEnrollmentResponse(resume_token=str(number))
                if request.resume_token != "short":
                    await more.wait()
                    yield enrollment_pb2.WatchEnrollmentResponse(resume_token="more")
            finally:
                left.set()

        ways.handlers[WATCH] = follow
        short = enrollment_pb2.WatchEnrollmentRequest(enrollment_id="enr_1", resume_token="short")
        call = client.enrollments.WatchEnrollment(short)
        assert [piece.resume_token async for piece in call] == [str(number) for number in range(40)]
        assert (await call.code(), await call.read()) == (grpc.StatusCode.OK, grpc.aio.EOF)

        left.clear()
        call = client.enrollments.WatchEnrollment(ANY, timeout=0.3)
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            _ = [piece async for piece in call]
        assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        await asyncio.wait_for(left.wait(), SOON)

        if way == "inside":  # by the wire it ends once the collector has found the call
            left.clear()
            async for _piece in client.enrollments.WatchEnrollment(ANY):
                break  # nobody has the call any more
            await asyncio.wait_for(left.wait(), SOON)

        left.clear()
        made = await new_key(ways.clients["wire"], scopes=["enrollments:read"])
        call = client.with_key(made.secret).enrollments.WatchEnrollment(ANY)
        for _ in range(40):
            await call.read()
        await ways.clients["wire"].organization.RevokeApiKey(
            organization_pb2.RevokeApiKeyRequest(api_key_id=made.api_key.id)
        )
        core.clock.advance(timedelta(seconds=31))
        more.set()
        assert (await _told(call.read())).reason == "UNAUTHENTICATED", way
        await asyncio.wait_for(left.wait(), SOON)


async def test_both_sides_stream(ways: Ways) -> None:
    await add_source(ways.clients["wire"])

    def sent(*ids: str) -> Any:
        return iter([event_pb2.StreamEventsRequest(event=event(message_id=one)) for one in ids])

    def broken() -> Any:
        yield event_pb2.StreamEventsRequest(event=event(message_id="broken"))
        raise ValueError("the client's own")

    for way, client in ways:
        ids = [f"{way}-{number}" for number in range(40)]
        told = [answer async for answer in client.events.StreamEvents(sent(*ids, ids[0]))]
        assert [status(answer) for answer in told] == ["accepted"] * 40 + ["duplicate"]

        call = client.events.StreamEvents()
        await call.write(event_pb2.StreamEventsRequest(event=event(message_id=f"{way}-last")))
        assert status(await call.read()) == "accepted"
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        with pytest.raises(asyncio.InvalidStateError):
            await call.write(event_pb2.StreamEventsRequest())

        given_up = client.events.StreamEvents(broken())
        with pytest.raises(asyncio.CancelledError):
            _ = [answer async for answer in given_up]


async def test_a_process_that_goes_away_refuses_what_is_new_and_gives_up_what_takes_too_long(ways: Ways) -> None:
    over, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def hang(request: Any, call: Any) -> Any:
        begun.release()
        await over.wait()
        return organization_pb2.Caller()

    async def soon(request: Any, call: Any) -> Any:
        begun.release()
        await asyncio.sleep(0)
        return organization_pb2.Caller(display_name="in time")

    stops = {"wire": ways.server.stop, "inside": ways.channel.close}
    for way, client in ways:
        ways.handlers[GET_CALLER] = soon
        quick = asyncio.ensure_future(client.organization.GetCaller(WHO))
        await begun.acquire()
        ways.handlers[GET_CALLER] = hang
        slow = asyncio.ensure_future(client.organization.GetCaller(WHO))
        await begun.acquire()
        await asyncio.wait_for(stops[way](0.05), SOON)
        assert (await quick).display_name == "in time"
        assert (await _told(slow)).code == "UNAVAILABLE", way
        assert (await _told(client.organization.GetCaller(WHO))).code == "UNAVAILABLE", way
    assert ways.channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN
    over.set()


async def test_a_client_leaves_a_given_channel_open_and_cannot_send_names_of_the_process_s_own(ways: Ways) -> None:
    async with Client(ways.channel, "nonsense") as client:
        assert repr(client) == "Client('a given channel', api_key=<redacted>, deadline=10.0)"
    with pytest.raises(RuntimeError, match="async with"):
        _ = client.organization
    assert ways.channel.get_state() is grpc.ChannelConnectivity.READY
    for name in (":gateway", "X-Upper", "a b", ""):
        with pytest.raises(ValueError, match="names of metadata"):
            await ways.clients["inside"].organization.GetCaller(WHO, metadata=((name, "http"),))
