"""What bounds pull endpoints, on both databases: bytes, streams, time without a stream; nothing turns them off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from core.domain.errors import TooManyStreams
from core.engine.scheduler import Scheduler
from core.rpc.events.stream_places import StreamPlaces
from core.rpc.webhooks import pulling as handlers
from tests.delivery.calling import Calls
from tests.delivery.consuming import Pulling, take

pytestmark = pytest.mark.anyio
OTHER_ORG = "org_other"


@pytest.fixture
async def pulling(outbox: Any, sender: Any) -> AsyncIterator[Pulling]:
    await outbox.organization(OTHER_ORG)
    async with AsyncExitStack() as opened:
        yield Pulling(outbox, Calls(outbox, sender), opened)


async def test_the_bytes_that_are_out_are_bounded_and_acknowledging_makes_room(pulling, outbox, monkeypatch):
    monkeypatch.setattr(handlers, "MOST_BYTES", 5_000)
    monkeypatch.setattr(handlers, "MOST_BYTES_AT_ONCE", 3_000)
    endpoint_id = await pulling.endpoint()
    await pulling.emit(8, data={"text": "é" * 500})  # 1,000 bytes and a little, 500 characters
    stream = await pulling.stream(endpoint_id, max_in_flight=100)
    (first,) = await take(stream)
    assert await pulling.leased() == 2, "one turn leases what fits into it"
    await take(stream, 3)
    waiting = asyncio.create_task(take(stream))
    await pulling.idle()
    assert await pulling.leased() == 4
    await pulling.ack(endpoint_id, first)
    await waiting
    assert await pulling.leased() == 4


@pytest.mark.parametrize("form", ["standard", "event"])
async def test_a_message_larger_than_the_room_goes_alone(pulling, outbox, monkeypatch, form):
    monkeypatch.setattr(handlers, "MOST_BYTES", 500)
    endpoint_id = await pulling.endpoint(payload_format=form)
    await pulling.emit(2, data={"text": "x" * 1_000})
    stream = await pulling.stream(endpoint_id)
    (first,) = await take(stream)
    second = asyncio.create_task(take(stream))
    await pulling.idle()
    assert await pulling.leased() == 1
    await pulling.ack(endpoint_id, first)
    assert (await second)[0].message_id != first.message_id


async def test_an_organization_and_a_process_have_so_many_streams_and_one_that_ends_makes_room(pulling):
    pulling.calls.parts = replace(pulling.calls.parts, streams=StreamPlaces(of_an_organization=2, of_a_process=3))
    own = await pulling.endpoint()
    other = await pulling.outbox.endpoint("", org=OTHER_ORG, kind="pull")
    await pulling.emit(3)
    for _ in range(2):
        await pulling.outbox.emit(org=OTHER_ORG)
    streams = [await pulling.stream(own, max_in_flight=1) for _ in range(3)]
    for stream in streams[:2]:
        await take(stream)
    with pytest.raises(TooManyStreams) as caught:
        await take(streams[2])
    assert (caught.value.code.value, caught.value.message) == (
        "RESOURCE_EXHAUSTED",
        "The organization has 2 streams of messages open here, which is the most that one process serves.",
    )
    await take(await pulling.stream(other, OTHER_ORG, max_in_flight=1))
    with pytest.raises(TooManyStreams, match="This process has 3"):
        await take(await pulling.stream(other, OTHER_ORG, max_in_flight=1))
    await streams[0].aclose()
    await take(await pulling.stream(other, OTHER_ORG, max_in_flight=1))


async def test_what_a_consumer_cannot_take_neither_opens_a_breaker_nor_turns_its_endpoint_off(pulling, outbox):
    endpoint_id = await pulling.endpoint(retry_delays=[1] * 20)
    await pulling.emit(12)
    stream = await pulling.stream(endpoint_id)
    for _ in range(20):
        await pulling.ack(endpoint_id, *await take(stream, 12), ok=False)
        pulling.later(days=1)
    row = await outbox.endpoint_row(endpoint_id)
    assert (row.state, row.failures, row.failing_since, row.warned_percent) == ("active", 0, None, 0)
    assert (row.gate_until, row.gate_reason) == (None, "")
    assert {one.attempt_count for one in await outbox.rows()} == {20}


async def test_a_temporary_endpoint_goes_when_nobody_streams_from_it(pulling, outbox):
    upkeep = Scheduler(outbox.database)
    minute = {"idle_seconds": 60, "expires_at": outbox.clock.now() + timedelta(seconds=60)}
    listened_to, left, lasting = [await pulling.endpoint(**values) for values in (minute, minute, {})]
    waiting = asyncio.create_task(take(await pulling.stream(listened_to)))
    await pulling.idle()
    for _ in range(4):
        pulling.later(seconds=31)
        await pulling.idle()
        await upkeep.turn()
    assert await outbox.endpoint_row(left) is None
    assert await outbox.endpoint_row(lasting) is not None
    row = await outbox.endpoint_row(listened_to)
    assert (row.expires_at, row.rev) == (outbox.clock.now() + timedelta(seconds=60), 1)
    waiting.cancel()
    outbox.clock.advance(timedelta(seconds=60))
    await upkeep.turn()
    assert await outbox.endpoint_row(listened_to) is None
