"""Bulk updates: planned, looked at, applied exactly or refused; duplicates: found, told why, dismissed for good."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from grpc.aio import AioRpcError

from dripstone.v1 import approval_pb2, duplicate_pb2, plan_pb2, record_pb2
from dripstone.v1.client import Client
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]


async def _upsert(client: Client, record_type: str, **fields: Any) -> str:
    request = record_pb2.UpsertRecordRequest(type=record_type)
    request.fields.update(fields)
    return (await client.records.UpsertRecord(request)).record.id


async def _plan(client: Client, text: str, **fields: Any) -> plan_pb2.Plan:
    request = record_pb2.PlanBulkUpdateRequest(type="contact", filter=text)
    request.fields.update(fields)
    return await client.records.PlanBulkUpdate(request)


async def test_a_bulk_update_does_exactly_what_was_planned_or_nothing(core: RunningCore) -> None:
    async with core.client() as client:
        people = [
            await _upsert(client, "contact", email=f"p{number}@example.com", city="Rome" if number else "Oslo")
            for number in range(4)
        ]
        await _upsert(client, "contact", email="done@example.com", city="Rome", custom={"plan": "pro"})
        plan = await _plan(client, 'city="Rome"', **{"custom.plan": "pro", "country": "IT"})
        assert (plan.item_count, plan.excluded_count) == (4, 0)
        stale = await _plan(client, 'city="Rome"', **{"custom.plan": "pro"})
        assert (stale.item_count, stale.excluded_count) == (3, 1)
        assert dict(stale.counts) == {"field.custom.plan": 3}
        applied = await client.approvals.ApplyPlan(plan_pb2.ApplyPlanRequest(plan_id=plan.id, plan_hash=plan.hash))
        assert applied.state == plan_pb2.PLAN_STATE_APPLIED
        with pytest.raises(AioRpcError, match="no longer fits"):
            await client.approvals.ApplyPlan(plan_pb2.ApplyPlanRequest(plan_id=stale.id))
        record = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=people[1]))
        assert (record.fields["country"], record.fields["custom"]["plan"]) == ("IT", "pro")
        history = await client.records.ListRecordChanges(record_pb2.ListRecordChangesRequest(record_id=people[1]))
        assert history.changes[0].cause == f"plan:{plan.id}"
        for text, fields in (('city="Rome"', {"email": "x@example.com"}), ("city=", {"city": "Bari"}), ("", {})):
            with pytest.raises(AioRpcError) as refused:
                await _plan(client, text, **fields)
            assert refused.value.code().name == "INVALID_ARGUMENT"
    assert approval_pb2  # the service that applies plans


async def test_opportunities_moved_together_have_what_their_stage_says(core: RunningCore) -> None:
    stages = [
        {"id": "talk", "display_name": "Talk", "probability": 0.2},
        {"id": "won", "display_name": "Won", "probability": 1, "kind": "won"},
    ]
    async with core.client() as client, core.http() as http:
        made = {"pipeline": {"id": "sales", "display_name": "Sales", "stages": stages}}
        assert (await http.post("/api/v1/crm/pipelines", json=made)).status_code < 300
        sale = await _upsert(client, "opportunity", name="Seats", stage_id="talk")
        request = record_pb2.PlanBulkUpdateRequest(type="opportunity", filter="name:*")
        request.fields.update({"stage_id": "nosuch"})
        nowhere = await client.records.PlanBulkUpdate(request)
        assert (nowhere.item_count, nowhere.excluded_count) == (0, 1)
        assert "no such stage" in nowhere.sample_items[0].excluded_reason
        request.fields.update({"stage_id": "won"})
        plan = await client.records.PlanBulkUpdate(request)
        await client.approvals.ApplyPlan(plan_pb2.ApplyPlanRequest(plan_id=plan.id, plan_hash=plan.hash))
        record = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=sale))
        stands = {name: record.fields[name] for name in ("stage_id", "status", "probability")}
        assert stands == {"stage_id": "won", "status": "won", "probability": 1}


async def test_pairs_are_found_told_why_and_dismissed_for_good(core: RunningCore) -> None:
    async with core.client() as client:
        first = await _upsert(client, "contact", email="ada.l@gmail.com", first_name="Ada", last_name="Lovelace")
        core.clock.advance(timedelta(seconds=1))
        second = await _upsert(client, "contact", email="adal+x@gmail.com", first_name="Ada", last_name="Lovelace")
        await _upsert(client, "contact", email="bob@acme.io", first_name="Bob", last_name="Stone")
        for _ in range(20):  # on PostgreSQL, changes are looked at once nobody writes earlier ones
            await core.core.outward.scheduler.turn()
            request = duplicate_pb2.ListDuplicatesRequest(type="contact")
            found = (await client.records.ListDuplicates(request)).duplicates
            if found:
                break
        (pair,) = found
        assert (pair.first_id, pair.second_id) == (first, second)
        assert pair.likeness == 1
        assert [reason.field for reason in pair.reasons][:1] == ["email"]
        core.clock.advance(timedelta(seconds=1))
        third = await _upsert(client, "contact", email="a.dal@googlemail.com", first_name="Ada", last_name="Lovelace")
        at_once = duplicate_pb2.ListDuplicatesRequest(type="contact", record_id=third)
        assert len((await client.records.ListDuplicates(at_once)).duplicates) == 2
        dismissed = await client.records.DismissDuplicate(duplicate_pb2.DismissDuplicateRequest(duplicate_id=pair.id))
        assert dismissed.dismissed
        await _upsert(client, "contact", email="adal+x@gmail.com", city="Rome", phone="+49301234567")
        await core.core.outward.scheduler.turn()
        left = (await client.records.ListDuplicates(request)).duplicates
        assert {(one.first_id, one.second_id) for one in left} == {(first, third), (second, third)}
        await client.records.MergeRecords(record_pb2.MergeRecordsRequest(kept_id=first, merged_id=third))
        await core.core.outward.scheduler.turn()
        assert not (await client.records.ListDuplicates(request)).duplicates
        with pytest.raises(AioRpcError):
            await client.records.ListDuplicates(duplicate_pb2.ListDuplicatesRequest(type="lead"))
