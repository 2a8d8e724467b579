"""Whoever follows a skill to the letter arrives: each task skill reaches its goal on a fresh core, by a real client."""

from __future__ import annotations

import pytest

from core.demo.setting import document
from core.store.merging import duplicates
from dripstone.v1 import (
    audit_pb2,
    enrollment_pb2,
    event_pb2,
    policy_pb2,
    qualification_pb2,
    record_pb2,
    webhook_pb2,
    workflow_pb2,
)
from tests.mcp_server.conftest import agreeing, connected
from tests.mcp_server.test_story import call_in
from tests.receiver import Receiver
from tests.running import RunningCore
from tests.skills import written
from tests.skills.following import follow

pytestmark = pytest.mark.anyio

MODERN, LEGACY = "auto", "legacy"
WAITING = """
title: Nurture
steps:
  - {id: hello, kind: log, message: Hello}
  - {id: pause, kind: wait, for: 2d}
"""
SHORT = """
title: Nurture
steps:
  - {id: noted, kind: log, message: "{{ contact.email }}"}
  - {id: done, kind: exit, reason: noted}
"""
TELLING = """
title: Telling
steps:
  - {id: tell, kind: webhook, event_type: story.told, data: {email: "{{ contact.email }}"}}
"""


async def publish(core: RunningCore, source: str, workflow_id: str = "nurture") -> None:
    async with core.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id=workflow_id, source=source, publish=True)
        )


async def contact(core: RunningCore, email: str = "ada@example.com", **fields: str) -> str:
    async with core.client() as client:
        request = record_pb2.UpsertRecordRequest(type="contact", fields={"email": email, **fields})
        return (await client.records.UpsertRecord(request)).record.id


async def guard(core: RunningCore, *methods: str) -> None:
    """Let somebody else approve what agents call."""
    policy = policy_pb2.Policy(
        id="second-pair",
        description="a person looks at it first",
        enabled=True,
        effect=policy_pb2.POLICY_EFFECT_NEEDS_APPROVAL,
        when='principal.kind == "agent"',
        methods=methods,
    )
    async with core.client() as client:
        await client.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=policy))


async def audited(core: RunningCore) -> int:
    """Return how many entries the audit log has."""
    async with core.client() as client:
        return len((await client.audit.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(page_size=500))).entries)


async def score(core: RunningCore) -> None:
    async with core.client() as client:
        await client.qualification.PublishScoringModel(
            qualification_pb2.PublishScoringModelRequest(model_id="default", source=document("default-model.yaml"))
        )


async def test_qualify_lead(core: RunningCore) -> None:
    await score(core)
    async with connected(core.grpc_target, core.agent_key, MODERN) as agent:
        way = await follow(agent, "dripstone-qualify-lead")
        decided = way.answers["check"]["fields"]
        assert (decided["decision"], decided["tier"], decided["score"]) == ("nurture", "B", 55)
        (found,) = (await agent.ok("find-records", type="lead"))["records"]
        assert found["record_id"] == way.answers["check"]["record_id"]


async def test_qualify_lead_asks_and_waits_where_somebody_else_must_decide(core: RunningCore) -> None:
    await score(core)
    async with core.client() as client:
        await client.events.CreateSource(
            event_pb2.CreateSourceRequest(source_id="web", display_name="Web", kind=event_pb2.SOURCE_KIND_WEBHOOK)
        )
        demo = event_pb2.EventInput(source_id="web", event_type="lead", event_name="demo.requested")
        demo.fields.update({"email": "ada@example.com"})
        await client.events.IngestEvent(event_pb2.IngestEventRequest(event=demo))
    async with (
        connected(core.grpc_target, core.agent_key, LEGACY) as agent,
        connected(core.grpc_target, core.approver_api_key, MODERN, agreeing) as person,
    ):
        way = await follow(agent, "dripstone-qualify-lead")
        assert way.answers["preview"]["decision"] == "needs_approval"
        assert not way.answers["ask"]["applied"]
        assert [one["approval_id"] for one in way.answers["waiting"]["approvals"]] == [
            way.answers["ask"]["approval_id"]
        ]
        assert "check" not in way.answers
        await follow(person, "dripstone")
        tool, arguments = call_in(way.answers["ask"]["next"])
        assert arguments["idempotency_key"]
        assert (await agent.ok(tool, **arguments))["applied"]


async def test_enroll_in_nurture(core: RunningCore) -> None:
    await publish(core, WAITING)
    async with connected(core.grpc_target, core.agent_key, LEGACY) as agent:
        way = await follow(agent, "dripstone-enroll-in-nurture")
        assert way.answers["follow"]["state"] == "active"
        await core.settle()
        again = await follow(agent, "dripstone-enroll-in-nurture")
        assert again.answers["preview"]["enrolled_count"] == 0
        assert "commit" not in again.answers
    async with core.client() as client:
        found = await client.enrollments.ListEnrollments(enrollment_pb2.ListEnrollmentsRequest())
    assert [one.id for one in found.enrollments] == [way.answers["follow"]["enrollment_id"]]


async def test_update_records(core: RunningCore) -> None:
    ada = await contact(core)
    async with connected(core.grpc_target, core.agent_key, MODERN) as agent:
        way = await follow(agent, "dripstone-update-records")
        assert way.answers["check"]["record_id"] == ada
        assert way.answers["check"]["fields"]["phone"].replace(" ", "") == "+49301234"
        again = await follow(agent, "dripstone-update-records")
        assert "commit" not in again.answers
        taken_back = await agent.ok("undo-changes", undo=way.answers["commit"]["undo"], mode="commit")
        assert taken_back["applied"]


