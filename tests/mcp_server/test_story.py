"""The story through the tools: qualify, approve, update, enroll, follow; previews change nothing.

Over the wire, in each era and on each database, tests/journeys/test_flagship.py tells it.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dripstone.v1 import approval_pb2, enrollment_pb2, event_pb2, qualification_pb2, workflow_pb2
from tests.mcp_server.conftest import NURTURE, Agent
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

MODEL = """
title: Fit and engagement
qualified_at: 60
nurture_at: 30
tiers: [{name: A, from: 90}, {name: B, from: 60}, {name: C, from: 0}]
disqualify: [{id: rival, when: contact.industry == "competitor" || contact.country == "XX"}]
fit:
  cap: 65
  rules:
    - {id: size, when: contact.employees >= 50, points: 30}
    - {id: seniority, when: contact.job_title == "CFO", points: 40}
engagement:
  rules: [{id: demo, event: demo.requested, points: 30}]
on_tier: {B: {enroll: nurture}}
approval: {when: tier == "A", reason: Tier A goes to a named person.}
"""
CFO = {"job_title": "CFO", "employees": 120}


@pytest.fixture
def era() -> str:
    """Run in one era alone, but for what says otherwise: what is said is composed before the protocol."""
    return "auto"


@pytest.fixture
async def core(core: RunningCore) -> RunningCore:
    """Return an organization with a workflow and a scoring model."""
    async with core.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="nurture", source=NURTURE, publish=True)
        )
        await client.qualification.PublishScoringModel(
            qualification_pb2.PublishScoringModelRequest(model_id="default", source=MODEL)
        )
    return core


def call_in(text: str) -> tuple[str, dict[str, Any]]:
    """Return the tool call that a `next` names."""
    found = re.search(r"([a-z]+(?:-[a-z]+)*) (\{.*\})", text)
    assert found, text
    return found[1], json.loads(found[2])


async def followed(agent: Agent, answer: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Make the call that an answer names as the next one."""
    tool, arguments = call_in(answer["next"])
    return await agent.ok(tool, **arguments, **more)


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_an_agent_that_follows_every_next_call_ends_with_an_enrolled_contact(agent: Agent) -> None:
    preview = await agent.ok("qualify-lead", email="ada@example.com", fields={"job_title": "CFO"})
    assert (preview["decision"], preview["score"], preview["tier"]) == ("nurture", 40, "C")
    assert sum(one["points"] for one in preview["contributions"]) == preview["score"]
    assert (await agent.ok("find-records"))["records"] == []
    committed = await followed(agent, preview)
    assert committed["applied"]
    shown = await followed(agent, await agent.ok("list-workflows"))
    tool, arguments = call_in(shown["next"])
    arguments["contacts"] = [{"contact_id": committed["contact_id"]}]
    enroll_preview = await agent.ok(tool, **arguments)
    assert enroll_preview["enrolled"] == []
    assert call_in(enroll_preview["next"])[1]["mode"] == "commit"
    enrolled = await followed(agent, enroll_preview)
    assert [one["contact_id"] for one in enrolled["enrolled"]] == [committed["contact_id"]]
    explained = await followed(agent, enrolled)
    assert (explained["workflow_id"], explained["state"], explained["trace"][-1]["step_id"]) == (
        "nurture", "active", "pause",
    )  # fmt: skip
    assert explained["next"].endswith("Come back then; do not poll.")


