"""Claiming who waits for an event: with whom they are of, as it was before nobody else moved them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from sqlalchemy import update

from core.clock import ManualClock
from core.domain.enrollment import RecordFacts
from core.store.database import Database
from core.store.records import records
from core.store.workflows import claims
from core.store.workflows.enrollments import enrollments
from tests.databases import somebody_waits
from tests.store.people import Life, enrolled, live

pytestmark = pytest.mark.anyio

ORG = "org_a"


async def test_who_waits_comes_with_the_contact_and_its_newest_lead(database: Database, clock: ManualClock) -> None:
    async with database.write(ORG) as tx:
        ada = await live(tx, Life({"city": "London"}, leads=2))
        bob = await live(tx, Life({"city": "Berlin"}), 1)
        waiting = [await enrolled(tx, contact, "nurture", wait="event") for contact in (ada, bob)]
    clock.advance(timedelta(seconds=1))
    async with database.write(ORG) as tx:
        await records.upsert(tx, "lead", {"contact_id": ada, "lead_ref": "newest"}, actor="key_1", cause="call:1")
    async with database.system() as tx:
        found = await claims.claim_event_waits(tx, [(ORG, ada), (ORG, bob), (ORG, "cnt_x")])
        assert {one.id for one in found.enrollments} == set(waiting)
        both = {(ORG, ada), (ORG, bob)}
        asked = await claims.contacts_and_leads(tx, both, claims.NOBODY)
        assert (found.people.contacts, found.people.leads) == (asked.contacts, asked.leads)
        assert {key: lead.fields["lead_ref"] for key, lead in found.people.leads.items()} == {(ORG, ada): "newest"}
        assert set(found.people.asked) == both
        assert await claims.contacts_and_leads(tx, both, found.people) == asked


async def test_whom_another_process_moved_meanwhile_is_looked_at_again(postgresql_database: Database) -> None:
    database = postgresql_database
    async with database.write(ORG) as tx:
        ada, bob = [await live(tx, Life({"city": "London"}), number) for number in range(2)]
        moved, _ = [await enrolled(tx, contact, "nurture", wait="event") for contact in (ada, bob)]

    async def claim() -> tuple[dict[str, int], dict[str, RecordFacts]]:
        async with database.system() as tx:
            found = await claims.claim_event_waits(tx, [(ORG, ada), (ORG, bob)])
            people = await claims.contacts_and_leads(tx, [(ORG, ada), (ORG, bob)], found.people)
            return {one.contact_id: one.rev for one in found.enrollments}, {
                contact: facts for (_, contact), facts in people.contacts.items()
            }

    async with database.system() as tx:
        await claims.claim_by_id(tx, [(ORG, moved)])
        claiming = asyncio.ensure_future(claim())
        await somebody_waits(database)
        change = records.RecordUpdate(ORG, ada, {"city": "Paris"}, "workflow:nurture", f"enrollment:{moved}/4")
        await records.apply_updates(tx, [change])
        await tx.run(update(enrollments).where(enrollments.c.id == moved).values(rev=4))
    revs, contacts = await claiming
    assert revs == {ada: 4, bob: 3}
    assert {contact: facts.fields["city"] for contact, facts in contacts.items()} == {ada: "Paris", bob: "London"}
