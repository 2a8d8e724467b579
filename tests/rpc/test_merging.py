"""Merges through the API: what is waited for goes on, what was asked is asked again, and conflicts are settled."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from grpc.aio import AioRpcError

from dripstone.v1 import approval_pb2, enrollment_pb2, event_pb2, record_pb2, webhook_pb2
from dripstone.v1.client import Client
from tests.journeys.following import Story
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

WAITING = """
title: Waiting
triggers:
  - record: contact
steps:
  - {id: reply, kind: wait_for_event, event: reply.received, timeout: 3d}
  - {id: thanks, kind: wait, for: 9d}
"""
ASKING = """
title: Asking
steps:
  - {id: agree, kind: approval, title: "Go on?", timeout: 2d, exits: {rejected: over, timeout: over}}
  - {id: later, kind: wait, for: 9d}
  - {id: over, kind: exit, reason: over}
"""
TELLING = """
title: Telling
steps:
  - {id: mail, kind: message, await: true, subject: Hi, text: Hello, exits: {sent: later, failed: later}}
  - {id: later, kind: wait, for: 1d}
  - {id: tell, kind: webhook, event_type: desk.asked, await: true, exits: {delivered: over, failed: over}}
  - {id: over, kind: wait, for: 9d}
"""


async def _contact(client: Client, email: str, **fields: Any) -> str:
    request = record_pb2.UpsertRecordRequest(type="contact")
    request.fields.update({"email": email, **fields})
    return (await client.records.UpsertRecord(request)).record.id


async def _merge(client: Client, kept: str, merged: str, **more: Any) -> record_pb2.Merge:
    return await client.records.MergeRecords(record_pb2.MergeRecordsRequest(kept_id=kept, merged_id=merged, **more))


async def test_an_enrollment_goes_on_as_the_kept_contacts_and_its_events_find_it(core: RunningCore) -> None:
    async with core.client() as client:
        story = Story(client)
        await story.begin()
        kept, merged = (
            await _contact(client, "ada@example.com"),
            await _contact(client, "ada@work.example", city="Rome"),
        )
        await story.publish("waiting", WAITING.replace("triggers:\n  - record: contact\n", ""))
        (enrollment,) = await story.enroll("waiting", "ada@work.example")
        told = await _merge(client, kept, merged, validate_only=True)
        assert (dict(told.moved_counts)["enrollments"], list(told.filled_fields)) == (1, ["city"])
        assert (await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=merged))).id == merged
        merge = await _merge(client, kept, merged, request_id="merge-1")
        assert await _merge(client, kept, merged, request_id="merge-1") == merge
        with pytest.raises(AioRpcError, match=f"{merged} is part of {kept} now"):
            await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=merged))
        await story.event("reply.received", "ada@example.com")
        await core.settle()
        assert await story.where(enrollment) == ("active", "thanks")
        listed = await client.records.ListRecords(record_pb2.ListRecordsRequest(type="contact"))
        assert [record.id for record in listed.records] == [kept]
        undone = await client.records.UndoMerge(record_pb2.UndoMergeRequest(merge_id=merge.id))
        assert (list(undone.conflicts), undone.HasField("undo_time")) == ([], True)
        one = await client.enrollments.GetEnrollment(enrollment_pb2.GetEnrollmentRequest(enrollment_id=enrollment))
        assert one.contact_id == merged
        merges = await client.records.ListMerges(record_pb2.ListMergesRequest(record_id=merged))
        assert list(merges.merges) == [undone]


async def test_what_an_ended_enrollment_asked_is_asked_again_once_the_merge_is_undone(core: RunningCore) -> None:
    async with core.client() as client, core.client(core.approver_api_key) as person:
        story = Story(client)
        kept, merged = await _contact(client, "ada@example.com"), await _contact(client, "bob@example.com")
        await story.publish("asking", ASKING)
        own, other = await story.enroll("asking", "ada@example.com", "bob@example.com")
        merge = await _merge(client, kept, merged)
        assert await story.where(own) == ("awaiting_approval", "agree")
        assert await story.where(other) == ("cancelled", "agree")
        pending = approval_pb2.ListApprovalsRequest(filter='state = "pending"')
        assert [one.subject_id for one in (await client.approvals.ListApprovals(pending)).approvals] == [own]
        await client.records.UndoMerge(record_pb2.UndoMergeRequest(merge_id=merge.id))
        again = {one.subject_id: one.id for one in (await client.approvals.ListApprovals(pending)).approvals}
        assert set(again) == {own, other}
        await person.approvals.DecideApproval(
            approval_pb2.DecideApprovalRequest(
                approval_id=again[other], decision=approval_pb2.APPROVAL_DECISION_APPROVE
            )
        )
        await core.settle()
        assert await story.where(other) == ("active", "later")


async def test_an_outcome_that_came_while_the_merge_stood_is_told_once_it_is_undone(core: RunningCore) -> None:
    async with core.client() as client:
        story = Story(client)
        kept, merged = await _contact(client, "ada@example.com"), await _contact(client, "bob@example.com")
        pull = webhook_pb2.CreateEndpointRequest(kind=webhook_pb2.ENDPOINT_KIND_PULL, event_types=["desk.asked"])
        endpoint = (await client.webhooks.CreateEndpoint(pull)).endpoint.id
        await story.publish("telling", TELLING)
        _, other = await story.enroll("telling", "ada@example.com", "bob@example.com")
        merge = await _merge(client, kept, merged)
        await core.settle()  # the message ends here, and its enrollment is over
        await client.records.UndoMerge(record_pb2.UndoMergeRequest(merge_id=merge.id))
        assert await story.where(other) == ("active", "later")
        await core.pass_time(timedelta(days=1))
        assert await story.where(other) == ("active", "tell")
        again = await _merge(client, kept, merged)
        await client.webhooks.DeleteEndpoint(webhook_pb2.DeleteEndpointRequest(endpoint_id=endpoint))
        await core.settle()
        assert await story.where(other) == ("cancelled", "tell")
        await client.records.UndoMerge(record_pb2.UndoMergeRequest(merge_id=again.id))
        assert await story.where(other) == ("active", "over")


async def test_a_merge_starts_no_workflow(core: RunningCore) -> None:
    async with core.client() as client:
        story = Story(client)
        kept, merged = await _contact(client, "ada@example.com"), await _contact(client, "bob@example.com", city="Rome")
        await story.publish("waiting", WAITING)
        merge = await _merge(client, kept, merged)
        await client.records.UndoMerge(record_pb2.UndoMergeRequest(merge_id=merge.id))
        await core.settle()
        request = enrollment_pb2.ListEnrollmentsRequest(filter='workflow_id = "waiting"')
        assert not (await client.enrollments.ListEnrollments(request)).enrollments


async def test_whoever_names_a_merged_contact_is_told_where_it_went(core: RunningCore) -> None:
    async with core.client() as client:
        story = Story(client)
        await story.publish("asking", ASKING)
        kept, merged = await _contact(client, "ada@example.com"), await _contact(client, "bob@example.com")
        await _merge(client, kept, merged)
        lead = record_pb2.UpsertRecordRequest(type="lead")
        lead.fields.update({"contact_id": merged})
        asked: dict[str, Any] = {
            "GetConsent": client.records.GetConsent(record_pb2.GetConsentRequest(contact_id=merged)),
            "SetConsent": client.records.SetConsent(record_pb2.SetConsentRequest(contact_id=merged, granted=False)),
            "UpsertRecord": client.records.UpsertRecord(lead),
            "ChangeListMembers": client.records.ChangeListMembers(
                record_pb2.ChangeListMembersRequest(list="vip", add_contact_ids=[merged])
            ),
            "WhyNot": client.enrollments.WhyNot(enrollment_pb2.WhyNotRequest(workflow_id="asking", contact_id=merged)),
        }
        for name, call in asked.items():
            with pytest.raises(AioRpcError) as refused:
                await call
            assert f"{merged} is part of {kept} now" in str(refused.value.details()), name


async def test_conflicts_are_listed_and_settled(core: RunningCore) -> None:
    async with core.client() as client:
        await Story(client).begin()
        ada, bob = [await _seen(client, person_id=name, email=f"{name}@example.com") for name in ("ada", "bob")]
        await _seen(client, person_id="bob", email="ada@example.com")
        (conflict,) = await _conflicts(client)
        assert (conflict.chosen_id, conflict.other_id, conflict.kind, conflict.value) == (ada, bob, "person_id", "bob")
        settled = await _resolve(client, conflict.id, record_pb2.CONFLICT_RESOLUTION_MERGE)
        merge = (await client.records.ListMerges(record_pb2.ListMergesRequest())).merges[0]
        assert (settled.state, settled.merge_id, merge.cause) == ("merged", merge.id, f"conflict:{conflict.id}")
        with pytest.raises(AioRpcError, match="is merged; that does not allow"):
            await _resolve(client, conflict.id, record_pb2.CONFLICT_RESOLUTION_KEEP_APART)
        await client.records.UndoMerge(record_pb2.UndoMergeRequest(merge_id=merge.id))
        settled = await _resolve(client, conflict.id, record_pb2.CONFLICT_RESOLUTION_KEEP_APART)
        assert settled.state == "kept_apart"
        assert await _conflicts(client, 'state = "open"') == []
        with pytest.raises(AioRpcError, match="resolution: is required"):
            await _resolve(client, conflict.id, record_pb2.CONFLICT_RESOLUTION_UNSPECIFIED)


async def _seen(client: Client, *, person_id: str, email: str) -> str:
    event = event_pb2.EventInput(event_type="action", event_name="seen", source_id="app", person_id=person_id)
    event.fields.update({"email": email})
    return (await client.events.IngestEvent(event_pb2.IngestEventRequest(event=event))).contact_id


async def _conflicts(client: Client, text: str = "") -> list[record_pb2.IdentityConflict]:
    request = record_pb2.ListIdentityConflictsRequest(filter=text)
    return list((await client.records.ListIdentityConflicts(request)).conflicts)


async def _resolve(client: Client, conflict: str, how: Any) -> record_pb2.IdentityConflict:
    request = record_pb2.ResolveIdentityConflictRequest(conflict_id=conflict, resolution=how)
    return await client.records.ResolveIdentityConflict(request)
