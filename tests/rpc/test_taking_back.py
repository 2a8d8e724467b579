"""Deleting and restoring, the feed of all changes, and taking changes back by id, by cause and by plan."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.domain.errors import EmailTaken, EtagMismatch, Invalid, NotFound, PlanStale, RecordMerged, WrongState
from core.rpc.records import merging, reverting
from core.store.database import Database
from core.store.records import identifiers, records
from core.store.records import reverting as taking_back
from core.store.records.records import RecordUpdate
from core.store.records.reverting import Named
from dripstone.v1 import enrollment_pb2
from dripstone.v1 import record_pb2 as pb
from tests.journeys.following import Story
from tests.rpc.qualifying_calls import ORG
from tests.rpc.record_calls import Records
from tests.running import RunningCore
from tests.store.people import enrolled

pytestmark = pytest.mark.anyio

WAITING = "title: Waiting\nsteps:\n  - {id: later, kind: wait, for: 9d}\n"


@pytest.fixture
def crm(database: Database, clock: ManualClock) -> Records:
    return Records(database, clock)


async def test_what_was_deleted_comes_back_with_its_leads_and_names(crm: Records, database: Database) -> None:
    ada = await crm.upsert("contact", email="ada@example.com", phone="+44 20 7946 0000")
    lead = await crm.upsert("lead", contact_id=ada.id)
    with pytest.raises(EtagMismatch):
        await crm.delete(ada.id, etag='"7"')
    gone = await crm.delete(ada.id, etag=ada.etag, reason="A test")
    assert gone.HasField("delete_time")
    for record_id in (ada.id, lead.id):
        with pytest.raises(NotFound):
            await crm.get(record_id)
    with pytest.raises(WrongState, match="is deleted"):
        await crm.restore(lead.id)
    again = await crm.upsert("contact", email="ada@example.com")
    assert again.id != ada.id
    with pytest.raises(EmailTaken, match=again.id):
        await crm.restore(ada.id)
    await crm.delete(again.id)
    back = await crm.restore(ada.id)
    assert not back.HasField("delete_time")
    assert (await crm.get(lead.id))["contact_id"] == ada.id
    async with database.read(ORG) as tx:
        assert await identifiers.owner(tx, "contact", ("phone", "+442079460000")) == ada.id
    assert [one.field for one in await crm.history(ada.id)][:2] == ["deleted", "deleted"]
    with pytest.raises(WrongState):
        await crm.restore(ada.id)
    with pytest.raises(NotFound):
        await crm.restore("cnt_0")


async def test_a_merged_record_is_neither_deleted_nor_restored(crm: Records) -> None:
    kept = await crm.upsert("contact", email="a@example.com")
    merged = await crm.upsert("contact", email="b@example.com")
    await crm(merging.merge_records, pb.MergeRecordsRequest(kept_id=kept.id, merged_id=merged.id))
    for handled in (crm.delete, crm.restore):
        with pytest.raises(RecordMerged):
            await handled(merged.id)
    (change,) = [one for one in await _changes(crm, merged.id) if one.field == "merged_into"]
    answer = await crm.revert(change.id)
    assert [one.reason for one in answer.conflicts] == ["RECORD_MERGED"]


async def _changes(crm: Records, record_id: str) -> list[pb.RecordChange]:
    asked = pb.ListChangeEventsRequest(record_id=record_id)
    return list((await crm(reverting.list_change_events, asked)).changes)


async def test_deleting_a_contact_ends_what_runs_for_it(core: RunningCore) -> None:
    async with core.client() as client:
        story = Story(client)
        await story.publish("waiting", WAITING)
        (enrollment,) = await story.enroll("waiting", "ada@example.com")
        one = await client.enrollments.GetEnrollment(enrollment_pb2.GetEnrollmentRequest(enrollment_id=enrollment))
        await client.records.DeleteRecord(pb.DeleteRecordRequest(record_id=one.contact_id, validate_only=True))
        assert await story.where(enrollment) == ("active", "later")
        deleted = pb.DeleteRecordRequest(record_id=one.contact_id, request_id="delete-1")
        assert await client.records.DeleteRecord(deleted) == await client.records.DeleteRecord(deleted)
        assert await story.where(enrollment) == ("cancelled", "later")
        await client.records.RestoreRecord(pb.RestoreRecordRequest(record_id=one.contact_id))
        assert await story.where(enrollment) == ("cancelled", "later")


async def test_everything_that_one_cause_did_is_taken_back_but_for_what_changed_since(crm: Records) -> None:
    ada = await crm.upsert("contact", email="ada@example.com", city="London")
    bob = await crm.upsert("contact", email="bob@example.com", city="Rome")
    await crm.update(ada.id, {"city": "Paris", "custom.plan": "pro"}, reason="The big sweep")
    cause = (await crm.history(ada.id))[0].cause
    assert cause.endswith("(The big sweep)")
    await crm.update(ada.id, {"custom.plan": "free"}, by="mem_grace")
    before = await crm.get(ada.id)
    answer = await crm.revert(cause=cause.partition(" (")[0])
    assert (answer.applied, answer.change_count, answer.more) == (True, 1, False)
    (conflict,) = answer.conflicts
    assert (conflict.field, conflict.reason, conflict.changed_by) == ("custom.plan", "CHANGED_SINCE", "mem_grace")
    assert await crm.get(ada.id) == {**before, "city": "London"}
    marked = {one.id: one.reverted_by for one in await crm.history(ada.id)}
    assert answer.changes[0].id in marked.values()
    undone = await crm.revert(answer.changes[0].id)
    assert (undone.conflict_count, await crm.get(ada.id)) == (0, before)
    assert await crm.get(bob.id) == {"email": "bob@example.com", "city": "Rome"}
    with pytest.raises(NotFound, match="no change chg_0"):
        await crm.revert("chg_0")
    with pytest.raises(Invalid, match="exactly one"):
        await crm.revert()


async def test_records_go_with_the_cause_that_made_them_and_come_back(crm: Records) -> None:
    made = await crm.upsert("contact", email="ada@example.com")
    cause = (await crm.history(made.id))[0].cause
    gone = await crm.revert(cause=cause)
    assert [one.field for one in gone.changes] == ["deleted"]
    with pytest.raises(NotFound):
        await crm.get(made.id)
    again = await crm.upsert("contact", email="ada@example.com")
    taken = await crm.revert(gone.changes[0].id)
    assert [(one.field, one.reason) for one in taken.conflicts] == [("deleted", "VALUE_TAKEN")]
    await crm.delete(again.id)
    back = await crm.revert(gone.changes[0].id)
    assert (back.conflict_count, await crm.get(made.id)) == (0, {"email": "ada@example.com"})


async def test_what_an_enrollment_did_is_found_after_a_merge_and_a_change_of_company(
    crm: Records, database: Database
) -> None:
    firm = await crm.upsert("company", name="Acme")
    ada = await crm.upsert("contact", email="ada@example.com", company_id=firm.id)
    kept = await crm.upsert("contact", email="kept@example.com")
    async with database.write(ORG) as tx:
        enrollment = await enrolled(tx, ada.id, "nurture")
        by = {"actor": "workflow:nurture", "cause": f"enrollment:{enrollment}/4"}
        updates = [RecordUpdate(ORG, one.id, {"city": "Rome"}, **by) for one in (ada, firm)]
        await records.apply_updates(tx, updates)
    await crm.update(ada.id, {"company_id": None})
    await crm(merging.merge_records, pb.MergeRecordsRequest(kept_id=kept.id, merged_id=ada.id))
    taken = await crm.revert(cause=f"enrollment:{enrollment}")
    assert [(one.record_id, one.field) for one in taken.changes] == [(firm.id, "city")]
    assert [(one.record_id, one.field) for one in taken.conflicts] == [(ada.id, "city")]  # it is part of another now


async def test_a_value_that_somebody_else_has_by_now_stays_away(crm: Records, database: Database) -> None:
    ada = await crm.upsert("contact", email="ada@example.com")
    await crm.update(ada.id, {"email": "ada@work.example"})
    (change,) = [one for one in await crm.history(ada.id) if one.old_value.string_value == "ada@example.com"]
    bob = await crm.upsert("contact", email="ada@example.com")
    answer = await crm.revert(change.id)
    assert [(one.reason, one.changed_by) for one in answer.conflicts] == [("VALUE_TAKEN", bob.id)]
    assert (await crm.get(ada.id))["email"] == "ada@work.example"
    await crm.delete(bob.id)
    async with database.write(ORG) as tx:
        found = await taking_back.look(tx, Named(frozenset([change.id])), [ada.id])
        eve = await records.upsert(tx, "contact", {"email": "ada@example.com"}, actor="key_1", cause="call:1")
        with pytest.raises(EmailTaken, match=eve.record.id):  # taken between looking and writing
            await taking_back.carry_out(tx, found, actor="key_1", cause="call:2")


async def test_a_previewed_revert_is_carried_out_exactly_or_not_at_all(crm: Records) -> None:
    ada = await crm.upsert("contact", email="ada@example.com", city="London")
    await crm.update(ada.id, {"city": "Paris"})
    change = (await crm.history(ada.id))[0]
    preview = await crm.revert(change.id, preview=True)
    assert (preview.applied, [one.new_value.string_value for one in preview.changes]) == (False, ["London"])
    assert (await crm.get(ada.id))["city"] == "Paris"
    await crm.update(ada.id, {"country": "FR"})
    with pytest.raises(PlanStale):
        await crm.revert(plan_id=preview.plan_id)
    preview = await crm.revert(cause=change.cause, preview=True)
    done = await crm.revert(plan_id=preview.plan_id)
    assert (done.applied, (await crm.get(ada.id))["city"]) == (True, "London")
    assert done.changes[0].cause == f"plan:{preview.plan_id}"
    with pytest.raises(WrongState):
        await crm.revert(plan_id=preview.plan_id)


async def test_the_feed_of_changes_is_read_in_pages_and_goes_on(crm: Records, clock: ManualClock) -> None:
    await crm.upsert("contact", email="ada@example.com", city="London")
    seen, token = await crm.events(page_size=1)
    more, token = await crm.events(token, page_size=5)
    assert seen + more == ["contact.city", "contact.email"]
    assert await crm.events(token) == ([], token)
    clock.advance(timedelta(days=-1))  # clocks go wrong, and ids begin with their time
    await crm.upsert("company", name="Late")
    assert (await crm.events(token))[0] == ["company.name"]
    assert (await crm.events(record_type="company"))[0] == ["company.name"]


async def test_a_change_that_is_committed_late_is_not_missed(postgresql_database: Database, clock: ManualClock) -> None:
    crm = Records(postgresql_database, clock)
    first = await crm.upsert("company", name="First")
    seen: list[str] = []
    token = ""
    wrote, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with postgresql_database.write(ORG) as tx:
            await records.update(tx, first.id, {"city": "Rome"}, actor="slow", cause="slow")
            wrote.set()
            await go_on.wait()

    running = asyncio.create_task(slow())
    await wrote.wait()
    await crm.upsert("company", name="Second")
    some, token = await crm.events(token)
    seen += some
    assert seen == ["company.name"]  # the second stands after one that still runs
    go_on.set()
    await running
    some, token = await crm.events(token)
    assert sorted(seen + some) == ["company.city", "company.name", "company.name"]
