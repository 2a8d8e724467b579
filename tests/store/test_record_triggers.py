"""A company's change reaches its contacts, and the database looks at no others, on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from core.clock import ManualClock
from core.domain.enrollment import EventFacts
from core.domain.records.changes import Change
from core.domain.workflow.record_changes import RECORD, ChangedRecord, record_event
from core.store.database import Database
from core.store.records import record_triggers
from core.store.records.record_rows import records
from tests.conftest import START
from tests.engine.parts import ORG, Parts
from tests.store.effort import effort, tidy

pytestmark = pytest.mark.anyio


def change_of(company_id: str, **more: Any) -> EventFacts:
    changed = ChangedRecord("company", company_id, False, (Change("employees", 5, 50),), "key_1", "test")
    return EventFacts("evt_1", record_event("company"), RECORD, {**changed.to_fields(), **more}, START, START)


async def test_only_the_contacts_of_a_company_are_looked_at_when_it_changes(
    database: Database, clock: ManualClock
) -> None:
    parts = Parts(database, clock)
    await parts.begin()
    acme, other = await parts.company(name="Acme"), await parts.company(name="Other")
    await parts.contacts(900, company_id=other)
    ada = await parts.contact("ada@example.com", company_id=acme)
    await tidy(database, records.name)
    async with database.system() as tx:
        assert await effort(tx, lambda: record_triggers.spread(tx, ORG, change_of(acme))) < 100
    async with database.system() as tx:
        rows = await tx.fetch("SELECT contact_id FROM events WHERE event_name = $1", record_event("company"))
    assert [row[0] for row in rows] == [ada]


async def test_a_contact_that_changes_its_company_is_looked_for_under_the_new_one(
    database: Database, clock: ManualClock
) -> None:
    parts = Parts(database, clock)
    await parts.begin()
    acme, other = await parts.company(name="Acme"), await parts.company(name="Other")
    ada = await parts.contact("ada@example.com", company_id=acme)
    await parts.contact("eve@example.com", company_id=acme)
    await parts.change(ada, company_id=other)
    async with database.system() as tx:
        await record_triggers.spread(tx, ORG, change_of(other))
        rows = await tx.fetch("SELECT contact_id FROM events WHERE event_name = $1", record_event("company"))
    assert [row[0] for row in rows] == [ada]
