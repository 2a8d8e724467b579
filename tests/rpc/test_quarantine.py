"""What does not fit is kept, told, redriven with what was mended, once, or put aside; on both databases."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest

from core.store.events import quarantine
from dripstone.v1 import event_pb2 as pb
from tests.posting import Poster, posting
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "object", "required": ["email"], "properties": {"seats": {"type": "integer"}}}
ORDER = {"type": "order.paid", "timestamp": "2026-03-02T08:00:00Z", "data": {"email": "ada@example.com", "seats": 3}}


def order(**data: Any) -> dict[str, Any]:
    return {**ORDER, "data": data}


@pytest.fixture
async def shop(core: RunningCore) -> AsyncIterator[Poster]:
    async with posting(core) as poster:
        await poster.begin()
        yield poster


async def test_a_message_becomes_an_event_and_a_contact_once(shop: Poster) -> None:
    first, again = await shop.send(ORDER, "msg_a"), await shop.send(ORDER, "msg_a")
    assert (first.status_code, again.status_code) == (200, 200)
    event_id = first.json()["event_id"]
    assert (first.json(), again.json()) == (
        {"status": "accepted", "event_id": event_id},
        {"status": "duplicate", "event_id": event_id},
    )
    (event,) = await shop.events()
    assert (event.id, event.event_type, event.event_name, event.source_id) == (event_id, "action", "order.paid", "shop")
    assert (dict(event.fields), event.message_id) == ({"email": "ada@example.com", "seats": 3}, "msg_a")
    assert event.occur_time.ToJsonString() == "2026-03-02T08:00:00Z"
    assert event.contact_id.startswith("cnt_")


async def test_it_is_forgotten_after_seven_days(shop: Poster) -> None:
    await shop.send(ORDER, "msg_a")
    await shop.core.pass_time(timedelta(days=7) - timedelta(minutes=1))
    assert (await shop.send(ORDER, "msg_a")).json()["status"] == "duplicate"
    await shop.core.pass_time(timedelta(minutes=2))
    assert (await shop.send(ORDER, "msg_a")).json()["status"] == "accepted"


@pytest.mark.both_databases
async def test_the_same_message_at_once_is_one_event(shop: Poster) -> None:
    answers = await asyncio.gather(*(shop.send(ORDER, f"msg_{number % 4}") for number in range(24)))
    assert Counter(answer.json()["status"] for answer in answers) == {"accepted": 4, "duplicate": 20}
    assert len(await shop.events()) == 4
    misfits = await asyncio.gather(*(shop.send(b"{", f"bad_{number % 3}") for number in range(12)))
    assert {answer.status_code for answer in misfits} == {202}
    assert len({answer.json()["quarantined_id"] for answer in misfits}) == 3 == len(await shop.quarantined())


async def test_what_does_not_fit_the_schema_waits_until_the_schema_is_mended(shop: Poster) -> None:
    source = await shop.update("schema", schema=SCHEMA)
    assert (source.etag, source.quarantined_count) == ('"2"', 0)
    answer = await shop.send(order(email="ada@example.com", seats="three"), "msg_a")
    assert answer.status_code == 202
    told = answer.json()
    assert told == {
        "status": "quarantined",
        "quarantined_id": told["quarantined_id"],
        "reason": "SCHEMA_MISFIT",
        "field": "fields.seats",
        "message": "'three' is not of type 'integer'. "
        "Send what the source's schema asks for, or mend the schema or the mapping, then redrive.",
    }
    assert (await shop.send(order(email="ada@example.com", seats="three"), "msg_a")).json() == told
    assert (await shop.events(), len(await shop.quarantined())) == ([], 1)
    one = await shop.client.events.GetQuarantined(pb.GetQuarantinedRequest(quarantined_id=told["quarantined_id"]))
    assert (one.state, one.source_id, one.reason, one.field) == ("waiting", "shop", "SCHEMA_MISFIT", "fields.seats")
    assert '"seats": "three"' in one.body
    got = await shop.client.events.GetSource(pb.GetSourceRequest(source_id="shop"))
    assert got.quarantined_count == 1

    still = await shop.redrive(one.id)
    assert [(each.status, each.reason) for each in still.results] == [(pb.INGEST_STATUS_QUARANTINED, "SCHEMA_MISFIT")]
    await shop.update("schema")
    tried = await shop.client.events.RedriveQuarantined(
        pb.RedriveQuarantinedRequest(quarantined_ids=[one.id], validate_only=True)
    )
    assert (tried.accepted_count, await shop.events()) == (1, [])
    done = await shop.redrive(one.id)
    (event,) = await shop.events()
    assert (done.accepted_count, done.results[0].event_id, done.results[0].quarantined_id) == (1, event.id, one.id)
    assert event.message_id == "msg_a"

    twice = await shop.redrive(one.id)
    assert [(each.status, each.event_id, each.reason) for each in twice.results] == [
        (pb.INGEST_STATUS_DUPLICATE, event.id, "ALREADY_REDRIVEN")
    ]
    assert (await shop.send(ORDER, "msg_a")).json() == {"status": "duplicate", "event_id": event.id}
    (after,) = await shop.quarantined()
    assert (after.state, after.event_id, after.body) == ("redriven", event.id, "")


async def test_a_mapping_is_mended_and_everything_of_the_source_redriven(shop: Poster) -> None:
    await shop.update("mapping", mapping=pb.Mapping(event_name="body.kind"))
    bodies = [{"kynd": "a", "email": f"{number}@example.com"} for number in range(3)]
    for body in bodies:
        assert (await shop.send(body)).json()["field"] == "mapping.event_name"
    assert (await shop.send({"no": "name"})).status_code == 202
    assert (await shop.send({"kynd": "unwanted"})).status_code == 202
    mended = pb.Mapping(event_name="body.kynd", when='!has(body.kynd) || body.kynd != "unwanted"')
    await shop.update("mapping", mapping=mended)
    answer = await shop.redrive(source_id="shop")
    accepted, misfit, refused = (
        pb.INGEST_STATUS_ACCEPTED,
        pb.INGEST_STATUS_QUARANTINED,
        pb.INGEST_STATUS_REJECTED,
    )
    assert [(each.index, each.status) for each in answer.results] == [
        (0, accepted),
        (1, accepted),
        (2, accepted),
        (3, misfit),
        (4, refused),
    ]
    assert answer.results[4].reason == "LEFT_OUT"
    assert [event.fields["email"] for event in await shop.events()] == [body["email"] for body in bodies]
    assert [one.state for one in await shop.quarantined()] == ["redriven"] * 3 + ["waiting", "discarded"]


async def test_so_many_wait_of_a_source_and_one_more_is_refused_whole(
    shop: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarantine, "MOST_WAITING", 2)
    statuses = [(await shop.send({"no": "name"}, message_id)).status_code for message_id in ("a", "b", "a", "c")]
    assert statuses == [202, 202, 202, 429]
    refused = await shop.send([ORDER, {"no": "name"}])
    assert (refused.status_code, refused.json()["error"]["reason"]) == (429, "QUARANTINE_FULL")
    assert (await shop.events(), len(await shop.quarantined())) == ([], 2)
    assert (await shop.send(ORDER)).status_code == 200
    await shop.update("schema", schema=SCHEMA)
    one_each = [
        pb.EventInput(event_type="action", event_name="e", source_id="shop", fields=fields, message_id=key)
        for fields, key in (({"email": "ada@example.com"}, "d"), ({}, "e"), ({}, "a"))
    ]
    answer = await shop.client.events.IngestEvents(pb.IngestEventsRequest(events=one_each))
    assert [(one.status, one.reason) for one in answer.results] == [
        (pb.INGEST_STATUS_ACCEPTED, ""),
        (pb.INGEST_STATUS_REJECTED, "QUARANTINE_FULL"),
        (pb.INGEST_STATUS_QUARANTINED, "SCHEMA_MISFIT"),
    ]
    await shop.update("schema")
    discarded = [one.id for one in await shop.quarantined()]
    await shop.client.events.DiscardQuarantined(pb.DiscardQuarantinedRequest(quarantined_ids=discarded))
    assert (await shop.send({"no": "name"}, "c")).status_code == 202


async def test_what_is_sent_again_and_fits_by_then_waits_no_more(shop: Poster) -> None:
    kept = (await shop.send({"kind": "a"}, "msg_a")).json()["quarantined_id"]
    await shop.update("mapping", mapping=pb.Mapping(event_name="body.kind"))
    event_id = (await shop.send({"kind": "a"}, "msg_a")).json()["event_id"]
    (one,) = await shop.quarantined()
    assert (one.id, one.state, one.event_id) == (kept, "redriven", event_id)


async def test_what_was_an_event_once_is_a_duplicate_although_it_does_not_fit_any_more(shop: Poster) -> None:
    event_id = (await shop.send(ORDER, "msg_a")).json()["event_id"]
    for paths, settings in (
        (("schema",), {"schema": {"required": ["vat"]}}),
        (("mapping",), {"mapping": pb.Mapping(event_name="body.none")}),
    ):
        await shop.update(*paths, **settings)
        assert (await shop.send(ORDER, "msg_a")).json() == {"status": "duplicate", "event_id": event_id}
    assert await shop.quarantined() == []


async def test_without_a_message_id_a_redrive_is_idempotent_too(core: RunningCore) -> None:
    async with posting(core) as shop:
        await shop.begin(verifier=None)
        kept = (await shop.post(b'{"a": 1}', {})).json()["quarantined_id"]
        await shop.update("mapping", mapping=pb.Mapping(event_name='"a"'))
        answers = await asyncio.gather(*(shop.redrive(kept) for _ in range(5)))
        assert sum(answer.accepted_count for answer in answers) == 1
        (event,) = await shop.events()
        assert event.message_id == kept


async def test_several_messages_in_one_request_have_one_result_each(core: RunningCore) -> None:
    async with posting(core) as shop:
        await shop.begin(verifier=None)
        body = b'[{"type": "a", "email": "a@example.com"}, {"email": "b@example.com"}, {"type": "c"}]'
        answer = await shop.post(body, {"webhook-id": "m"})
        results = answer.json()["results"]
        assert (answer.status_code, [one["status"] for one in results]) == (
            202,
            ["accepted", "quarantined", "accepted"],
        )
        assert [one["status"] for one in (await shop.post(body, {"webhook-id": "m"})).json()["results"]] == [
            "duplicate",
            "quarantined",
            "duplicate",
        ]
        await shop.update("mapping", mapping=pb.Mapping(event_name='"b"'))
        core.clock.advance(timedelta(seconds=1))
        assert (await shop.redrive(source_id="shop")).accepted_count == 1
        assert [(event.event_name, event.message_id) for event in await shop.events()] == [
            ("a", "m#0"),
            ("c", "m#2"),
            ("b", "m#1"),
        ]


async def test_a_body_too_large_to_keep_is_kept_in_part_and_cannot_be_redriven(core: RunningCore) -> None:
    async with posting(core) as shop:
        await shop.begin(verifier=None)
        kept = (await shop.post(b'{"a": "' + b"x" * 300_000 + b'"}', {})).json()["quarantined_id"]
        one = await shop.client.events.GetQuarantined(pb.GetQuarantinedRequest(quarantined_id=kept))
        assert len(one.body) == 256 * 1024
        (result,) = (await shop.redrive(kept)).results
        assert (result.status, result.reason) == (pb.INGEST_STATUS_QUARANTINED, "BODY_NOT_KEPT")


async def test_an_event_of_the_api_is_quarantined_and_redriven_the_same_way(shop: Poster) -> None:
    await shop.update("schema", schema=SCHEMA)
    event = pb.EventInput(
        event_type="lead", event_name="x", source_id="shop", fields={"seats": "many"}, person_id="p1", message_id="m1"
    )
    result = await shop.client.events.IngestEvent(pb.IngestEventRequest(event=event))
    assert (result.status, result.reason, result.event_id) == (pb.INGEST_STATUS_QUARANTINED, "SCHEMA_MISFIT", "")
    await shop.update("schema")
    (redriven,) = (await shop.redrive(result.quarantined_id)).results
    assert redriven.status == pb.INGEST_STATUS_ACCEPTED
    (stored,) = await shop.events()
    assert (stored.event_type, stored.message_id, dict(stored.fields)) == ("lead", "m1", {"seats": "many"})
    assert stored.contact_id == redriven.contact_id != ""


@pytest.mark.both_databases
async def test_many_are_redriven_in_the_order_in_which_they_came(shop: Poster) -> None:
    await shop.update("schema", schema=SCHEMA)
    events = [
        pb.EventInput(
            event_type="action", event_name=f"e{number}", source_id="shop", fields={}, message_id=f"m{number}"
        )
        for number in range(130)
    ]
    answer = await shop.client.events.IngestEvents(pb.IngestEventsRequest(events=events))
    assert {result.status for result in answer.results} == {pb.INGEST_STATUS_QUARANTINED}
    await shop.update("schema")
    redriven = await shop.redrive(source_id="shop")
    assert redriven.accepted_count == 130
    assert [result.quarantined_id for result in redriven.results] == [one.quarantined_id for one in answer.results]
    assert [result.index for result in redriven.results] == list(range(130))
    page = await shop.client.events.ListEvents(pb.ListEventsRequest(page_size=500))
    assert Counter(event.message_id for event in page.events) == {f"m{number}": 1 for number in range(130)}


@pytest.mark.both_databases
async def test_what_is_redriven_and_sent_again_at_once_is_one_event(shop: Poster) -> None:
    for number in range(8):
        await shop.send({"kind": "a"}, f"msg_{number}")
    await shop.update("mapping", mapping=pb.Mapping(event_name="body.kind"))
    await asyncio.gather(
        *(shop.redrive(source_id="shop") for _ in range(3)),
        *(shop.send({"kind": "a"}, f"msg_{number}") for number in range(8)),
    )
    assert Counter(event.message_id for event in await shop.events()) == {f"msg_{number}": 1 for number in range(8)}
    assert {one.state for one in await shop.quarantined()} == {"redriven"}


async def test_what_is_discarded_stays_discarded(shop: Poster) -> None:
    ids = [(await shop.send(b"{", f"msg_{number}")).json()["quarantined_id"] for number in range(3)]
    request = pb.DiscardQuarantinedRequest(quarantined_ids=ids[:2])
    assert (await shop.client.events.DiscardQuarantined(request)).discarded_count == 2
    assert (await shop.client.events.DiscardQuarantined(request)).discarded_count == 0
    (result,) = (await shop.redrive(ids[0])).results
    assert (result.status, result.reason) == (pb.INGEST_STATUS_REJECTED, "ALREADY_DISCARDED")
    assert [one.state for one in await shop.quarantined()] == ["discarded", "discarded", "waiting"]
    filtered = pb.ListQuarantinedRequest(filter='state = "waiting" AND source_id = "shop"', page_size=1)
    assert [one.id for one in (await shop.client.events.ListQuarantined(filtered)).quarantined] == [ids[2]]


async def test_requests_that_name_nothing_or_two_things_are_refused(shop: Poster) -> None:
    events = shop.client.events
    kept = (await shop.send(b"{")).json()["quarantined_id"]
    for call, told in (
        (events.RedriveQuarantined(pb.RedriveQuarantinedRequest()), "in one way"),
        (events.RedriveQuarantined(pb.RedriveQuarantinedRequest(quarantined_ids=[kept], source_id="shop")), "one way"),
        (events.RedriveQuarantined(pb.RedriveQuarantinedRequest(source_id="none")), "There is no source none"),
        (events.GetQuarantined(pb.GetQuarantinedRequest(quarantined_id="qtn_x")), "no quarantined event qtn_x"),
        (events.DiscardQuarantined(pb.DiscardQuarantinedRequest(quarantined_ids=[kept, "x"])), "there is no x"),
        (events.ListQuarantined(pb.ListQuarantinedRequest(filter='state = "wating"')), "which it never is"),
    ):
        with pytest.raises(grpc.aio.AioRpcError, match=told):
            await call
    (result,) = (await shop.redrive("qtn_x")).results
    assert (result.status, result.reason) == (pb.INGEST_STATUS_REJECTED, "NOT_FOUND")
    assert [one.state for one in await shop.quarantined()] == ["waiting"]


@pytest.mark.both_databases
async def test_quarantine_is_not_kept_for_ever(shop: Poster) -> None:
    ids = [(await shop.send(b"{", f"msg_{number}")).json()["quarantined_id"] for number in range(2)]
    await shop.client.events.DiscardQuarantined(pb.DiscardQuarantinedRequest(quarantined_ids=ids[:1]))
    await shop.core.pass_time(timedelta(days=31))
    assert [one.id for one in await shop.quarantined()] == ids[1:]
    await shop.core.pass_time(timedelta(days=60))
    assert await shop.quarantined() == []