async def test_a_commit_that_needs_approval_waits_for_somebody_else(
    agent: Agent, approver: Agent, core: RunningCore
) -> None:
    async with core.client() as client:
        source = event_pb2.CreateSourceRequest(source_id="web", display_name="Web", kind=event_pb2.SOURCE_KIND_WEBHOOK)
        await client.events.CreateSource(source)
        demo = event_pb2.EventInput(source_id="web", event_type="lead", event_name="demo.requested")
        demo.fields.update({"email": "ada@example.com", **CFO})
        await client.events.IngestEvent(event_pb2.IngestEventRequest(event=demo))
    preview = await agent.ok("qualify-lead", email="ada@example.com")
    assert (preview["decision"], preview["pending_decision"], preview["score"]) == ("needs_approval", "qualified", 95)
    assert not (await followed(agent, preview))["applied"]
    (pending,) = (await approver.ok("list-approvals"))["approvals"]
    decision = {
        "approval_id": pending["approval_id"], "decision": "approve", "subject_hash": pending["subject_hash"],
    }  # fmt: skip
    shown = await approver.ok("decide-approval", **decision)
    assert shown["mode"] == "preview"
    assert len((await approver.ok("list-approvals"))["approvals"]) == 1
    async with core.client() as client:
        said = approval_pb2.CommentApprovalRequest(approval_id=pending["approval_id"], text="Ask Ada first.")
        await client.approvals.CommentApproval(said)
    tool, arguments = call_in(shown["next"])
    stale = await approver.refused(tool, **arguments)
    assert (stale["reason"], arguments["if_version"]) == ("ETAG_MISMATCH", shown["version"])
    shown = await followed(approver, stale)
    assert (await followed(approver, shown))["state"] == "approved"
    assert (await agent.ok("qualify-lead", plan_id=preview["plan_id"], mode="commit"))["applied"]


async def test_what_speaks_against_a_lead_is_told_with_its_facts(agent: Agent) -> None:
    assert (await agent.ok("qualify-lead", email="ada@example.com"))["disqualifiers"] == []
    result = await agent.call("qualify-lead", email="ada@example.com", fields={"industry": "competitor"})
    assert result.structured_content is not None
    (against,) = result.structured_content["disqualifiers"]
    assert (against["rule_id"], against["when"]) == (
        "rival", 'contact.industry == "competitor" || contact.country == "XX"',
    )  # fmt: skip
    assert against["inputs"][0].startswith('contact.industry = "competitor" (')
    assert 'disqualified by rival: contact.industry = "competitor" (' in result.content[0].text


async def test_evidence_goes_along_and_what_would_move_the_lead_is_told(agent: Agent) -> None:
    lead = (await agent.ok("qualify-lead", email="ada@example.com", fields={"job_title": "CFO"}, mode="commit"))[
        "lead_id"
    ]
    claim = {"path": "contact.employees", "value": 90, "source": "https://example.com/about", "confidence": 0.8}
    result = await agent.call("qualify-lead", lead_id=lead, evidence=[claim])
    assert result.structured_content is not None
    assert (result.structured_content["claims_used"], result.structured_content["score"]) == (["contact.employees"], 65)
    assert result.structured_content["contributions"][1]["inputs"] == [
        "contact.employees = 90 (https://example.com/about)"
    ]
    turns = {one["fact"]: one for one in result.structured_content["counterfactuals"]}
    assert (turns["contact.employees"]["now"], turns["contact.employees"]["tier"]) == (90, "C")
    assert "* enroll nurture:" in result.content[0].text
    refused = await agent.refused("qualify-lead", lead_id=lead, evidence=[claim | {"confidence": 2}])
    assert refused["field"] == "evidence[0].confidence"
    stale = await agent.refused("qualify-lead", lead_id=lead, if_version="0", mode="commit")
    assert stale["reason"] == "ETAG_MISMATCH"


async def test_previews_are_the_default_change_nothing_and_leave_their_key_to_the_commit(agent: Agent) -> None:
    ada = {"email": "ada@example.com"}
    update = {"record_id": (await added(agent, ada))["contact_id"], "fields": {"job_title": "CFO"}}
    for tool, arguments in (
        ("qualify-lead", {"email": "bo@example.com", "fields": CFO}),
        ("enroll", {"workflow_id": "nurture", "contacts": [{"email": "bo@example.com"}]}),
        ("update-record", update),
        ("execute-workflow", {"workflow_id": "nurture", "input": {"email": "bo@example.com"}}),
    ):
        assert (await agent.ok(tool, **arguments, idempotency_key=f"key-{tool}"))["mode"] == "preview"
        assert not (await agent.ok("get-call", idempotency_key=f"key-{tool}"))["known"]
    assert [one["fields"]["email"] for one in (await agent.ok("find-records"))["records"]] == ["ada@example.com"]
    assert not (await agent.ok("update-record", **update, mode="commit", idempotency_key="key-update-record"))[
        "replayed"
    ]


