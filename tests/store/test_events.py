"""Events on both databases: each is stored once, tied to one person, and handed to the matcher once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from core.clock import ManualClock
from core.domain.records.ingestion import IncomingEvent
from core.store.database import Database
from core.store.events import events, sources
from core.store.events.events import UnmatchedEvent
from core.store.events.ingestion import Ingested, ingest
from core.store.records import records
from core.store.records.records import Record
from core.store.workflows import hearing

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(database: Database) -> Database:
    await add_sources(database)
    return database


async def add_sources(database: Database) -> None:
    for org in ("org_a", "org_b"):
        async with database.write(org) as tx:
            await sources.create(tx, "form", "Form", "webhook")
            await sources.create(tx, "partner", "Partner", "affiliate")


def event(event_type: str = "action", name: str = "page.viewed", **given: Any) -> IncomingEvent:
    names = ("event_id", "person_id", "ga_client_id", "message_id", "created_at")
    about = {name: given.pop(name) for name in names if name in given}
    return IncomingEvent(event_type, name, given.pop("source_id", "form"), given.pop("fields", given), **about)


async def send(database: Database, *incoming: IncomingEvent, org: str = "org_a", kind: str = "") -> list[Ingested]:
    async with database.write(org) as tx:
        return await ingest(tx, incoming, actor="key_1", kind=kind)


async def contact(database: Database, contact_id: str) -> Record:
    async with database.read("org_a") as tx:
        record = await records.get(tx, contact_id)
    assert record is not None
    return record


async def conflicts(database: Database, event_id: str) -> Any:
    async with database.read("org_a") as tx:
        row = await tx.first(select(events.events.c.identity_conflict).where(events.events.c.id == event_id))
    assert row is not None
    return row.identity_conflict


async def test_a_lead_event_makes_a_contact_and_one_open_lead(database: Database) -> None:
    seed = event("lead", "User signed up", email="test@driftrock.com", first_name="First name", question_1="x")
    first, second = [(await send(database, seed))[0] for _ in range(2)]
    assert (first.status, second.status) == ("accepted", "accepted")
    assert first.contact_id == second.contact_id
    record = await contact(database, first.contact_id)
    assert record.fields == {"email": "test@driftrock.com", "first_name": "First name", "source": "form"}
    async with database.read("org_a") as tx:
        (lead,) = await records.leads_of(tx, [first.contact_id])
        changes, _ = await records.changes_page(tx, lead.id, 50, "")
    assert lead.fields == {"contact_id": first.contact_id, "status": "new", "source": "form"}
    assert {(change.actor, change.cause) for change in changes} == {("key_1", f"event:{first.event_id}")}


async def test_a_closed_lead_gives_way_to_a_new_one(database: Database) -> None:
    (first,) = await send(database, event("lead", email="ada@example.com"))
    async with database.write("org_a") as tx:
        (lead,) = await records.leads_of(tx, [first.contact_id])
        await records.update(tx, lead.id, {"status": "converted"}, actor="mem_1", cause="test")
    await send(database, event("lead", email="ada@example.com"))
    async with database.read("org_a") as tx:
        statuses = [lead.fields["status"] for lead in await records.leads_of(tx, [first.contact_id])]
    assert sorted(statuses) == ["converted", "new"]


async def test_event_id_and_person_id_link_a_person_and_never_drop_an_event(database: Database) -> None:
    results = await send(
        database,
        event(email="ada@example.com", event_id="E1", person_id="P1"),
        event(event_id="E1"),
        event(event_id="E1", person_id="P2"),
        event(person_id="P2"),
        event(email="ada@example.com", event_id="E1"),
    )
    assert [result.status for result in results] == ["accepted"] * 5
    assert len({result.event_id for result in results}) == 5
    assert len({result.contact_id for result in results}) == 1


async def test_a_message_id_is_taken_once_for_each_source(database: Database) -> None:
    batch = [
        event(email="ada@example.com", message_id="M1"),
        event(email="bob@example.com", message_id="M1"),
        event(message_id="M1", source_id="partner"),
    ]
    first, again, partner = await send(database, *batch)
    assert [first.status, again.status, partner.status] == ["accepted", "duplicate", "accepted"]
    assert again == Ingested("duplicate", first.event_id, first.contact_id)
    (later,) = await send(database, batch[1])
    assert later == again
    (elsewhere,) = await send(database, batch[0], org="org_b")
    assert elsewhere.status == "accepted"


async def test_two_calls_at_once_store_a_message_once(database: Database) -> None:
    incoming = event("lead", email="ada@example.com", message_id="M1")
    results = [result for (result,) in await asyncio.gather(*(send(database, incoming) for _ in range(6)))]
    assert sorted(result.status for result in results) == ["accepted", *["duplicate"] * 5]
    assert len({(result.event_id, result.contact_id) for result in results}) == 1


async def test_lead_events_at_once_open_one_lead(database: Database) -> None:
    results = await asyncio.gather(*(send(database, event("lead", email="ada@example.com")) for _ in range(6)))
    assert len({result.contact_id for (result,) in results}) == 1
    async with database.read("org_a") as tx:
        assert len(await records.leads_of(tx, [results[0][0].contact_id])) == 1


async def test_a_message_id_is_forgotten_after_seven_days(database: Database, clock: ManualClock) -> None:
    incoming = event(message_id="M1")
    await send(database, incoming)
    for days, status in ((6, "duplicate"), (2, "accepted")):
        clock.advance(timedelta(days=days))
        async with database.system() as tx:
            await events.forget_old_message_ids(tx)
        assert (await send(database, incoming))[0].status == status


async def test_a_bad_event_stops_no_other(database: Database) -> None:
    results = await send(
        database,
        event("leed", email="ada@example.com"),
        event(email="ada@example.com"),
        event(source_id="forn"),
        event(email="nobody", message_id="M1"),
        event(employees="50-100", email="bob@example.com"),
    )
    assert [result.status for result in results] == ["rejected", "accepted", "rejected", "rejected", "accepted"]
    told = [(v.field, v.reason) for result in results for v in result.violations]
    assert told == [
        ("event_type", "UNKNOWN_EVENT_TYPE"),
        ("source_id", "UNKNOWN_SOURCE"),
        ("fields.email", "INVALID_EMAIL"),
    ]
    assert "Did you mean form?" in results[2].violations[0].hint
    assert results[4].left_out == ("employees",)
    (mended,) = await send(database, event(email="nobody@example.com", message_id="M1"))
    assert mended.status == "accepted"


async def test_the_nearest_source_is_looked_for_a_few_times_in_a_batch_and_each_refusal_says_what_to_do(
    database: Database,
) -> None:
    results = await send(database, *[event(source_id=f"forn{number}") for number in range(30)])
    hints = [result.violations[0].hint for result in results]
    assert hints[0] == "Did you mean form? Create it with CreateSource."
    assert hints[-1] == "Create it with CreateSource."


async def test_a_source_takes_events_through_its_own_door_only(database: Database) -> None:
    (refused,) = await send(database, event(source_id="partner"), kind="webhook")
    assert [(v.field, v.reason) for v in refused.violations] == [("source_id", "WRONG_SOURCE_KIND")]
    (taken,) = await send(database, event(source_id="partner"), kind="affiliate")
    assert taken.status == "accepted"


async def test_an_event_without_identifiers_is_stored_without_a_contact(database: Database) -> None:
    (result,) = await send(database, event("lead", page="/pricing", person_id="undefined"))
    assert (result.status, result.contact_id) == ("accepted", "")


async def test_identifiers_that_disagree_are_recorded_and_nobody_is_merged(database: Database) -> None:
    (ada,) = await send(database, event(email="ada@example.com", person_id="P1"))
    (bob,) = await send(database, event(email="bob@example.com"))
    (both,) = await send(database, event(email="bob@example.com", person_id="P1", city="Bonn"))
    assert both.contact_id == bob.contact_id
    conflict = {"kind": "person_id", "value": "P1", "record_id": ada.contact_id}
    assert await conflicts(database, both.event_id) == [conflict]
    assert (await contact(database, bob.contact_id)).fields["city"] == "Bonn"


async def test_another_email_under_a_known_person_id_changes_nothing(database: Database) -> None:
    (ada,) = await send(database, event(email="ada@example.com", person_id="P1", city="London"))
    (other,) = await send(database, event(email="other@example.com", person_id="P1", city="Bonn"))
    assert other.contact_id == ada.contact_id
    record = await contact(database, ada.contact_id)
    assert (record.fields["email"], record.fields["city"], record.rev) == ("ada@example.com", "London", 1)
    conflict = {"kind": "email", "value": "other@example.com", "record_id": ""}
    assert await conflicts(database, other.event_id) == [conflict]
    (alone,) = await send(database, event(email="other@example.com"))
    assert alone.contact_id != ada.contact_id


async def test_an_anonymous_person_gets_a_name_later(database: Database) -> None:
    (visit,) = await send(database, event(ga_client_id="GA1.1"))
    (signup,) = await send(database, event("lead", email="ada@example.com", ga_client_id="GA1.1"))
    (office,) = await send(database, event("lead", email="bob@example.com", ga_client_id="GA1.1"))
    assert visit.contact_id == signup.contact_id != office.contact_id


async def test_the_matcher_gets_each_event_once_and_in_order(database: Database, clock: ManualClock) -> None:
    wake = database.wakeups.event("matcher")
    created = clock.now() - timedelta(days=7)
    at = created.isoformat()
    results = await send(database, *(event(name=f"e{n}", person_id="P1", created_at=at) for n in range(3)))
    assert wake.is_set()
    async with database.system() as tx:
        claimed = (await hearing.claim(tx, tx.now, 2))[0]
    assert [found.id for found in claimed] == [result.event_id for result in results[:2]]
    first = claimed[0]
    assert (first.contact_id, first.name, first.facts.type) == (results[0].contact_id, "e0", "action")
    assert (first.facts.occurred_at, first.facts.received_at) == (created, clock.now())
    async with database.system() as tx:
        rest = (await hearing.claim(tx, tx.now, 10))[0]
        assert [found.name for found in rest] == ["e2"]
        assert (await hearing.claim(tx, tx.now, 10))[0] == []


async def test_a_claim_of_what_came_lately_leaves_the_rest_for_another_time(
    postgresql_database: Database, clock: ManualClock
) -> None:
    await add_sources(postgresql_database)
    await send(postgresql_database, event(name="old"))
    clock.advance(timedelta(days=3))
    await send(postgresql_database, event(name="new"))
    async with postgresql_database.system() as tx:
        for around, name in ((timedelta(hours=1), "new"), (None, "old")):
            assert [one.name for one in (await hearing.claim(tx, tx.now, 10, around=around))[0]] == [name]


async def test_every_organization_gets_its_share_of_a_claim(database: Database) -> None:
    await send(database, *(event(name=f"a{n}") for n in range(20)))
    await send(database, event(name="b"), org="org_b")
    async with database.system() as tx:
        claimed = (await hearing.claim(tx, tx.now, 4))[0]
    assert {found.org_id for found in claimed} == {"org_a", "org_b"}


async def test_processes_at_once_claim_different_events(postgresql_database: Database) -> None:
    await add_sources(postgresql_database)
    await send(postgresql_database, *(event(name=f"e{n}") for n in range(6)))
    both_hold = asyncio.Barrier(2)

    async def claim() -> list[UnmatchedEvent]:
        async with postgresql_database.system() as tx:
            claimed = (await hearing.claim(tx, tx.now, 3))[0]
            await both_hold.wait()
            return claimed

    one, other = await asyncio.gather(claim(), claim())
    assert len({found.id for found in (*one, *other)}) == 6


async def test_events_that_arrived_in_a_wait_are_found(database: Database, clock: ManualClock) -> None:
    (early,) = await send(database, event(name="paid", person_id="P1"))
    since = clock.advance(timedelta(days=2))
    within, _ = await send(database, event(name="paid", person_id="P1"), event(name="paid", person_id="P2"))
    await send(database, event(name="other", person_id="P1"))
    until = clock.advance(timedelta(days=2))
    clock.advance(timedelta(seconds=1))
    await send(database, event(name="paid", person_id="P1"))
    key = ("org_a", early.contact_id, "paid")
    async with database.system() as tx:
        elsewhere = ("org_b", early.contact_id, "paid")
        found = await events.received_since(tx, [(*key, since, until), (*elsewhere, since, until)])
        assert await events.received_since(tx, []) == {}
    assert {of: [facts.id for facts in arrived] for of, arrived in found.items()} == {key: [within.event_id]}


async def test_events_and_sources_are_listed_newest_first(database: Database, clock: ManualClock) -> None:
    for number in range(3):
        clock.advance(timedelta(seconds=1))
        await send(database, event(name=f"e{number}"))
    async with database.write("org_a") as tx:
        minted = await sources.create(tx, "", "Minted", "webhook")
        assert await sources.create(tx, "form", "Again", "webhook") is None
    assert minted is not None
    async with database.read("org_a") as tx:
        page, token = await events.page(tx, 2, "")
        rest, _ = await events.page(tx, 2, token)
        listed, _ = await sources.page(tx, 10, "")
    assert [row.event_name for row in (*page, *rest)] == ["e2", "e1", "e0"]
    assert listed[0].id == minted.id
    assert minted.created_at == datetime(2026, 3, 2, 9, 0, 3, tzinfo=UTC)


async def test_another_organization_sees_no_event(database: Database) -> None:
    await send(database, event(email="ada@example.com"))
    async with database.read("org_b") as tx:
        assert (await events.page(tx, 10, ""))[0] == []
