"""The flagship story through the tools: qualify, approve, update, enroll, follow; previews change nothing."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from core.rpc.convert import to_value
from dripstone.v1 import enrollment_pb2, qualification_pb2, record_pb2
from tests.mcp_server.conftest import Agent
from tests.mcp_server.stand_in import StandIn

pytestmark = pytest.mark.anyio


def call_in(text: str) -> tuple[str, dict[str, Any]]:
    """Return the tool call that a `next` names."""
    found = re.search(r"([a-z]+(?:-[a-z]+)*) (\{.*\})", text)
    assert found, text
    return found[1], json.loads(found[2])


async def test_an_agent_that_follows_every_next_call_ends_with_an_enrolled_contact(agent: Agent, core: StandIn) -> None:
    preview = await agent.ok("qualify-lead", email="ada@example.com")
    assert (preview["decision"], preview["score"], preview["tier"]) == ("qualified", 70, "A")
    assert sum(one["points"] for one in preview["contributions"]) == preview["score"]
    assert not core.applied
    tool, arguments = call_in(preview["next"])
    committed = await agent.ok(tool, **arguments)
    assert committed["applied"]
    assert core.applied
    listed = await agent.ok("list-workflows")
    tool, arguments = call_in(listed["next"])
    shown = await agent.ok(tool, **arguments)
    tool, arguments = call_in(shown["next"])
    arguments["contacts"] = [{"contact_id": committed["contact_id"]}]
    enroll_preview = await agent.ok(tool, **arguments)
    assert enroll_preview["enrolled"] == []
    tool, arguments = call_in(enroll_preview["next"])
    assert arguments["mode"] == "commit"
    enrolled = await agent.ok(tool, **arguments)
    assert enrolled["enrolled"] == [{"enrollment_id": "enr_0", "contact_id": "cnt_0"}]
    tool, arguments = call_in(enrolled["next"])
    explained = await agent.ok(tool, **arguments)
    assert (explained["why"], explained["what_next"]) == ("It waits at pause.", "tell runs when the wait ends.")
    assert len(explained["trace"]) == 5


async def test_a_commit_that_needs_approval_waits_for_somebody_else(
    agent: Agent, approver: Agent, core: StandIn
) -> None:
    core.needs_approval = True
    preview = await agent.ok("qualify-lead", lead_id="lead_1")
    assert preview["decision"] == "needs_approval"
    assert preview["pending_decision"] == "qualified"
    error = await agent.refused("qualify-lead", lead_id="lead_1", plan_id="pln_1", mode="commit", idempotency_key="k")
    assert error["reason"] == "APPROVAL_REQUIRED"
    own = await agent.refused("decide-approval", approval_id="apr_1", decision="approve", subject_hash="h1")
    assert own["reason"] == "SCOPE_MISSING"
    pending = (await approver.ok("list-approvals"))["approvals"]
    decision = {"approval_id": "apr_1", "decision": "approve", "subject_hash": pending[0]["subject_hash"]}
    shown = await approver.ok("decide-approval", **decision)
    assert (shown["mode"], core.approved) == ("preview", False)
    tool, arguments = call_in(shown["next"])
    assert (await approver.ok(tool, **arguments))["state"] == "approved"
    assert (await agent.ok("qualify-lead", plan_id="pln_1", mode="commit", idempotency_key="k"))["applied"]


async def test_what_speaks_against_a_lead_is_told_with_its_facts(agent: Agent, core: StandIn) -> None:
    assert (await agent.ok("qualify-lead", lead_id="lead_1"))["disqualifiers"] == []
    industry = qualification_pb2.Fact(path="contact.industry", value=to_value("competitor"), source="form")
    core.disqualifiers = [
        qualification_pb2.Contribution(rule_id="rival", group="disqualify", when="a || b", inputs=[industry])
    ]
    result = await agent.call("qualify-lead", lead_id="lead_1")
    assert result.structured_content is not None
    assert result.structured_content["disqualifiers"] == [
        {"rule_id": "rival", "when": "a || b", "inputs": ['contact.industry = "competitor" (form)']}
    ]
    assert 'disqualified by rival: contact.industry = "competitor" (form)' in result.content[0].text


async def test_evidence_goes_along_and_what_would_move_the_lead_is_told(agent: Agent, core: StandIn) -> None:
    claim = {"path": "contact.employees", "value": 90, "source": "https://example.com/about", "confidence": 0.8}
    result = await agent.call("qualify-lead", lead_id="lead_1", evidence=[claim], if_version="7")
    assert result.structured_content is not None
    (asked,) = core.sent(qualification_pb2.QualifyLeadRequest)
    assert (asked.evidence[0].value.number_value, asked.evidence[0].source, asked.etag) == (90, claim["source"], "7")
    assert result.structured_content["claims_used"] == ["contact.employees"]
    assert result.structured_content["counterfactuals"] == [
        {
            "fact": "contact.job_title", "now": "CFO", "would_be": "Intern", "tier": "B", "decision": "nurture",
            "score": 20,
        }
    ]  # fmt: skip
    assert "* enroll nurture: into Nurture" in result.content[0].text
    refused = await agent.refused("qualify-lead", lead_id="lead_1", evidence=[claim | {"confidence": 2}])
    assert refused["field"] == "evidence[0].confidence"


async def test_previews_are_the_default_and_change_nothing(agent: Agent, core: StandIn) -> None:
    await agent.ok("qualify-lead", lead_id="lead_1", idempotency_key="k")
    await agent.ok("enroll", workflow_id="nurture", contacts=[{"email": "a@example.com"}], idempotency_key="k")
    await agent.ok("update-record", record_id="cnt_1", fields={"tier": "A"}, idempotency_key="k")
    await agent.ok("execute-workflow", workflow_id="nurture", input={"email": "a@example.com"}, idempotency_key="k")
    (qualify,) = core.sent(qualification_pb2.QualifyLeadRequest)
    assert qualify.mode == qualification_pb2.QUALIFY_MODE_PREVIEW
    assert qualify.request_id != "k"  # a preview must not use up the key of its commit
    for kind in (enrollment_pb2.EnrollContactsRequest, record_pb2.UpdateRecordRequest):
        (request,) = core.sent(kind)
        assert (request.validate_only, request.request_id) == (True, "")


async def test_an_enroll_preview_shows_who_is_left_out_and_why(agent: Agent) -> None:
    answer = await agent.ok(
        "enroll", workflow_id="nurture", contacts=[{"email": "a@example.com"}, {"email": "gone@example.com"}, {}]
    )
    assert answer["counts"] == {"enrolled": 1, "suppressed": 1, "invalid": 1}
    assert answer["left_out"] == [
        {"index": 1, "contact": "gone@example.com", "outcome": "suppressed", "reason": "UNSUBSCRIBED"},
        {"index": 2, "contact": "", "outcome": "invalid", "reason": "REQUIRED", "field": "contacts[2].email"},
    ]


async def test_an_update_shows_before_and_after_and_commits_what_was_previewed(agent: Agent, core: StandIn) -> None:
    preview = await agent.ok("update-record", record_id="cnt_1", fields={"first_name": "Augusta"}, reason="asked to")
    assert preview["changes"] == [{"field": "first_name", "old": "Ada", "new": "Augusta"}]
    assert core.fields["first_name"] == "Ada"
    core.rev += 1  # somebody else was faster
    tool, arguments = call_in(preview["next"])
    error = await agent.refused(tool, **arguments)
    assert (error["reason"], error["next"]) == ("ETAG_MISMATCH", 'get-record {"record_id":"cnt_1"}')
    tool, arguments = call_in(
        (await agent.ok("update-record", record_id="cnt_1", fields={"first_name": "Augusta"}))["next"]
    )
    assert (await agent.ok(tool, **arguments))["version"] == "3"
    assert core.fields["first_name"] == "Augusta"


async def test_a_repeated_commit_with_its_key_is_a_replay_and_another_one_a_conflict(agent: Agent) -> None:
    call = {
        "workflow_id": "nurture",
        "contacts": [{"email": "a@example.com"}],
        "mode": "commit",
        "idempotency_key": "k",
    }
    first = await agent.ok("enroll", **call)
    again = await agent.ok("enroll", **call)
    assert first["replayed"] is False
    assert again == first | {"replayed": True}
    other = await agent.refused("enroll", **(call | {"contacts": [{"email": "b@example.com"}]}))
    assert other["reason"] == "IDEMPOTENCY_CONFLICT"


async def test_an_execution_returns_at_once_and_names_the_call_that_follows_it(agent: Agent) -> None:
    started = await agent.ok(
        "execute-workflow", workflow_id="nurture", input={"email": "a@example.com"}, mode="commit", idempotency_key="k"
    )
    assert (started["execution_id"], started["state"]) == ("exe_1", "running")
    tool, arguments = call_in(started["next"])
    assert (await agent.ok(tool, **arguments))["execution_id"] == "exe_1"


async def test_reads_show_what_an_agent_needs(agent: Agent) -> None:
    found = await agent.ok("find-records", email="ada@example.com")
    assert found["records"] == [{"record_id": "cnt_1", "fields": {"email": "ada@example.com", "first_name": "Ada"}}]
    record = await agent.ok("get-record", record_id="cnt_1", history=5)
    assert record["changes"] == [
        {"field": "tier", "old": None, "new": "A", "actor": "key_1", "time": "2026-03-02T09:00:00Z"}
    ]
    workflow = await agent.ok("get-workflow", workflow_id="nurture", source=True)
    assert (workflow["version"], workflow["source"]) == (2, "title: Nurture for trials\n")
    assert (await agent.ok("list-approvals"))["approvals"] == []
