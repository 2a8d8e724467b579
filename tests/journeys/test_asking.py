"""What people and agents ask of workflows: what would happen, why not, what is there to do; over gRPC and HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import grpc
import pytest
from sqlalchemy import func, select

from core.store.metadata import metadata
from core.store.transaction import EVERY_ORGANIZATION
from dripstone.v1 import agent_pb2, record_pb2, workflow_pb2
from dripstone.v1 import enrollment_pb2 as pb
from dripstone.v1.client import ApiError
from tests.journeys.following import Story
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

CARE = """
title: Care
entry:
  when: contact.job_title != "Intern"
  suppress_lists: [competitors]
steps:
  - {id: pause, kind: wait, for: 2d}
  - {id: hello, kind: message, channel: dm, to: "@{{ contact.first_name }}", text: Hello}
  - id: think
    kind: agent_task
    title: "What next for {{ contact.email }}?"
    instructions: Read the contact and say the next step.
    input: {stage: "{{ contact.lifecycle_stage }}"}
    output_schema:
      type: object
      properties: {next: {type: string, enum: [call, wait]}, sure: {type: number}}
      required: [next]
      additionalProperties: false
    timeout: 3d
    exits: {timeout: end}
  - id: by_answer
    kind: branch
    cases: [{name: call, when: 'steps.think.next == "call"'}]
    exits: {call: called, else: end}
  - {id: called, kind: list, add: [to-call]}
