"""Writers of records beside others: locks are taken in one order, and what was waited for is heeded."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.domain.errors import ValueTaken
from core.store.database import Database
from core.store.qualification import rerouting
from core.store.records import deleting, records
from core.store.records.record_rows import hold
from tests.databases import somebody_waits
from tests.rpc.record_calls import Records
from tests.rpc.routing_calls import ORG, Desk

pytestmark = pytest.mark.anyio

WHO = {"actor": "key_1", "cause": "call:1"}


async def _desk(database: Database, clock: ManualClock) -> tuple[Desk, str]:
    desk = Desk(database, clock)
    await desk.prepare()
    await desk.publish()
    (lead,) = await desk.leads(1)
    return desk, lead


async def test_who_gives_a_lead_holds_its_contact_first_as_everybody_does(
    postgresql_database: Database, clock: ManualClock
) -> None:
    desk, lead = await _desk(postgresql_database, clock)
    contact = (await desk.fields_of(lead))["contact_id"]
    async with postgresql_database.write(ORG) as tx:
        await hold(tx, [(ORG, contact)])
        giving = asyncio.ensure_future(desk.assign(lead))
        await somebody_waits(postgresql_database)
        await records.update(tx, lead, {"source": "web"}, **WHO)  # who held the lead by now would wait for this
    assert (await giving).member_id == "mem_ada"


async def test_a_lead_that_is_given_away_by_hand_at_that_moment_is_not_given_to_a_third(
    postgresql_database: Database, clock: ManualClock
) -> None:
    desk, lead = await _desk(postgresql_database, clock)
    await desk.assign(lead)
    clock.advance(timedelta(minutes=31))
    async with postgresql_database.write(ORG) as tx:
        await records.update(tx, lead, {"owner_id": "mem_vic"}, **WHO)
        looking = asyncio.ensure_future(rerouting.upkeep(postgresql_database))
        await somebody_waits(postgresql_database)
    assert await looking == 1
    assert (await desk.fields_of(lead))["owner_id"] == "mem_vic"


async def test_a_value_that_comes_back_with_its_record_is_not_taken_by_who_waited(
    postgresql_database: Database, clock: ManualClock
) -> None:
    crm = Records(postgresql_database, clock)
    await crm.field("company", "number", "STRING", unique=True)
    first = await crm.upsert("company", name="First", custom={"number": "N-1"})
    other = await crm.upsert("company", name="Other")
    await crm.delete(first.id)
    async with postgresql_database.write(ORG) as tx:
        await deleting.restore(tx, first.id, **WHO)
        taking = asyncio.ensure_future(crm.update(other.id, {"custom.number": "N-1"}))
        await somebody_waits(postgresql_database)
    with pytest.raises(ValueTaken):
        await taking
