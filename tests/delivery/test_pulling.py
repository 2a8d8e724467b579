"""Pull endpoints on both databases: messages handed out under leases and acknowledged; time is turned by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from core import provisioning
from core.domain.enrollment import DeliveryEnded
from core.domain.errors import EndpointNotPull, GoingAway, Invalid, NotFound, Unauthenticated
from core.domain.webhooks import signing
from core.domain.webhooks.retry import DELAYS, Preset
from core.store.control import usage
from core.store.metadata import day_of
from core.store.organizations import api_keys
from core.store.webhooks import endpoints
from tests.delivery.calling import Calls
from tests.delivery.conftest import ORG, SECRET
from tests.delivery.consuming import Pulling, take

pytestmark = pytest.mark.anyio
OTHER_ORG = "org_other"


@pytest.fixture
async def pulling(outbox: Any, sender: Any) -> AsyncIterator[Pulling]:
    await outbox.organization(OTHER_ORG)
    async with AsyncExitStack() as opened:
        yield Pulling(outbox, Calls(outbox, sender), opened)


async def test_a_message_comes_signed_as_a_push_endpoint_would_get_it(pulling, outbox):
    endpoint_id = await pulling.endpoint(headers={"X-Team": "sales"})
    (message_id,) = await pulling.emit(data={"name": "Zoë"})
    (message,) = await take(await pulling.stream(endpoint_id))
    assert (message.message_id, message.event_type, message.attempt, message.sequence) == (message_id, "deal.won", 1, 1)
    assert json.loads(message.payload)["data"] == {"name": "Zoë"}
    signing.verify(SECRET, dict(message.headers), message.payload.encode(), outbox.clock.now())
    told = {name: message.headers[name] for name in ("content-type", "webhook-id", "webhook-sequence", "X-Team")}
    assert told == {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-sequence": "1",
        "X-Team": "sales",
    }


async def test_an_acknowledged_message_is_delivered_and_comes_no_more(pulling, outbox):
    endpoint_id = await pulling.endpoint()
    await pulling.emit()
    (message,) = await take(await pulling.stream(endpoint_id))
    outbox.clock.advance(timedelta(seconds=3))
    answer = await pulling.ack(endpoint_id, message)
    assert (answer.acknowledged_count, list(answer.stale_delivery_ids)) == (1, [])
    row = await outbox.only()
    assert (row.state, row.attempt_count, row.last_outcome, row.lease_token) == ("delivered", 1, "delivered", None)
    (attempt,) = await outbox.attempts(row.id)
    assert (attempt.number, attempt.outcome, attempt.status_code, attempt.error) == (1, "delivered", 0, "")
    assert 2_990_000 < attempt.duration_us < 3_010_000
    again = await pulling.ack(endpoint_id, message)
    assert (again.acknowledged_count, list(again.stale_delivery_ids)) == (0, [message.delivery_id])
    assert len(await outbox.attempts(row.id)) == 1
    async with outbox.database.read(ORG) as tx:
        (used,) = await usage.lines(tx, ORG, usage.PRINCIPAL, day_of(tx.now), day_of(tx.now))
    assert used.counts == {"streamed": 1}


async def test_messages_that_come_later_wake_the_stream(pulling, outbox):
    endpoint_id = await pulling.endpoint()
    waiting = asyncio.create_task(take(await pulling.stream(endpoint_id)))
    await pulling.idle()
    (message_id,) = await pulling.emit()
    assert [one.message_id for one in await waiting] == [message_id]


async def test_two_consumers_share_an_endpoint_and_never_a_message(pulling, outbox):
    endpoint_id = await pulling.endpoint()
    made = await pulling.emit(20)
    streams = [await pulling.stream(endpoint_id, max_in_flight=10) for _ in range(2)]
    first, second = await asyncio.gather(*(take(stream, 10) for stream in streams))
    assert sorted(one.message_id for one in first + second) == sorted(made)


async def test_what_is_not_acknowledged_comes_again_after_its_lease_and_the_late_one_is_fenced_off(pulling, outbox):
    endpoint_id = await pulling.endpoint()
    await pulling.emit()
    stream = await pulling.stream(endpoint_id, lease=Duration(seconds=20))
    (late,) = await take(stream)
    pulling.later(seconds=20)
    (again,) = await take(stream)
    assert (again.delivery_id, again.attempt) == (late.delivery_id, 1)
    assert again.lease_token != late.lease_token
    assert (await pulling.ack(endpoint_id, late)).acknowledged_count == 0
    assert (await outbox.only()).state == "pending"
    assert (await pulling.ack(endpoint_id, again)).acknowledged_count == 1


async def test_an_acknowledgement_after_the_lease_records_nothing(pulling, outbox):
    endpoint_id = await pulling.endpoint()
    await pulling.emit()
    (message,) = await take(await pulling.stream(endpoint_id))
    outbox.clock.advance(timedelta(seconds=30))
    assert list((await pulling.ack(endpoint_id, message)).stale_delivery_ids) == [message.delivery_id]
    assert not await outbox.attempts(message.delivery_id)


async def test_what_a_consumer_cannot_take_is_tried_again_on_the_endpoints_schedule(pulling, outbox):
    endpoint_id = await pulling.endpoint(retry_preset="quick")
    await pulling.emit()
    stream = await pulling.stream(endpoint_id)
    for number, delay in enumerate((*DELAYS[Preset.QUICK], None), 1):
        (message,) = await take(stream)
        assert (message.attempt, message.message_id) == (number, (await outbox.only()).message_id)
        assert (await pulling.ack(endpoint_id, message, ok=False, error="no room")).acknowledged_count == 1
        row = await outbox.only()
        if delay is not None:
            assert timedelta(0) < row.due_at - outbox.clock.now() <= delay * 1.2
            pulling.later(seconds=delay.total_seconds() * 1.2)
    assert (row.state, row.attempt_count, row.last_outcome) == ("failed", 5, "not_taken")
    assert {attempt.error for attempt in await outbox.attempts(row.id)} == {"no room"}


async def test_an_enrollment_that_waits_is_told_as_with_push(pulling, outbox):
    endpoint_id = await pulling.endpoint(retry_preset="quick")
    taken, refused = await pulling.emit(2, awaited=True)
    stream = await pulling.stream(endpoint_id)
    first, second = await take(stream, 2)
    await pulling.ack(endpoint_id, first)
    assert pulling.calls.engine.told == [(ORG, "enr_1", DeliveryEnded(taken, True, "delivered", 0, None))]
    for _ in DELAYS[Preset.QUICK]:
        await pulling.ack(endpoint_id, second, ok=False)
        pulling.later(seconds=30)
        (second,) = await take(stream)
    await pulling.ack(endpoint_id, second, ok=False)
    assert pulling.calls.engine.told[1:] == [(ORG, "enr_1", DeliveryEnded(refused, False, "not_taken", 0, None))]


async def test_no_more_are_out_than_a_consumer_asked_for_and_acknowledging_makes_room(pulling, outbox):
    endpoint_id = await pulling.endpoint()
    await pulling.emit(5)
    stream = await pulling.stream(endpoint_id, max_in_flight=2)
    first, second = await take(stream, 2)
    assert await pulling.leased() == 2
    third = asyncio.create_task(take(stream))
    await pulling.ack(endpoint_id, first)
    await third
    assert await pulling.leased() == 2
    assert second.delivery_id in {row.id for row in await outbox.rows() if row.lease_token}


async def test_messages_of_one_contact_come_one_after_the_other(pulling, outbox):
    endpoint_id = await pulling.endpoint(ordering="by_contact")
    for contact in ("cnt_1", "cnt_1", "cnt_2"):
        await pulling.emit(data={"contact_id": contact})
    stream = await pulling.stream(endpoint_id)
    first, other = await take(stream, 2)
    assert [one.sequence for one in (first, other)] == [1, 2]
    await pulling.ack(endpoint_id, other)
    await pulling.ack(endpoint_id, first, ok=False)
    assert await pulling.leased() == 0, "what failed holds up those after it"
    pulling.later(minutes=1)
    (first,) = await take(stream)
    await pulling.ack(endpoint_id, first)
    assert [one.sequence for one in await take(stream)] == [3]


async def test_the_bytes_of_an_endpoints_own_form_are_what_is_signed_and_handed_out(pulling, outbox):
    endpoint_id = await pulling.endpoint(payload_format="event")
    await pulling.emit()
    (message,) = await take(await pulling.stream(endpoint_id))
    assert json.loads(message.payload)["event"] == "deal.won"
    signing.verify(SECRET, dict(message.headers), message.payload.encode(), outbox.clock.now())


@pytest.mark.parametrize("state", ["paused", "disabled"])
async def test_an_endpoint_that_is_not_active_hands_nothing_out_until_it_is(pulling, outbox, state):
    endpoint_id = await pulling.endpoint()
    await pulling.emit()
    await _change(outbox, endpoint_id, state=state)
    waiting = asyncio.create_task(take(await pulling.stream(endpoint_id)))
    await pulling.idle()
    assert await pulling.leased() == 0
    await _change(outbox, endpoint_id, state="active")
    pulling.later(seconds=1)
    await waiting


async def test_a_stream_ends_when_the_process_goes_away(pulling, outbox):
    stream = await pulling.stream(await pulling.endpoint())
    waiting = asyncio.create_task(take(stream))
    await pulling.idle()
    pulling.calls.parts.draining.set()
    outbox.database.wakeups.signal({"pull"})
    with pytest.raises(GoingAway):
        await waiting


async def test_a_stream_ends_when_its_key_is_revoked_and_takes_nothing_with_it(pulling, outbox):
    await provisioning.create_service_key(outbox.database, ORG)
    async with outbox.database.read(ORG) as tx:
        ((key,), _) = await api_keys.listed(tx, 10, "")
    pulling.calls.key_id = key.id
    endpoint_id = await pulling.endpoint()
    stream = await pulling.stream(endpoint_id)
    waiting = asyncio.create_task(take(stream))
    await pulling.idle()
    async with outbox.database.write(ORG) as tx:
        await api_keys.revoke(tx, key.id)
    await pulling.emit()
    with pytest.raises(Unauthenticated):
        await waiting
    assert await pulling.leased() == 0


async def test_a_stream_ends_with_its_endpoint(pulling, outbox):
    endpoint_id = await pulling.endpoint()
    stream = await pulling.stream(endpoint_id)
    waiting = asyncio.create_task(take(stream))
    await pulling.idle()
    async with outbox.database.write(ORG) as tx:
        await endpoints.remove(tx, endpoint_id)
    pulling.later(seconds=1)
    with pytest.raises(NotFound):
        await waiting


async def test_what_never_left_is_there_for_others_at_once(pulling, outbox):
    endpoint_id = await pulling.endpoint()
    await pulling.emit(3)
    stream = await pulling.stream(endpoint_id)
    (seen,) = await take(stream)
    await stream.aclose()
    assert {row.id for row in await outbox.rows() if row.lease_token} == {seen.delivery_id}
    rest = await take(await pulling.stream(endpoint_id), 2)
    assert seen.delivery_id not in {one.delivery_id for one in rest}


async def test_nothing_is_pushed_to_a_pull_endpoint(pulling, outbox):
    await pulling.endpoint()
    await pulling.emit()
    await outbox.dispatcher.drain()
    row = await outbox.only()
    assert (row.state, row.attempt_count, row.lease_token) == ("pending", 0, None)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"max_in_flight": 257}, "max_in_flight"),
        ({"max_in_flight": -1}, "max_in_flight"),
        ({"lease": Duration(seconds=601)}, "lease"),
        ({"lease": Duration(seconds=0)}, "lease"),
    ],
)
async def test_what_is_out_of_range_is_refused(pulling, values, field):
    with pytest.raises(Invalid) as caught:
        await take(await pulling.stream(await pulling.endpoint(), **values))
    assert [(one.field, one.reason) for one in caught.value.violations] == [(field, "OUT_OF_RANGE")]


async def test_only_ones_own_pull_endpoint_is_streamed_and_acknowledged(pulling, outbox, receiver):
    pushed, own = await outbox.endpoint(receiver.url), await pulling.endpoint()
    await pulling.emit()
    (message,) = await take(await pulling.stream(own))
    with pytest.raises(EndpointNotPull):
        await take(await pulling.stream(pushed))
    with pytest.raises(EndpointNotPull):
        await pulling.ack(pushed, message)
    with pytest.raises(NotFound):
        await take(await pulling.stream(own, OTHER_ORG))
    other = await pulling.endpoint()
    assert list((await pulling.ack(other, message)).stale_delivery_ids) == [message.delivery_id]
    with pytest.raises(Invalid) as caught:
        await pulling.ack(own, message, message)
    assert [(one.field, one.reason) for one in caught.value.violations] == [("acks[1].delivery_id", "DUPLICATE")]
    assert (await pulling.ack(own, message)).acknowledged_count == 1


async def _change(outbox: Any, endpoint_id: str, **values: Any) -> None:
    async with outbox.database.write(ORG) as tx:
        await endpoints.change(tx, endpoint_id, values)
