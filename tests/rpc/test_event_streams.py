"""Events that a client sends as they come: answered once they are committed, in bounds, and ended cleanly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from core.domain.errors import Unauthenticated
from core.rpc.admission.limits import RateLimiter
from core.rpc.client_stream import MOST_AT_ONCE, ClientStream
from dripstone.v1 import event_pb2 as pb
from dripstone.v1 import organization_pb2, policy_pb2
from dripstone.v1.client import ApiError, Client
from tests.rpc.control_calls import refused
from tests.rpc.ingestion_calls import add_source, event, status, stored
from tests.running import RunningCore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def client(core: RunningCore) -> AsyncIterator[Client]:
    async with core.client() as opened:
        await add_source(opened)
        yield opened


def requests(events: Iterable[pb.EventInput]) -> Iterator[pb.StreamEventsRequest]:
    return iter([pb.StreamEventsRequest(event=one) for one in events])


async def answers(call: Any) -> list[pb.IngestResult]:
    return [answer async for answer in call]


async def test_every_event_is_answered_in_order_and_judged_by_itself(core: RunningCore, client: Client) -> None:
    sent = [
        event(email="ada@example.com", message_id="m1"),
        event(email="nobody"),
        event(email="ada@example.com", message_id="m1"),
        event(source_id="forn"),
        event(event_type="leed"),
        event(name="", email="bob@example.com"),
        event(email="bob@example.com"),
    ]
    told = await answers(client.events.StreamEvents(requests(sent)))
    assert [answer.index for answer in told] == list(range(7))
    assert [(status(answer), answer.reason, answer.field) for answer in told] == [
        ("accepted", "", ""),
        ("rejected", "INVALID_EMAIL", "fields.email"),
        ("duplicate", "", ""),
        ("rejected", "UNKNOWN_SOURCE", "source_id"),
        ("rejected", "UNKNOWN_EVENT_TYPE", "event_type"),
        ("rejected", "REQUIRED", "event_name"),
        ("accepted", "", ""),
    ]
    assert told[2].event_id == told[0].event_id
    assert await stored(core) == 2


async def test_an_event_is_answered_while_the_stream_is_open(core: RunningCore, client: Client) -> None:
    call = client.events.StreamEvents()
    for number in range(3):
        await call.write(pb.StreamEventsRequest(event=event(message_id=f"m{number}")))
        answer = await call.read()
        assert isinstance(answer, pb.IngestResult)
        assert (answer.index, status(answer)) == (number, "accepted")
        assert await stored(core) == number + 1
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK


@pytest.mark.both_databases
async def test_many_events_are_each_answered_once(core: RunningCore, client: Client) -> None:
    count = 2 * MOST_AT_ONCE + 44
    sent = [event(message_id=f"m{number}", person_id=f"P{number % 7}") for number in range(count)]
    told = await answers(client.events.StreamEvents(requests(sent)))
    assert [answer.index for answer in told] == list(range(count))
    assert {status(answer) for answer in told} == {"accepted"}
    assert len({answer.event_id for answer in told}) == count == await stored(core)
    again = await answers(client.events.StreamEvents(requests(sent)))
    assert {status(answer) for answer in again} == {"duplicate"}
    assert [answer.event_id for answer in again] == [answer.event_id for answer in told]
    assert await stored(core) == count


async def test_a_stream_without_events_ends_well(client: Client) -> None:
    assert await answers(client.events.StreamEvents(iter([]))) == []


async def test_a_draining_core_ends_the_stream_and_what_was_not_answered_is_sent_again(
    core: RunningCore, client: Client
) -> None:
    call = client.events.StreamEvents()
    await call.write(pb.StreamEventsRequest(event=event(message_id="m1")))
    assert status(await call.read()) == "accepted"  # type: ignore[arg-type]
    core.core.parts.draining.set()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() == grpc.StatusCode.OK
    assert await stored(core) == 1


async def test_who_has_no_key_or_no_scope_sends_nothing(core: RunningCore, client: Client) -> None:
    made = await client.organization.CreateApiKey(
        organization_pb2.CreateApiKeyRequest(
            display_name="Reader", principal_kind=organization_pb2.PRINCIPAL_KIND_SERVICE, scopes=["events:read"]
        )
    )
    for key, reason in (("nonsense", "UNAUTHENTICATED"), (made.secret, "SCOPE_MISSING")):
        async with core.client(key) as other:
            # Many at once, so that some still write when they are refused: they are told why all the same.
            calls = [answers(other.events.StreamEvents(requests([event()] * (number % 20)))) for number in range(60)]
            refusals = await asyncio.gather(*calls, return_exceptions=True)
        assert {ApiError.of(refusal).reason for refusal in refusals} == {reason}  # type: ignore[arg-type]
    assert await stored(core) == 0


async def test_a_key_that_is_revoked_meanwhile_sends_no_more(core: RunningCore, client: Client) -> None:
    made = await client.organization.CreateApiKey(
        organization_pb2.CreateApiKeyRequest(
            display_name="Sender", principal_kind=organization_pb2.PRINCIPAL_KIND_SERVICE, scopes=["events:write"]
        )
    )
    async with core.client(made.secret) as sender:
        call = sender.events.StreamEvents()
        await call.write(pb.StreamEventsRequest(event=event(message_id="m1")))
        assert status(await call.read()) == "accepted"  # type: ignore[arg-type]
        await client.organization.RevokeApiKey(organization_pb2.RevokeApiKeyRequest(api_key_id=made.api_key.id))
        core.clock.advance(timedelta(seconds=31))
        await call.write(pb.StreamEventsRequest(event=event(message_id="m2")))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
    assert ApiError.of(refused.value).reason == "UNAUTHENTICATED"
    assert await stored(core) == 1


async def test_bytes_that_are_no_event_end_the_stream_and_say_so(core: RunningCore, client: Client) -> None:
    async with grpc.aio.insecure_channel(core.grpc_target) as channel:
        method: Any = channel.stream_stream(
            "/dripstone.v1.EventService/StreamEvents", response_deserializer=pb.IngestResult.FromString
        )
        call = method(iter([b"\xff\xff\xff"]), metadata=(("authorization", f"Bearer {core.api_key}"),))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await answers(call)
    assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_client_that_goes_away_leaves_the_stream_s_work_done_or_undone(
    core: RunningCore, client: Client
) -> None:
    call = client.events.StreamEvents()
    await call.write(pb.StreamEventsRequest(event=event(message_id="m1")))
    assert status(await call.read()) == "accepted"  # type: ignore[arg-type]
    call.cancel()
    told = await answers(client.events.StreamEvents(requests([event(message_id="m1"), event(message_id="m2")])))
    assert [status(answer) for answer in told] == ["duplicate", "accepted"]
    assert await stored(core) == 2


class Sent:
    """Messages that come when the test says so, and how many were asked for."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[pb.StreamEventsRequest | None] = asyncio.Queue()
        self.read = 0

    def __aiter__(self) -> Sent:
        return self

    async def __anext__(self) -> pb.StreamEventsRequest:
        message = await self.queue.get()
        if message is None:
            raise StopAsyncIteration
        self.read += 1
        return message


