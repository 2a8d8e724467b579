"""Keys with limits: the same answer on every surface, hidden fields nowhere, and refusals that say what is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

import pytest

from dripstone.v1 import (
    agent_pb2,
    enrollment_pb2,
    event_pb2,
    plan_pb2,
    qualification_pb2,
    record_pb2,
    webhook_pb2,
    workflow_pb2,
)
from dripstone.v1 import organization_pb2 as pb
from dripstone.v1.client import Client
from tests.receiver import Receiver
from tests.rpc.control_calls import new_key, refused
from tests.running import RunningCore
from tests.story import Told, tell

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]
SOURCE = "title: F\nsteps: [{id: done, kind: exit, reason: done}]"
GATE = "title: G\nentry: {when: contact.phone == 'x'}\nsteps: [{id: done, kind: exit, reason: done}]"


@pytest.fixture
async def client(core: RunningCore) -> AsyncIterator[Client]:
    async with core.client() as opened:
        yield opened


@pytest.fixture
async def contact(client: Client) -> record_pb2.Record:
    fields = {
        "email": "ada@example.com",
        "phone": "+4930123456",
        "first_name": "Ada",
        "custom": {"plan": "pro", "seats": 3},
    }
    return (await client.records.UpsertRecord(record_pb2.UpsertRecordRequest(type="contact", fields=fields))).record


async def limited(client: Client, core: RunningCore, **limits: Sequence[str]) -> Client:
    """Return a client whose key has every scope and these limits."""
    return core.client((await new_key(client, limits=pb.KeyLimits(**limits))).secret)


async def test_only_writable_fields_are_written_by_whatever_call(
    core: RunningCore, client: Client, contact: record_pb2.Record
) -> None:
    async with await limited(client, core, writable_fields=["contact.job_title", "contact.custom.plan"]) as key:
        update = record_pb2.UpdateRecordRequest(
            record_id=contact.id, fields={"job_title": "CTO", "custom.plan": "free"}
        )
        changed = await key.records.UpdateRecord(update)
        assert changed.record.fields["job_title"] == "CTO"
        refusals: list[tuple[Any, Any, list[str]]] = [
            (
                key.records.UpdateRecord,
                record_pb2.UpdateRecordRequest(
                    record_id=contact.id, fields={"city": "Rome", "job_title": "x", "custom": {"seats": 1}},
                    update_mask={"paths": ["job_title", "first_name"]},
                ),
                ["fields.city", "fields.custom.seats", "update_mask.paths[1]"],
            ),
            (
                key.records.UpsertRecord,
                record_pb2.UpsertRecordRequest(type="lead", fields={"tier": "A"}),
                ["fields.tier"],
            ),
            (
                key.records.PlanBulkUpdate,
                record_pb2.PlanBulkUpdateRequest(type="contact", filter='city = "x"', fields={"city": "y"}),
                ["fields.city"],
            ),
            (
                key.qualification.QualifyLead,
                qualification_pb2.QualifyLeadRequest(email="ada@example.com", fields={"city": "Rome"}),
                ["fields.city"],
            ),
            (
                key.enrollments.EnrollContacts,
                enrollment_pb2.EnrollContactsRequest(
                    workflow_id="none",
                    contacts=[{"email": "a@b.example"}, {"email": "a@b.example", "first_name": "A"}],
                ),
                ["contacts[1].first_name"],
            ),
            (
                key.events.IngestEvent,
                event_pb2.IngestEventRequest(
                    event={"event_type": "lead", "event_name": "x", "source_id": "s", "fields": {"city": "R", "sum": 1}}
                ),
                ["event.fields.city"],
            ),
        ]  # fmt: skip
        for call, request, fields in refusals:
            with refused("KEY_LIMITED") as told:
                await call(request)
            assert sorted(one.field for one in told.error.violations) == sorted(fields)
            assert "contact.job_title" in told.error.message, "what it may is told"
            assert "admin" in told.error.hint, "and who can change it"
        for call, request in (
            (key.records.DeleteRecord, record_pb2.DeleteRecordRequest(record_id=contact.id)),
            (key.records.RevertChanges, record_pb2.RevertChangesRequest(cause="x")),
        ):
            with refused("KEY_LIMITED"):
                await call(request)
    async with core.http((await new_key(client, limits=pb.KeyLimits(writable_fields=["contact.city"]))).secret) as http:
        answer = await http.patch(f"/api/v1/crm/records/{contact.id}", json={"fields": {"first_name": "Eve"}})
        assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "KEY_LIMITED")


async def test_hidden_fields_are_in_no_answer_and_no_question(
    core: RunningCore, client: Client, contact: record_pb2.Record
) -> None:
    await client.records.UpdateRecord(
        record_pb2.UpdateRecordRequest(record_id=contact.id, fields={"phone": "+4930999999", "first_name": ""})
    )
    hidden = ["contact.email", "contact.phone", "contact.custom.plan"]
    async with await limited(client, core, hidden_fields=hidden) as key:
        seen = await key.records.GetRecord(record_pb2.GetRecordRequest(record_id=contact.id))
        assert set(seen.fields) == {"custom"}
        assert dict(seen.fields["custom"]) == {"seats": 3}
        assert seen.title == "", "a title that is made of what is hidden"
        listed = await key.records.ListRecords(record_pb2.ListRecordsRequest(type="contact", filter="custom.seats = 3"))
        history = await key.records.ListRecordChanges(record_pb2.ListRecordChangesRequest(record_id=contact.id))
        events = await key.records.ListChangeEvents(record_pb2.ListChangeEventsRequest())
        changed = await key.records.UpdateRecord(
            record_pb2.UpdateRecordRequest(record_id=contact.id, fields={"city": "Rome"}, request_id="one")
        )
        again = await key.records.UpdateRecord(
            record_pb2.UpdateRecordRequest(record_id=contact.id, fields={"city": "Rome"}, request_id="one")
        )
        for answer in (listed, history, events, changed, again):
            for value in ("ada@example.com", "4930", '"pro"'):
                assert value not in str(answer)
        assert {change.field for change in history.changes} >= {"first_name", "custom.seats"}
        found = await key.records.FindRecords(record_pb2.FindRecordsRequest(query="ada@example.com"))
        assert list(found.results) == []
        for request in (
            record_pb2.ListRecordsRequest(type="contact", filter='email = "ada@example.com"'),
            record_pb2.ListRecordsRequest(type="contact", filter='city = "email" OR NOT custom.plan:*'),
            record_pb2.ListRecordsRequest(type="contact", order_by="phone"),
        ):
            with refused("KEY_LIMITED"):
                await key.records.ListRecords(request)
        await key.records.ListRecords(record_pb2.ListRecordsRequest(type="contact", filter='city = "email"'))
        with refused("KEY_LIMITED"):
            await key.records.ListSuppressions(record_pb2.ListSuppressionsRequest(filter='address = "a@b.example"'))
        with refused("KEY_LIMITED"):
            await key.qualification.QualifyLead(qualification_pb2.QualifyLeadRequest(email="ada@example.com"))


async def test_no_workflow_tells_what_its_key_does_not_see(
    core: RunningCore, client: Client, contact: record_pb2.Record
) -> None:
    create = workflow_pb2.CreateWorkflowRequest(workflow_id="gate", source=GATE, publish=True)
    await client.workflows.CreateWorkflow(create)
    enroll = enrollment_pb2.EnrollContactsRequest(
        workflow_id="gate", contacts=[{"contact_id": contact.id}], validate_only=True
    )
    execute = agent_pb2.ExecuteWorkflowRequest(workflow_id="gate", input={"contact_id": contact.id}, validate_only=True)
    stored = workflow_pb2.SimulateWorkflowRequest(source=GATE)
    one = workflow_pb2.SimulateWorkflowRequest(source=GATE, contacts={"contact_ids": [contact.id]})
    events = workflow_pb2.SimulateWorkflowRequest(
        source=GATE, contacts={"records": [{"id": contact.id}]}, recorded="30d"
    )
    own = workflow_pb2.SimulateWorkflowRequest(source=GATE, contacts={"records": [{"phone": "+49301111111"}]})
    with refused("NOT_ENROLLED") as told:
        await client.agents.ExecuteWorkflow(execute)
    assert "+4930123456" in told.error.message, "who sees it is told"
    async with await limited(client, core, hidden_fields=["contact.phone"]) as key:
        answer = await key.enrollments.EnrollContacts(enroll)
        assert answer.results[0].reason == "ENTRY_CONDITION"
        with refused("NOT_ENROLLED") as told:
            await key.agents.ExecuteWorkflow(execute)
        assert "4930" not in f"{answer}{told.error}{told.error.message}"
    cases: list[tuple[str, dict[str, Any]]] = [
        ("KEY_LIMITED", {"limits": pb.KeyLimits(hidden_fields=["contact.phone"])}),
        ("KEY_LIMITED", {"limits": pb.KeyLimits(record_types=["company"])}),
        ("KEY_LIMITED", {"limits": pb.KeyLimits(record_types=["contact", "company"])}),  # and the lead of a contact
        ("SCOPE_MISSING", {"scopes": ["workflows:read"]}),
    ]
    for reason, narrowed in cases:
        async with core.client((await new_key(client, **narrowed)).secret) as key:
            for request in (stored, one, events):
                with refused(reason):
                    await key.workflows.SimulateWorkflow(request)
            assert "+49301111111" in str(await key.workflows.SimulateWorkflow(own))
    known = workflow_pb2.SimulateWorkflowRequest(workflow_id="gate", contacts={"contact_ids": [contact.id]})
    async with core.client((await new_key(client, scopes=["workflows:read", "records:read"])).secret) as key:
        with refused("SCOPE_MISSING") as told:
            await key.workflows.SimulateWorkflow(known)
        assert "fresh" in told.error.message
        known.fresh = True
        assert (await key.workflows.SimulateWorkflow(known)).exclusions[0].reason == "ENTRY_CONDITION"


async def test_nothing_of_the_whole_story_shows_what_is_hidden(
    core: RunningCore, receiver: Receiver, client: Client
) -> None:
    told: Told = await tell(core, receiver.url, "zebra")
    hidden = ["contact.email", "contact.first_name", "contact.job_title"]
    async with await limited(client, core, hidden_fields=hidden) as key:
        answers = [
            await key.records.ListRecords(record_pb2.ListRecordsRequest(type="contact")),
            await key.events.ListEvents(event_pb2.ListEventsRequest()),
            await key.enrollments.ExplainEnrollment(
                enrollment_pb2.ExplainEnrollmentRequest(enrollment_id=told.enrollment_id)
            ),
            await key.webhooks.ListDeliveries(webhook_pb2.ListDeliveriesRequest()),
            await key.records.ListSuppressions(record_pb2.ListSuppressionsRequest()),
            await key.records.ListIdentityConflicts(record_pb2.ListIdentityConflictsRequest()),
            await key.events.ListQuarantined(event_pb2.ListQuarantinedRequest()),
            await key.qualification.QualifyLead(qualification_pb2.QualifyLeadRequest(lead_id=told.lead_id)),
        ]
        for answer in answers:
            assert "zebra@example.com" not in str(answer), type(answer)
            assert "Head of Sales" not in str(answer), type(answer)


async def test_only_records_of_its_types_are_there(
    core: RunningCore, client: Client, contact: record_pb2.Record
) -> None:
    company = (
        await client.records.UpsertRecord(record_pb2.UpsertRecordRequest(type="company", fields={"name": "Acme"}))
    ).record
    async with await limited(client, core, record_types=["company"]) as key:
        await key.records.GetRecord(record_pb2.GetRecordRequest(record_id=company.id))
        events = await key.records.ListChangeEvents(record_pb2.ListChangeEventsRequest())
        assert {change.record_id for change in events.changes} == {company.id}
        for call, request in (
            (key.records.GetRecord, record_pb2.GetRecordRequest(record_id=contact.id)),
            (key.records.ListRecords, record_pb2.ListRecordsRequest(type="contact")),
            (key.records.UpdateRecord, record_pb2.UpdateRecordRequest(record_id=contact.id, fields={"city": "x"})),
            (key.records.GetConsent, record_pb2.GetConsentRequest(contact_id=contact.id)),
            (
                key.events.IngestEvent,
                event_pb2.IngestEventRequest(
                    event={"event_type": "lead", "event_name": "x", "source_id": "s", "fields": {"a": 1}}
                ),
            ),
        ):
            with refused("KEY_LIMITED") as told:
                await call(request)
            assert "company" in told.error.message
        # What names no type could be about any.
        for call, request in (
            (key.records.RevertChanges, record_pb2.RevertChangesRequest(cause="import:imp_1")),
            (key.records.UndoMerge, record_pb2.UndoMergeRequest(merge_id="mrg_1")),
        ):
            with refused("KEY_LIMITED"):
                await call(request)


async def test_only_its_workflows_are_enrolled_in_paused_or_changed(core: RunningCore, client: Client) -> None:
    await client.organization.CreateProject(pb.CreateProjectRequest(project_id="own", display_name="Own"))
    for workflow_id, project_id in (("mine", "own"), ("other", "")):
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(
                workflow_id=workflow_id, source=SOURCE, project_id=project_id, publish=True
            )
        )
    ada = [{"email": "ada@example.com"}]
    (enrolled,) = (
        await client.enrollments.EnrollContacts(enrollment_pb2.EnrollContactsRequest(workflow_id="other", contacts=ada))
    ).enrollment_ids
    for limits in ({"project_ids": ["own"]}, {"workflow_ids": ["mine"]}):
        async with await limited(client, core, **limits) as key:
            await key.enrollments.EnrollContacts(enrollment_pb2.EnrollContactsRequest(workflow_id="mine", contacts=ada))
            await key.workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id="other"))
            for call, request in (
                (
                    key.enrollments.EnrollContacts,
                    enrollment_pb2.EnrollContactsRequest(workflow_id="other", contacts=ada),
                ),
                (key.workflows.PauseWorkflow, workflow_pb2.PauseWorkflowRequest(workflow_id="other")),
                (key.workflows.MoveWorkflow, workflow_pb2.MoveWorkflowRequest(workflow_id="other", project_id="own")),
                (
                    key.workflows.CreateWorkflow,
                    workflow_pb2.CreateWorkflowRequest(workflow_id="new", source=SOURCE),
                ),
                (
                    key.enrollments.CancelEnrollment,
                    enrollment_pb2.CancelEnrollmentRequest(enrollment_id=enrolled),
                ),
                (key.enrollments.RedriveDeadLetters, enrollment_pb2.RedriveDeadLettersRequest()),
            ):
                with refused("KEY_LIMITED"):
                    await call(request)
    async with await limited(client, core, project_ids=["own"]) as key:
        await key.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="new", source=SOURCE, project_id="own")
        )
        with refused("KEY_LIMITED"):
            await key.workflows.MoveWorkflow(workflow_pb2.MoveWorkflowRequest(workflow_id="mine"))


async def test_a_limited_key_applies_only_what_it_planned_itself(
    core: RunningCore, client: Client, contact: record_pb2.Record
) -> None:
    request = record_pb2.PlanBulkUpdateRequest(
        type="contact", filter="custom.seats = 3", fields={"city": "Rome"}, trigger_behaviour=1
    )
    theirs = await client.records.PlanBulkUpdate(request)
    async with await limited(client, core, writable_fields=["contact.city"]) as key:
        with refused("KEY_LIMITED"):
            await key.approvals.ApplyPlan(plan_pb2.ApplyPlanRequest(plan_id=theirs.id))
        commit = qualification_pb2.QUALIFY_MODE_COMMIT
        with refused("KEY_LIMITED"):  # nor by the other method that carries plans out
            await key.qualification.QualifyLead(qualification_pb2.QualifyLeadRequest(plan_id=theirs.id, mode=commit))
        own = await key.records.PlanBulkUpdate(request)
        assert own.item_count == 1


async def test_a_stream_is_not_taken_from_a_key_whose_fields_matter(core: RunningCore, client: Client) -> None:
    async with await limited(client, core, hidden_fields=["contact.email"]) as key:
        with refused("KEY_LIMITED"):
            async for _ in key.events.StreamEvents(iter([event_pb2.StreamEventsRequest()])):
                pass


async def test_a_new_limit_holds_with_the_next_call(
    core: RunningCore, client: Client, contact: record_pb2.Record
) -> None:
    made = await new_key(client)
    async with core.client(made.secret) as key:
        await key.records.GetRecord(record_pb2.GetRecordRequest(record_id=contact.id))
        await client.organization.UpdateApiKey(
            pb.UpdateApiKeyRequest(api_key_id=made.api_key.id, api_key={"limits": {"record_types": ["lead"]}})
        )
        with refused("KEY_LIMITED"):
            await key.records.GetRecord(record_pb2.GetRecordRequest(record_id=contact.id))
        core.clock.advance(timedelta(minutes=1))
        assert (await key.organization.GetCaller(pb.GetCallerRequest())).limits.record_types == ["lead"]
