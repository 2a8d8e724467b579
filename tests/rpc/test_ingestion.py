"""Events through the API: answered one by one, kept apart where they do not fit, counted exactly under load."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from core.rpc.convert import to_struct
from core.store.records.record_rows import records
from dripstone.v1 import event_pb2 as pb
from dripstone.v1.client import Client
from tests.rpc.ingestion_calls import add_source, event, status, stored
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

CLIENTS = 50
SCHEMA = {"type": "object", "required": ["plan"], "properties": {"plan": {"enum": ["free", "pro"]}}}


@pytest.fixture
async def client(core: RunningCore) -> AsyncIterator[Client]:
    async with core.client() as opened:
        await add_source(opened)
        yield opened


def batch(events: list[pb.EventInput], key: str = "") -> pb.IngestEventsRequest:
    return pb.IngestEventsRequest(events=events, request_id=key)


def changing_schema(schema: dict[str, Any]) -> pb.UpdateSourceRequest:
    request = pb.UpdateSourceRequest(source=pb.Source(id="plans", schema=to_struct(schema)))
    request.update_mask.paths.append("schema")
    return request


async def count(core: RunningCore, record_type: str) -> int:
    async with core.core.database.read(core.organization.org_id) as tx:
        statement = select(func.count(records.c.id).label("records")).select_from(records)
        row = await tx.first(statement.where(records.c.type == record_type))
    return int(row.records) if row else 0


async def test_the_same_batch_of_fifty_clients_at_once_is_stored_once(core: RunningCore) -> None:
    people = 20
    events = [
        event(event_type="lead", email=f"c{number % people}@example.com", message_id=f"m{number}", n=number)
        for number in range(60)
    ]
    async with core.client() as one:
        await add_source(one)

    async def send(number: int) -> pb.IngestEventsResponse:
        # Each in an order of its own: whoever waits for whom must not become a circle.
        turned = events[number:] + events[:number] if number % 2 else list(reversed(events))
        async with core.client() as client:
            return await client.events.IngestEvents(batch(turned, f"client-{number}"), timeout=60)

    answers = await asyncio.gather(*(send(number) for number in range(CLIENTS)))
    counted = Counter(status(result) for answer in answers for result in answer.results)
    assert counted == {"accepted": len(events), "duplicate": (CLIENTS - 1) * len(events)}
    assert sum(answer.accepted_count for answer in answers) == len(events) == await stored(core)
    assert (await count(core, "contact"), await count(core, "lead")) == (people, people)
    ids = {result.event_id for answer in answers for result in answer.results}
    assert len(ids) == len(events)


async def test_the_same_call_of_fifty_clients_at_once_is_carried_out_once(core: RunningCore) -> None:
    async with core.client() as one:
        await add_source(one)
        events = [event(email="ada@example.com", n=number) for number in range(5)]  # nothing tells them apart
        answers = await asyncio.gather(
            *(one.events.IngestEvents(batch(events, "one-key"), timeout=60) for _ in range(CLIENTS))
        )
    assert len({answer.SerializeToString(deterministic=True) for answer in answers}) == 1
    assert await stored(core) == len(events)


async def test_fifty_streams_of_the_same_events_store_each_once(core: RunningCore) -> None:
    sent = [pb.StreamEventsRequest(event=event(message_id=f"m{number}", person_id="P1")) for number in range(40)]
    async with core.client() as client:
        await add_source(client)

        async def stream() -> list[str]:
            return [status(answer) async for answer in client.events.StreamEvents(iter(sent))]

        told = await asyncio.gather(*(stream() for _ in range(CLIENTS)))
    assert Counter(one for some in told for one in some) == {"accepted": 40, "duplicate": (CLIENTS - 1) * 40}
    assert await stored(core) == 40
    assert await count(core, "contact") == 1


async def test_what_does_not_fit_its_source_is_kept_apart_and_everything_else_is_taken(
    core: RunningCore, client: Client
) -> None:
    await add_source(client, "plans", schema=to_struct(SCHEMA))
    sent = [
        event(source_id="plans", plan="pro", message_id="m1"),
        event(source_id="plans", plan="gold", message_id="m2"),
        event(source_id="plans", plan="gold", message_id="m2"),
        event(source_id="plans"),
        event(plan="gold"),
        event(source_id="plans", event_type="leed", plan="gold"),
    ]
    answer = await client.events.IngestEvents(batch(sent))
    told = [(status(result), result.reason, result.field) for result in answer.results]
    assert told == [
        ("accepted", "", ""),
        ("quarantined", "SCHEMA_MISFIT", "fields.plan"),
        ("quarantined", "SCHEMA_MISFIT", "fields.plan"),
        ("quarantined", "SCHEMA_MISFIT", "fields"),
        ("accepted", "", ""),
        ("rejected", "UNKNOWN_EVENT_TYPE", "event_type"),
    ]
    assert answer.accepted_count == 2 == await stored(core)
    apart = [result.quarantined_id for result in answer.results]
    assert [bool(one) for one in apart] == [False, True, True, True, False, False]
    assert apart[1] == apart[2] != apart[3]
    waiting = await client.events.ListQuarantined(pb.ListQuarantinedRequest())
    assert {one.id for one in waiting.quarantined} == {apart[1], apart[3]}


async def test_an_event_that_is_redriven_happened_when_it_first_came(core: RunningCore, client: Client) -> None:
    came_at = core.clock.now()
    await add_source(client, "plans", schema=to_struct(SCHEMA))
    result = await client.events.IngestEvent(pb.IngestEventRequest(event=event(source_id="plans", plan="gold")))
    assert status(result) == "quarantined"
    core.clock.advance(timedelta(days=2))
    await client.events.UpdateSource(changing_schema({}))
    redriven = await client.events.RedriveQuarantined(
        pb.RedriveQuarantinedRequest(quarantined_ids=[result.quarantined_id])
    )
    assert [status(one) for one in redriven.results] == ["accepted"]
    (kept,) = (await client.events.ListEvents(pb.ListEventsRequest())).events
    assert kept.occur_time.ToDatetime() == came_at.replace(tzinfo=None)


async def test_a_message_that_was_taken_before_the_schema_changed_is_a_duplicate(
    core: RunningCore, client: Client
) -> None:
    await add_source(client, "plans", schema=to_struct(SCHEMA))
    one = pb.IngestEventRequest(event=event(source_id="plans", plan="pro", message_id="m1"))
    first = await client.events.IngestEvent(one)
    stricter = {**SCHEMA, "required": ["plan", "seats"]}
    await client.events.UpdateSource(changing_schema(stricter))
    again = await client.events.IngestEvent(one)
    assert (status(again), again.event_id) == ("duplicate", first.event_id)


async def test_the_capture_route_takes_what_is_kept_apart(core: RunningCore, client: Client) -> None:
    await add_source(client, "plans", schema=to_struct(SCHEMA))
    body: dict[str, Any] = {"event_type": "action", "event_name": "x", "source_id": "plans", "fields": {"plan": "gold"}}
    async with core.http() as http:
        answer = await http.post("/v2/event", json=body)
    assert (answer.status_code, answer.json()) == (200, {"data": "ok"})
    waiting = await client.events.ListQuarantined(pb.ListQuarantinedRequest())
    assert (len(waiting.quarantined), await stored(core)) == (1, 0)


async def test_history_is_accepted_and_says_that_it_starts_nothing(core: RunningCore, client: Client) -> None:
    ago = (core.clock.now() - timedelta(days=8)).isoformat()
    result = await client.events.IngestEvent(
        pb.IngestEventRequest(event=event(event_type="lead", email="ada@example.com", created_at=ago))
    )
    assert (status(result), result.reason, result.field) == ("accepted", "HISTORY", "created_at")
    assert result.message == (
        "kept as history: it happened more than 7 days before it came, so it starts and wakes nothing"
    )
    assert result.contact_id
    assert (await count(core, "contact"), await count(core, "lead")) == (1, 0)
    await core.settle()


async def test_a_dry_run_of_a_batch_stores_and_keeps_apart_nothing(core: RunningCore, client: Client) -> None:
    await add_source(client, "plans", schema=to_struct(SCHEMA))
    sent = [event(source_id="plans", plan=plan, message_id=plan) for plan in ("pro", "gold")]
    dry = await client.events.IngestEvents(pb.IngestEventsRequest(events=sent, validate_only=True))
    assert [status(result) for result in dry.results] == ["accepted", "quarantined"]
    assert await stored(core) == 0
    assert not (await client.events.ListQuarantined(pb.ListQuarantinedRequest())).quarantined
