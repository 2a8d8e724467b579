"""Reports of messages to addresses that nobody has, on both databases: they are stopped, and nobody is made up."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from core.domain.records.ingestion import IncomingEvent
from core.store.database import Database
from core.store.events import ingestion, sources
from core.store.events.events import events
from core.store.events.ingestion import Ingested
from core.store.messages import suppressions
from core.store.organizations.organizations import organizations
from core.store.records import records
from core.store.records.identifiers import record_identifiers
from core.store.records.record_rows import record_changes
from tests.announcements import announced, listen

pytestmark = pytest.mark.anyio

ORG = "org_a"
BOB = "bob@example.com"


@pytest.fixture
async def house(database: Database) -> Database:
    async with database.system() as tx:
        row = {"org_id": ORG, "display_name": ORG, "timezone": "UTC", "created_at": tx.now}
        await tx.insert(organizations, [row])
    async with database.write(ORG) as tx:
        await sources.create(tx, "mail", "Mail", "webhook")
    await listen(database, ORG)
    return database


def report(name: str, event_type: str = "action", **fields: Any) -> IncomingEvent:
    return IncomingEvent(event_type, name, "mail", {"email": BOB, **fields})


async def sent(house: Database, *incoming: IncomingEvent) -> list[Ingested]:
    async with house.write(ORG) as tx:
        return await ingestion.ingest(tx, incoming, actor="key_1")


async def people(house: Database) -> list[Any]:
    async with house.read(ORG) as tx:
        rows = await tx.all(select(records.records))
        named = await tx.all(select(record_identifiers))
    return [*rows, *named]


@pytest.mark.parametrize("event_type", ["action", "lead"])
@pytest.mark.parametrize(
    ("name", "reason", "told"),
    [
        ("message.bounced", "bounced", ["message.bounced"]),
        ("message.complained", "complained", []),
        ("message.unsubscribed", "unsubscribed", []),
    ],
)
async def test_a_report_of_an_unknown_address_suppresses_it_and_makes_no_contact(
    house: Database, name: str, reason: str, told: list[str], event_type: str
) -> None:
    (result,) = await sent(house, report(name, event_type, first_name="Bob"))
    assert (result.status, result.contact_id) == ("accepted", "")
    assert await people(house) == []
    async with house.read(ORG) as tx:
        (stopped,), _ = await suppressions.page(tx, 10, "")
        (stored,) = await tx.all(select(events))
    assert (stopped.address, stopped.reason, stopped.contact_id) == (BOB, reason, "")
    assert (stored.event_name, stored.contact_id) == (name, None)
    emitted = await announced(house, ORG)
    assert [one["type"] for one in emitted] == told
    assert all(one["data"]["address"] == BOB and "contact_id" not in one["data"] for one in emitted)


async def test_whoever_is_known_by_then_is_found_and_not_changed(house: Database) -> None:
    """Also one whom an event of the same batch makes known."""
    new = IncomingEvent("lead", "form.sent", "mail", {"email": BOB, "first_name": "Bob"})
    made, result = await sent(house, new, report("message.bounced", first_name="Postmaster"))
    assert result.contact_id == made.contact_id != ""
    async with house.read(ORG) as tx:
        contact = await records.get(tx, made.contact_id)
        changed = await tx.all(select(record_changes.c.cause).where(record_changes.c.record_id == made.contact_id))
    assert contact is not None
    assert contact.fields["first_name"] == "Bob"
    assert {row.cause for row in changed} == {f"event:{made.event_id}"}
    (bounced,) = [one for one in await announced(house, ORG) if one["type"] == "message.bounced"]
    assert bounced["data"]["contact_id"] == made.contact_id