async def test_run_workflow(core: RunningCore) -> None:
    await publish(core, SHORT)
    async with connected(core.grpc_target, core.agent_key, LEGACY) as agent:
        way = await follow(agent, "dripstone-run-workflow")
        await core.settle()
        again = await follow(agent, "dripstone-run-workflow")
        assert again.answers["start"]["replayed"]
        assert again.answers["watch"]["state"] == "succeeded"
        assert again.answers["watch"]["execution_id"] == way.answers["start"]["execution_id"]


async def test_build_workflow(core: RunningCore) -> None:
    async with connected(core.grpc_target, core.api_key, MODERN) as agent:
        way = await follow(agent, "dripstone-build-workflow")
        assert (way.answers["published"]["state"], way.answers["published"]["version"]) == ("active", 1)
        assert way.answers["simulate"]["entered"] > 0


async def test_build_workflow_changes_a_published_one_with_somebody_s_draft_in_it(core: RunningCore) -> None:
    given = written.evals("dripstone-build-workflow")["given"]
    await publish(core, WAITING, given["workflow_id"])
    async with core.client() as client:
        of = workflow_pb2.UpdateWorkflowRequest(workflow_id=given["workflow_id"], source=SHORT)
        await client.workflows.UpdateWorkflow(of)
    async with connected(core.grpc_target, core.api_key, MODERN) as agent:
        way = await follow(agent, "dripstone-build-workflow")
        assert "by " in way.answers["check"]["replaces"]
        assert way.answers["draft"]["undo"]
        assert (way.answers["published"]["state"], way.answers["published"]["version"]) == ("active", 2)


async def test_build_workflow_stores_nothing_that_has_problems(core: RunningCore) -> None:
    broken = {"workflow_id": "broken", "source": "title: X\nsteps:\n  - {id: a, kind: mesage}\n"}
    async with connected(core.grpc_target, core.api_key, MODERN) as agent:
        way = await follow(agent, "dripstone-build-workflow", **broken)
        assert way.answers.keys() == {"known", "check"}
        assert way.answers["check"]["problems"][0]["line"] == 3
        assert (await agent.ok("list-workflows", state="all"))["workflows"] == []


async def test_diagnose_delivery(core: RunningCore, receiver: Receiver) -> None:
    await publish(core, TELLING, "telling")
    receiver.answers["/"] = (404, {"webhook-delivery": "abort-message"})
    async with core.client() as client:
        await client.webhooks.CreateEndpoint(
            webhook_pb2.CreateEndpointRequest(url=receiver.url, event_types=["story.told"])
        )
    ada = await contact(core)
    async with connected(core.grpc_target, core.api_key, MODERN) as agent:
        await agent.ok("enroll", workflow_id="telling", contacts=[{"contact_id": ada}], mode="commit")
        await core.settle()
        receiver.answers["/"] = 204
        way = await follow(agent, "dripstone-diagnose-delivery")
        assert way.answers["explain"]["attempts"][-1]["status_code"] == 404
        await core.settle()
        again = way.answers["again"]
        found = await agent.ok("find-deliveries", delivery_id=way.answers["failed"]["deliveries"][0]["delivery_id"])
        assert (again["mode"], found["deliveries"][0]["state"]) == ("commit", "delivered")


async def test_clean_up_duplicates(core: RunningCore) -> None:
    for email in ("ada.lovelace@example.com", "ada.lovelace@example.org"):
        await contact(core, email, first_name="Ada", last_name="Lovelace", phone="+4930123456")
    await duplicates.upkeep(core.core.database)
    async with connected(core.grpc_target, core.api_key, LEGACY) as agent:
        way = await follow(agent, "dripstone-clean-up-duplicates")
        assert way.answers["merge"]["undo"]
        assert len((await agent.ok("find-records"))["records"]) == 1
        again = await follow(agent, "dripstone-clean-up-duplicates")
        assert again.answers.keys() == {"pairs"}


async def test_weekly_review_changes_nothing(core: RunningCore) -> None:
    await publish(core, WAITING)
    await contact(core)
    before = await audited(core)
    async with connected(core.grpc_target, core.api_key, MODERN) as agent:
        way = await follow(agent, "dripstone-weekly-review")
    assert way.answers.keys() == {step.name for step in written.steps("dripstone-weekly-review")}
    assert [one["workflow_id"] for one in way.answers["active"]["workflows"]] == ["nurture"]
    assert await audited(core) == before


async def test_the_router_s_decision_lets_another_principal_s_wish_through_once(core: RunningCore) -> None:
    ada = await contact(core)
    await guard(core, "RecordService.UpdateRecord")
    wish = {"record_id": ada, "fields": {"job_title": "CFO"}, "mode": "commit", "idempotency_key": "wish"}
    async with (
        connected(core.grpc_target, core.agent_key, LEGACY) as agent,
        connected(core.grpc_target, core.approver_api_key, MODERN, agreeing) as person,
    ):
        assert (await agent.refused("update-record", **wish))["reason"] == "APPROVAL_REQUIRED"
        way = await follow(person, "dripstone")
        assert way.answers["decide"]["state"] == "approved"
        assert not (await agent.ok("update-record", **wish))["replayed"]
        assert (await agent.ok("get-record", record_id=ada))["fields"]["job_title"] == "CFO"
