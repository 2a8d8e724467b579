"""Salesforce in step with the core: sessions, pages, collections, errors of single records, the limit of a day."""

from __future__ import annotations

from datetime import timedelta

import pytest

from dripstone.v1 import system_pb2
from tests.running import RunningCore
from tests.systems.fixtures import BOTH, PULL, PUSH, linked_to_salesforce

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what is not about the store."""

SUCCEEDED, WAITING = system_pb2.SYNC_STATE_SUCCEEDED, system_pb2.SYNC_STATE_WAITING


async def test_leads_there_and_contacts_here_stay_in_step(core: RunningCore) -> None:
    async with linked_to_salesforce(core) as linked:
        people = [{"LastName": f"Person {n}", "Company": "Acme", "Email": f"p{n}@example.com"} for n in range(25)]
        linked.fake.page = 10
        linked.fake.seed("Lead", people)
        checked = await linked.client.connections.CheckConnection(
            system_pb2.CheckConnectionRequest(connection_id=linked.connection.id)
        )
        assert (checked.ok, checked.account) == (True, "Stand-in Ltd")
        assert checked.rate_limit_left == 14_999
        pulled = await linked.sync(PULL)
        assert (pulled.state, pulled.pulled_count) == (SUCCEEDED, 25)  # more than one page
        core.clock.advance(timedelta(minutes=31))  # the session has ended meanwhile
        await linked.upsert(email="p7@example.com", employees=70)
        await linked.upsert(email="new@example.com", last_name="New", company_name="Borealis")
        pushed = await linked.sync(PUSH)
        assert (pushed.state, pushed.pushed_count, pushed.failed_count) == (SUCCEEDED, 2, 0)
        there = {one["Email"]: one for one in linked.there("Lead")}
        assert there["p7@example.com"]["NumberOfEmployees"] == 70
        assert there["new@example.com"]["Dripstone_Id__c"].startswith("cnt_")
        assert len(there) == 26
        core.clock.advance(timedelta(minutes=5))
        again = await linked.sync(BOTH)
        assert (again.state, again.pulled_count, again.pushed_count, again.failed_count) == (SUCCEEDED, 0, 0, 0)


@ON_SQLITE
async def test_a_lost_answer_makes_no_second_lead_and_a_bad_one_stops_no_other(core: RunningCore) -> None:
    async with linked_to_salesforce(core) as linked:
        await linked.upsert(email="one@example.com", last_name="One", company_name="Acme")
        await linked.upsert(email="two@example.com", first_name="Two")  # no family name, no company
        await linked.upsert(email="odd'name@example.com", last_name="O'Dd", company_name="Acme")
        linked.fake.watch.faults.add("timeout-after-commit@composite/sobjects*2")
        sync = await linked.sync(PUSH)
        assert sync.state == WAITING
        await core.pass_time(timedelta(seconds=30))
        sync = await linked.get(sync.id)
        assert (sync.state, sync.failed_count) == (SUCCEEDED, 1)
        (failed,) = [item for item in await linked.items(sync) if item.outcome == "failed"]
        assert failed.error == "Required fields are missing: [LastName, Company] (REQUIRED_FIELD_MISSING)"
        assert failed.hint == "Map LastName, Company, or give it a value here."
        assert len(linked.there("Lead")) == 2


@ON_SQLITE
async def test_the_limit_of_a_day_holds_a_sync(core: RunningCore) -> None:
    async with linked_to_salesforce(core) as linked:
        linked.fake.day.most = 0
        sync = await linked.sync(PULL)
        assert (sync.state, sync.wait_reason) == (WAITING, "Salesforce's limit of calls a day is reached")
        linked.fake.day.most = 100
        await core.pass_time(timedelta(hours=1))
        assert (await linked.get(sync.id)).state == SUCCEEDED