"""


@pytest.fixture
async def story(core: RunningCore) -> AsyncIterator[Story]:
    async with core.client() as client:
        told = Story(client)
        await told.begin()
        await told.publish("care", CARE)
        yield told


async def _rows(core: RunningCore) -> dict[str, int]:
    async with core.core.database.read(EVERY_ORGANIZATION) as tx:
        counts = {}
        for name, table in metadata.tables.items():
            row = await tx.first(select(func.count()).select_from(table))
            assert row is not None
            counts[name] = row[0]
    return counts


async def test_a_simulation_tells_what_would_happen_and_writes_nothing(core: RunningCore, story: Story) -> None:
    await story.enroll("care", "ada@example.com", first_name="Ada")
    before = await _rows(core)
    body: dict[str, Any] = {
        "contacts": {"records": [{"email": "bob@example.com", "first_name": "Bob"}, {"job_title": "Intern"}]},
        "horizon": "30d",
        "timelines": 2,
    }
    async with core.http() as http:
        answer = await http.post("/api/v1/workflows/care/test", json=body)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert told["entered_count"] == 1
    assert [(one["reason"], one["count"]) for one in told["exclusions"]] == [("ENTRY_CONDITION", 1)]
    steps = {step["step_id"]: step for step in told["steps"]}
    assert steps["pause"]["entered_count"] == 1
    assert steps["pause"]["median_seconds"] == 2 * 86_400
    assert sum(day["count"] for day in told["messages"]) == 1
    stored = {"contacts": {"filter": 'email = "ada@example.com"'}, "horizon": "30d"}
    async with core.http() as http:
        known = (await http.post("/api/v1/workflows/care/test", json=stored)).json()
        fresh = (await http.post("/api/v1/workflows/care/test", json={**stored, "fresh": True})).json()
    assert [(one["reason"], one["count"]) for one in known["exclusions"]] == [("REENTRY_ONCE", 1)]
    assert (fresh["entered_count"], fresh["entering"]) == (1, "start")
    assert await _rows(core) == before


async def test_a_simulation_tells_refused_reentries_apart_and_when_no_trigger_fires(
    core: RunningCore, story: Story
) -> None:
    source = """
    timezone: UTC
    triggers: [{schedule: {cron: "0 9 * * mon"}, audience: {filter: 'email:*'}}]
    steps: [{id: note, kind: log, message: hello}]
    """
    body = {"source": source, "contacts": {"records": [{"email": "bob@example.com"}]}}
    async with core.http() as http:
        often = (await http.post("/api/v1/workflows/simulate", json={**body, "horizon": "15d"})).json()
        never = (await http.post("/api/v1/workflows/simulate", json={**body, "horizon": "1m"})).json()
    assert (often["problems"], often["entered_count"], often["exclusions"]) == ([], 1, [])
    (warning,) = often["warnings"]
    assert warning.startswith("1 contact that had entered was refused at a re-entry (REENTRY_ONCE), such as bob@")
    assert [(one["reason"], one["count"]) for one in never["exclusions"]] == [("NO_TRIGGER", 1)]


async def test_a_simulation_of_a_broken_document_tells_what_is_wrong(core: RunningCore, story: Story) -> None:
    async with core.http() as http:
        source = "title: T\nsteps:\n  - {id: a, kind: wait, for: 2x}\n"
        answer = await http.post("/api/v1/workflows/simulate", json={"source": source})
    assert [problem["path"] for problem in answer.json()["problems"]] == ["steps[0].for"]


async def test_two_versions_are_compared_on_the_same_contacts(core: RunningCore, story: Story) -> None:
    await story.publish("care", CARE.replace("for: 2d", "for: 40d"))
    answer = await story.client.workflows.SimulateWorkflow(
        workflow_pb2.SimulateWorkflowRequest(
            workflow_id="care",
            version=2,
            against_version=1,
            horizon="30d",
            contacts=workflow_pb2.SimulatedContacts(made_up=40),
            seed=7,
        ),
        timeout=60,
    )
    assert answer.difference.messages == -answer.entered_count
    assert answer.difference.changed_count == answer.entered_count


async def test_an_agent_answers_a_task_and_the_workflow_goes_on(core: RunningCore, story: Story) -> None:
    (ada,) = await story.enroll("care", "ada@example.com", first_name="Ada")
    await core.pass_time(timedelta(days=2))
    async with core.client(core.agent_key) as agent:
        listed = await agent.agents.ListAgentTasks(agent_pb2.ListAgentTasksRequest(filter='state = "open"'))
        (task,) = listed.tasks
        assert (task.title, task.enrollment_id) == ("What next for ada@example.com?", ada)
        claimed = await agent.agents.ClaimAgentTask(agent_pb2.ClaimAgentTaskRequest(task_id=task.id))
        assert claimed.state == agent_pb2.AGENT_TASK_STATE_CLAIMED
        wrong = agent_pb2.AnswerAgentTaskRequest(task_id=task.id)
        wrong.output.update({"next": "sleep"})
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await agent.agents.AnswerAgentTask(wrong)
        told = ApiError.of(refused.value)
        assert [one.field for one in told.violations] == ["output.next"]
        right = agent_pb2.AnswerAgentTaskRequest(task_id=task.id)
        right.output.update({"next": "call"})
        done = await agent.agents.AnswerAgentTask(right)
        assert done.state == agent_pb2.AGENT_TASK_STATE_ANSWERED
    assert await story.where(ada) == ("completed", "called")
    members = await story.client.records.ListListMembers(record_pb2.ListListMembersRequest(list="to-call"))
    contact = (await story.client.enrollments.GetEnrollment(pb.GetEnrollmentRequest(enrollment_id=ada))).contact_id
    assert list(members.contact_ids) == [contact]


async def test_a_task_that_nobody_answers_ends_in_time(core: RunningCore, story: Story) -> None:
    (ada,) = await story.enroll("care", "ada@example.com", first_name="Ada")
    await core.pass_time(timedelta(days=2))
    await core.pass_time(timedelta(days=3))
    assert (await story.where(ada))[0] == "completed"
    (task,) = (await story.client.agents.ListAgentTasks(agent_pb2.ListAgentTasksRequest())).tasks
    assert task.state == agent_pb2.AGENT_TASK_STATE_EXPIRED


async def test_why_a_contact_is_not_in_a_workflow(core: RunningCore, story: Story) -> None:
    client = story.client
    answer = await client.enrollments.EnrollContacts(
        pb.EnrollContactsRequest(
            workflow_id="care", contacts=[{"email": "ivy@example.com", "fields": {"job_title": "Intern"}}]
        )
    )
    (result,) = answer.results
    assert (result.outcome, result.reason) == (pb.ENROLL_OUTCOME_NOT_ELIGIBLE, "ENTRY_CONDITION")
    why = await client.enrollments.WhyNot(pb.WhyNotRequest(workflow_id="care", email="ivy@example.com"))
    assert (why.enrolled, why.contact_id) == (False, result.contact_id)
    kept_out = [reason for reason in why.reasons if not reason.holds]
    assert {reason.rule for reason in kept_out} == {"entry", "attempt", "trigger"}
    (entry,) = [reason for reason in kept_out if reason.rule == "entry"]
    assert dict(entry.inputs) == {"contact.job_title": "Intern"}
    (ada,) = await story.enroll("care", "ada@example.com")
    why = await client.enrollments.WhyNot(pb.WhyNotRequest(workflow_id="care", email="ada@example.com"))
    assert (why.enrolled, why.enrollment_id) == (True, ada)


async def test_whoever_is_on_a_suppression_list_stays_out(core: RunningCore, story: Story) -> None:
    contact = await story.client.records.UpsertRecord(
        record_pb2.UpsertRecordRequest(type="contact", fields={"email": "rival@example.com"})
    )
    contact_id = contact.record.id
    change = record_pb2.ChangeListMembersRequest(list="competitors", add_contact_ids=[contact_id])
    assert (await story.client.records.ChangeListMembers(change)).added_count == 1
    answer = await story.client.enrollments.EnrollContacts(
        pb.EnrollContactsRequest(workflow_id="care", contacts=[{"contact_id": contact_id}])
    )
    assert answer.results[0].outcome == pb.ENROLL_OUTCOME_SUPPRESSED
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await story.client.records.ChangeListMembers(
            record_pb2.ChangeListMembersRequest(list="competitors", add_contact_ids=["cnt_nobody"])
        )
    assert [one.field for one in ApiError.of(refused.value).violations] == ["add_contact_ids[0]"]


async def test_the_schema_and_the_templates_are_there_for_authors(core: RunningCore, story: Story) -> None:
    async with core.http() as http:
        schema = (await http.get("/api/v1/workflows/schema")).json()["schema"]
        templates = (await http.get("/api/v1/workflows/templates")).json()["templates"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert len(templates) >= 8
    for template in templates:
        checked = await story.client.workflows.ValidateWorkflow(
            workflow_pb2.ValidateWorkflowRequest(source=template["source"])
        )
        missing = {problem.reason for problem in checked.problems}
        assert all(reason.startswith("UNKNOWN_") for reason in missing), checked.problems  # what an organization names