async def added(agent: Agent, contact: dict[str, Any]) -> dict[str, Any]:
    """Add a contact by enrolling it."""
    answer = await agent.ok("enroll", workflow_id="nurture", contacts=[contact], mode="commit")
    return dict(answer["enrolled"][0])


async def test_an_enroll_preview_shows_who_is_left_out_and_why(agent: Agent) -> None:
    inside = await added(agent, {"email": "in@example.com"})
    answer = await agent.ok(
        "enroll",
        workflow_id="nurture",
        contacts=[{"email": "a@example.com"}, {"email": "in@example.com"}, {"email": "A@example.com"}, {}],
    )
    assert answer["counts"] == {"enrolled": 1, "already_enrolled": 1, "duplicate_in_request": 1, "invalid": 1}
    there, again, invalid = answer["left_out"]
    assert (there["contact"], there["outcome"], there["enrollment_id"]) == (
        "in@example.com", "already_enrolled", inside["enrollment_id"],
    )  # fmt: skip
    assert (again["index"], again["outcome"]) == (2, "duplicate_in_request")
    assert (invalid["index"], invalid["outcome"], invalid["field"].split(".")[0]) == (3, "invalid", "contacts[3]")


async def test_an_update_shows_before_and_after_and_commits_what_was_previewed(agent: Agent) -> None:
    record = (await added(agent, {"email": "ada@example.com", "first_name": "Ada"}))["contact_id"]
    change = {"record_id": record, "fields": {"first_name": "Augusta"}}
    preview = await agent.ok("update-record", **change, reason="asked to")
    assert preview["changes"] == [{"field": "first_name", "old": "Ada", "new": "Augusta"}]
    assert (await agent.ok("get-record", record_id=record))["fields"]["first_name"] == "Ada"
    await agent.ok("update-record", record_id=record, fields={"job_title": "CFO"}, mode="commit")  # somebody was faster
    tool, arguments = call_in(preview["next"])
    error = await agent.refused(tool, **arguments)
    assert (error["reason"], error["next"]) == ("ETAG_MISMATCH", f'get-record {{"record_id":"{record}"}}')
    done = await followed(agent, await agent.ok("update-record", **change))
    shown = await agent.ok("get-record", record_id=record, history=1)
    assert (shown["version"], shown["fields"]["first_name"]) == (done["version"], "Augusta")
    ((changed),) = shown["changes"]
    assert (changed["field"], changed["old"], changed["new"]) == ("first_name", "Ada", "Augusta")
    assert changed["actor"]
    assert changed["time"]


@pytest.mark.parametrize("era", ["auto", "legacy"])
async def test_a_commit_without_a_key_tells_the_one_it_was_lent_so_that_a_repeat_with_it_acts_once(
    agent: Agent, core: RunningCore
) -> None:
    run = {"workflow_id": "nurture", "input": {"email": "ada@example.com"}, "mode": "commit"}
    first = await agent.call("execute-workflow", **run)
    assert first.structured_content is not None
    key = first.structured_content["idempotency_key"]
    assert f"\nidempotency_key: {key} was lent to this call" in first.content[0].text
    assert (await agent.ok("get-call", idempotency_key=key))["known"]
    again = await agent.call("execute-workflow", **run, idempotency_key=key)
    assert again.structured_content is not None
    assert again.structured_content["replayed"]
    assert again.structured_content["execution_id"] == first.structured_content["execution_id"]
    assert "was lent" not in again.content[0].text, "whoever brings a key is told nothing of it"
    async with core.client() as client:
        found = await client.enrollments.ListEnrollments(enrollment_pb2.ListEnrollmentsRequest())
    assert len(found.enrollments) == 1


async def test_reads_show_what_an_agent_needs(agent: Agent) -> None:
    ada = {"email": "ada@example.com", "first_name": "Ada"}
    record = (await added(agent, ada))["contact_id"]
    found = await agent.ok("find-records", email="ada@example.com")
    assert found["records"] == [{"record_id": record, "fields": ada}]
    workflow = await agent.ok("get-workflow", workflow_id="nurture", source=True)
    assert (workflow["version"], workflow["source"]) == (1, NURTURE)
    assert (await agent.ok("list-approvals"))["approvals"] == []