def _put(sent: Sent, count: int, size: int = 0) -> None:
    for number in range(count):
        sent.queue.put_nowait(pb.StreamEventsRequest(event=event(message_id=f"m{number}", blob="x" * size)))


async def _admitted() -> None:
    return None


async def test_no_more_is_read_than_a_batch_and_what_is_there_is_handed_out_together() -> None:
    sent = Sent()
    _put(sent, 3 * MOST_AT_ONCE)
    sent.queue.put_nowait(None)
    sizes, ahead = [], []
    taken = 0
    async for batch in ClientStream(sent, _admitted, asyncio.Event()).batches():
        sizes.append(len(batch))
        taken += len(batch)
        for _ in range(2 * MOST_AT_ONCE):
            await asyncio.sleep(0)
        ahead.append(sent.read - taken)
    assert (taken, max(sizes)) == (3 * MOST_AT_ONCE, MOST_AT_ONCE)
    assert max(ahead) == MOST_AT_ONCE


async def test_large_messages_are_read_ahead_by_their_bytes() -> None:
    sent = Sent()
    _put(sent, 40, size=200_000)
    sent.queue.put_nowait(None)
    sizes = [len(batch) async for batch in ClientStream(sent, _admitted, asyncio.Event()).batches()]
    assert sum(sizes) == 40
    assert max(sizes) <= 22


async def test_a_batch_that_is_not_admitted_is_not_handed_out() -> None:
    async def refuse() -> None:
        raise Unauthenticated()

    sent = Sent()
    _put(sent, 1)
    batches = ClientStream(sent, refuse, asyncio.Event()).batches()
    with pytest.raises(Unauthenticated):
        await anext(batches)


async def test_what_was_read_before_the_end_is_still_handed_out() -> None:
    sent, draining = Sent(), asyncio.Event()
    _put(sent, 2)
    batches = ClientStream(sent, _admitted, draining).batches()
    assert len(await anext(batches)) >= 1
    draining.set()
    rest = [len(batch) async for batch in batches]
    assert sent.read == 2
    assert sum(rest) <= 1


async def test_who_sends_faster_than_the_limit_is_slowed_down_and_not_refused(
    core: RunningCore, client: Client
) -> None:
    pipeline: Any = core.core.outward.pipeline
    pipeline.limiter = RateLimiter(core.clock, 10)  # twenty at once, then ten a second
    call = client.events.StreamEvents()  # takes one of the twenty
    for number in range(19):
        await call.write(pb.StreamEventsRequest(event=event(message_id=f"m{number}")))
        assert status(await call.read()) == "accepted"  # type: ignore[arg-type]
    await call.write(pb.StreamEventsRequest(event=event(message_id="late")))
    waiting = asyncio.ensure_future(call.read())
    done, _ = await asyncio.wait([waiting], timeout=0.3)
    assert not done
    assert await stored(core) == 19
    core.clock.advance(timedelta(seconds=1))
    assert status(await waiting) == "accepted"  # type: ignore[arg-type]
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def test_each_batch_of_a_stream_is_judged_by_policies_as_a_call_with_its_events(
    core: RunningCore, client: Client
) -> None:
    policy = policy_pb2.Policy(
        id="names", description="Names stay", effect=policy_pb2.POLICY_EFFECT_DENY, enabled=True,
        methods=["EventService.StreamEvents"], when='"first_name" in action.fields',
    )  # fmt: skip
    await client.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=policy))
    plain, naming = event(email="ada@example.com"), event(email="ada@example.com")
    naming.fields.update({"first_name": "Eve"})
    assert [status(one) for one in await answers(client.events.StreamEvents(requests([plain])))] == ["accepted"]
    with refused("POLICY_DENIED"):
        await answers(client.events.StreamEvents(requests([naming])))
    policy.effect = policy_pb2.POLICY_EFFECT_NEEDS_APPROVAL
    await client.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=policy))
    with refused("POLICY_DENIED"):  # a stream cannot wait for an approval of some of its events
        await answers(client.events.StreamEvents(requests([naming])))


async def test_a_stream_that_writes_more_records_than_its_budget_is_ended(core: RunningCore, client: Client) -> None:
    budget = policy_pb2.Budget(principal_id="service", metric="records", daily_limit=1)
    await client.approvals.SetBudget(policy_pb2.SetBudgetRequest(budget=budget))
    before = await stored(core)
    sent = [event(email=f"person{number}@example.com", message_id=f"m{number}") for number in range(5)]
    with refused("BUDGET_EXHAUSTED"):
        await answers(client.events.StreamEvents(requests(sent)))
    assert await stored(core) <= before + 1
