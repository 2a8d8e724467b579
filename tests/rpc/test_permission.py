"""Policies and budgets as callers meet them: on a whole core, on both databases."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any

import grpc
import pytest
from sqlalchemy import select

from core.rpc.convert import from_struct
from core.store.messages.outgoing import outgoing_messages
from dripstone.v1 import (
    agent_pb2,
    approval_pb2,
    enrollment_pb2,
    organization_pb2,
    policy_pb2,
    record_pb2,
    webhook_pb2,
    workflow_pb2,
)
from dripstone.v1.client import ApiError, Client
from tests.rpc.control_calls import new_key, new_member
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

APPROVE, REJECT = approval_pb2.APPROVAL_DECISION_APPROVE, approval_pb2.APPROVAL_DECISION_REJECT
DENY, NEEDED, ALLOW = (
    policy_pb2.POLICY_EFFECT_DENY,
    policy_pb2.POLICY_EFFECT_NEEDS_APPROVAL,
    policy_pb2.POLICY_EFFECT_ALLOW,
)
HELLO = """
title: Hello
steps:
  - {id: hello, kind: message, channel: dm, to: "@ada", text: Hello}
"""


async def refused(call: Awaitable[Any]) -> ApiError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return ApiError.of(caught.value)


async def put(client: Client, policy_id: str, effect: int, **more: Any) -> policy_pb2.Policy:
    values = {"description": f"Because of {policy_id}", "enabled": True, **more}
    policy = policy_pb2.Policy(id=policy_id, effect=effect, **values)  # type: ignore[arg-type]
    return await client.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=policy))


def upsert(email: str, **more: Any) -> record_pb2.UpsertRecordRequest:
    request = record_pb2.UpsertRecordRequest(type="contact", **more)
    request.fields.update({"email": email})
    return request


async def budget(client: Client, whose: str, metric: str, limit: int) -> policy_pb2.Budget:
    given = policy_pb2.Budget(principal_id=whose, metric=metric, daily_limit=limit)
    return await client.approvals.SetBudget(policy_pb2.SetBudgetRequest(budget=given))


async def decide(core: RunningCore, approval_id: str, decision: Any = APPROVE) -> approval_pb2.Approval:
    async with core.client(core.approver_api_key) as person:
        request = approval_pb2.DecideApprovalRequest(approval_id=approval_id, decision=decision)
        return await person.approvals.DecideApproval(request)


async def test_a_policy_is_asked_of_every_call_and_tells_its_verdict_beforehand(core: RunningCore) -> None:
    async with core.client() as boss, core.client(core.agent_key) as agent, core.http(core.agent_key) as http:
        await put(boss, "agents-write-less", DENY, when='principal.kind == "agent"', methods=["RecordService.*"])
        error = await refused(agent.records.UpsertRecord(upsert("ada@example.com")))
        assert (error.reason, error.variables["policy_id"]) == ("POLICY_DENIED", "agents-write-less")
        answer = await http.post("/api/v1/crm/records", json={"type": "contact", "fields": {"email": "a@example.com"}})
        assert answer.status_code == 403
        assert "Because of agents-write-less" in answer.text
        error = await refused(agent.records.UpsertRecord(upsert("ada@example.com", validate_only=True)))
        assert error.reason == "POLICY_DENIED"
        await boss.records.UpsertRecord(upsert("ada@example.com"))
        me = await agent.organization.GetCaller(organization_pb2.GetCallerRequest())
        explain = policy_pb2.ExplainPolicyRequest(method="RecordService.UpsertRecord", principal_id=me.principal_id)
        explain.request.update({"type": "contact", "fields": {"email": "a@example.com"}})
        verdict = await boss.approvals.ExplainPolicy(explain)
        assert (verdict.effect, list(verdict.asked_policies)) == (DENY, ["agents-write-less: matched"])
        explain.policy.CopyFrom(policy_pb2.Policy(id="draft", description="d", effect=DENY, when="action.count > 1"))
        verdict = await boss.approvals.ExplainPolicy(explain)
        assert (verdict.effect, list(verdict.asked_policies)) == (ALLOW, ["draft: did not match"])
        await boss.approvals.DeletePolicy(policy_pb2.DeletePolicyRequest(policy_id="agents-write-less"))
        await agent.records.UpsertRecord(upsert("ada@example.com"))


async def test_a_call_that_needs_an_approval_goes_through_once_when_others_agreed(core: RunningCore) -> None:
    async with core.client() as boss, core.client(core.agent_key) as agent:
        when = '"email" in action.fields && action.count == 1'
        await put(boss, "second-pair", NEEDED, when=when, methods=["RecordService.*"])
        error = await refused(agent.records.UpsertRecord(upsert("ada@example.com", validate_only=True)))
        assert (error.reason, error.variables["approval_id"]) == ("APPROVAL_REQUIRED", "")
        first, second = [
            await refused(call)
            for call in (
                agent.records.UpsertRecord(upsert("ada@example.com", request_id="k1")),
                agent.records.UpsertRecord(upsert("ada@example.com", request_id="k1")),
            )
        ]
        assert first.reason == "APPROVAL_REQUIRED"
        assert first.variables["approval_id"] == second.variables["approval_id"]
        listed = await boss.approvals.ListApprovals(approval_pb2.ListApprovalsRequest())
        (asked,) = listed.approvals
        assert (asked.subject_kind, asked.policy_id, asked.approvals_missing) == ("call", "second-pair", 1)
        assert from_struct(asked.details)["request"]["fields"]["email"] == "ada@example.com"
        own = await refused(
            agent.approvals.DecideApproval(approval_pb2.DecideApprovalRequest(approval_id=asked.id, decision=APPROVE))
        )
        assert own.reason in ("SCOPE_MISSING", "PERMISSION_DENIED")
        assert (await decide(core, asked.id)).state == approval_pb2.APPROVAL_STATE_APPROVED
        other = await refused(agent.records.UpsertRecord(upsert("eve@example.com", request_id="k2")))
        assert other.reason == "APPROVAL_REQUIRED"
        outcomes = await asyncio.gather(
            *(agent.records.UpsertRecord(upsert("ada@example.com", request_id=f"n{n}")) for n in range(4)),
            return_exceptions=True,
        )
        assert Counter(
            ApiError.of(one).reason if isinstance(one, grpc.aio.AioRpcError) else "through" for one in outcomes
        ) == {"through": 1, "APPROVAL_REQUIRED": 3}
        used = await boss.approvals.GetApproval(approval_pb2.GetApprovalRequest(approval_id=asked.id))
        assert used.state == approval_pb2.APPROVAL_STATE_USED


async def test_an_approval_of_a_call_is_bound_to_what_the_call_refers_to(core: RunningCore) -> None:
    def draft(text: str) -> workflow_pb2.UpdateWorkflowRequest:
        return workflow_pb2.UpdateWorkflowRequest(workflow_id="hello", source=HELLO.replace("text: Hello", text))

    async with core.client() as boss:
        workflows = boss.workflows
        await workflows.CreateWorkflow(workflow_pb2.CreateWorkflowRequest(workflow_id="hello", source=HELLO))
        await put(boss, "pair", NEEDED, methods=["WorkflowService.PublishWorkflow", "AgentService.ExecuteWorkflow"])
        publish = workflow_pb2.PublishWorkflowRequest(workflow_id="hello")
        asked = (await refused(workflows.PublishWorkflow(publish))).variables["approval_id"]
        details = from_struct((await decide(core, asked)).details)
        assert details["changes"]["steps[hello].text"] == {"old": None, "new": "Hello"}
        assert details["refers_to"]["workflow_id"]["published_version"] == 0
        await workflows.UpdateWorkflow(draft("text: Buy"))
        other = await refused(workflows.PublishWorkflow(publish))
        assert (other.reason, other.variables["approval_id"] == asked) == ("APPROVAL_REQUIRED", False)
        await workflows.UpdateWorkflow(draft("text: Hello"))
        assert (await workflows.PublishWorkflow(publish)).published_version == 1
        # What runs is the version that was there when it was asked for.
        run = agent_pb2.ExecuteWorkflowRequest(workflow_id="hello")
        run.input.update({"email": "ada@example.com"})
        await decide(core, (await refused(boss.agents.ExecuteWorkflow(run))).variables["approval_id"])
        await workflows.UpdateWorkflow(draft("text: Bye"))
        await decide(core, (await refused(workflows.PublishWorkflow(publish))).variables["approval_id"])
        await workflows.PublishWorkflow(publish)
        assert (await refused(boss.agents.ExecuteWorkflow(run))).reason == "APPROVAL_REQUIRED"
        # So is what stands within the request, and what happened to a record.
        made = await boss.webhooks.CreateEndpoint(webhook_pb2.CreateEndpointRequest(url="http://127.0.0.1:9/"))
        ada, eve = [(await boss.records.UpsertRecord(upsert(f"{name}@example.com"))).record.id for name in "ae"]
        merged = await boss.records.MergeRecords(record_pb2.MergeRecordsRequest(kept_id=ada, merged_id=eve))
        changed = ["WebhookService.UpdateEndpoint", "RecordService.DeleteRecord", "RecordService.UndoMerge"]
        await put(boss, "pair", NEEDED, methods=changed)
        mine = webhook_pb2.Endpoint(id=made.endpoint.id, description="Mine")
        named = webhook_pb2.UpdateEndpointRequest(endpoint=mine)
        named.update_mask.paths.append("description")
        calls: list[tuple[Any, Any]] = [
            (boss.webhooks.UpdateEndpoint, named),
            (boss.records.DeleteRecord, record_pb2.DeleteRecordRequest(record_id=ada)),
            (boss.records.UndoMerge, record_pb2.UndoMergeRequest(merge_id=merged.id)),
        ]
        before = [(await refused(send(request))).variables["approval_id"] for send, request in calls]
        again = [(await refused(send(request))).variables["approval_id"] for send, request in calls]
        await boss.webhooks.RotateSecret(webhook_pb2.RotateSecretRequest(endpoint_id=made.endpoint.id))
        title = upsert("a@example.com")
        title.fields.update({"job_title": "Boss"})
        await boss.records.UpsertRecord(title)
        after = [(await refused(send(request))).variables["approval_id"] for send, request in calls]
        assert (again == before, len({*before, *after})) == (True, 6)
        await decide(core, after[1])
        await boss.records.DeleteRecord(calls[1][1])


async def test_policies_see_what_a_call_does_or_deny_what_they_cannot_see(core: RunningCore) -> None:
    async with core.client() as boss:
        ada = (await boss.records.UpsertRecord(upsert("ada@example.com", reason="here"))).record.id
        await boss.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="hello", source=HELLO, publish=True)
        )
        await boss.agents.CreateAgent(
            agent_pb2.CreateAgentRequest(agent_id="runs", display_name="Runs", workflow_id="hello")
        )
        mem = (await new_member(boss, "owner")).id
        for name in ("b", "c"):
            request = upsert(f"{name}@example.com")
            request.fields.update({"owner_id": mem})
            await boss.records.UpsertRecord(request)
        await boss.workflows.PauseWorkflow(workflow_pb2.PauseWorkflowRequest(workflow_id="hello"))
        contacts = [enrollment_pb2.ContactInput(email=f"{name}@example.com") for name in "bc"]
        await boss.enrollments.EnrollContacts(
            enrollment_pb2.EnrollContactsRequest(workflow_id="hello", contacts=contacts)
        )
        known: dict[str, Any] = {"type": "contact", "fields": {"email": "ada@example.com", "job_title": "Boss"}}
        content = base64.b64encode(b"email\na\nb\nc").decode()
        rows = {"format": "IMPORT_FORMAT_CSV", "type": "contact", "content": content}
        table: list[tuple[str, dict[str, Any], str, int]] = [
            ("RecordService.UpsertRecord", known, "has(diff.email)", ALLOW),  # it is there already
            ("RecordService.UpsertRecord", known, 'has(diff.job_title) && diff.job_title.new == "Boss"', DENY),
            ("RecordService.MergeRecords", {"kept_id": ada, "merged_id": ada}, "has(diff.owner_id)", DENY),
            ("RecordService.MergeRecords", {"kept_id": ada, "merged_id": ada}, "action.count > 9", ALLOW),
            ("RecordService.CreateImport", rows, "action.count > 2", DENY),
            ("RecordService.CreateImport", rows, "action.count > 3", ALLOW),
            ("RecordService.CreateImport", rows, '"owner_id" in action.fields', DENY),
            ("RecordService.RevertChanges", {"cause": "import:none"}, "action.count > 0", ALLOW),
            ("RecordService.RevertChanges", {"cause": "import:none"}, "has(diff.owner_id)", DENY),
            ("RecordService.RevertChanges", {"cause": "x", "preview": True}, "has(diff.owner_id)", ALLOW),
            ("ConnectionService.StartSync", {}, "action.count > 100", DENY),
            ("AgentService.Execute", {"agent_id": "runs"}, 'action.workflow_id == "hello"', DENY),
            ("EnrollmentService.RedriveDeadLetters", {"filter": 'kind = "log"'}, 'action.workflow_id == "other"', DENY),
            ("EnrollmentService.RedriveDeadLetters", {"workflow_id": "hello"}, "action.count > 0", ALLOW),
            ("WebhookService.CreateReplay", {"endpoint_id": "whe_none"}, "action.count > 0", ALLOW),
            ("WorkflowService.ResumeWorkflow", {"workflow_id": "hello"}, "action.count > 1", DENY),
            ("WorkflowService.ResumeWorkflow", {"workflow_id": "other"}, "action.count > 0", ALLOW),
            ("OrganizationService.RemoveMember", {"member_id": mem}, "action.count > 1", DENY),
            ("OrganizationService.RemoveMember", {"member_id": mem}, "action.count > 2", ALLOW),
            ("OrganizationService.RemoveMember", {"member_id": mem}, '"owner_id" in action.fields', DENY),
            ("OrganizationService.RemoveMember", {"member_id": mem}, "has(diff.owner_id)", DENY),
        ]
        for method, given, when, expected in table:
            explain = policy_pb2.ExplainPolicyRequest(method=method)
            explain.request.update(given)
            explain.policy.CopyFrom(policy_pb2.Policy(id="draft", description="d", effect=DENY, when=when))
            verdict = await boss.approvals.ExplainPolicy(explain)
            assert verdict.effect == expected, (method, when, verdict)
        # An explanation tells nobody what their key does not read.
        explain = policy_pb2.ExplainPolicyRequest(method="RecordService.UpsertRecord")
        explain.request.update(known)
        explain.policy.CopyFrom(policy_pb2.Policy(id="draft", description="d", effect=DENY, when="has(diff.email)"))
        for scopes, limits in (
            (["policies:read"], organization_pb2.KeyLimits()),
            (["policies:read", "records:read"], organization_pb2.KeyLimits(record_types=["lead"])),
        ):
            async with core.client((await new_key(boss, scopes, limits=limits)).secret) as narrow:
                error = await refused(narrow.approvals.ExplainPolicy(explain))
                assert error.reason == ("KEY_LIMITED" if limits.record_types else "SCOPE_MISSING")


async def test_a_refused_call_stays_refused_and_a_quorum_has_its_say(core: RunningCore) -> None:
    async with core.client() as boss, core.client(core.agent_key) as agent:
        rule = policy_pb2.ApprovalRule(mode=policy_pb2.APPROVAL_MODE_QUORUM, required_count=2)
        await put(boss, "two", NEEDED, approval=rule, methods=["RecordService.UpsertRecord"])
        asked = (await refused(agent.records.UpsertRecord(upsert("ada@example.com")))).variables["approval_id"]
        once = await decide(core, asked)
        assert (once.state, once.approvals_missing) == (approval_pb2.APPROVAL_STATE_PENDING, 1)
        assert not once.caller_may_decide
        remark = await boss.approvals.CommentApproval(
            approval_pb2.CommentApprovalRequest(approval_id=asked, text="Who is this?")
        )
        assert [(vote.decision, vote.comment) for vote in remark.votes] == [(APPROVE, ""), (0, "Who is this?")]
        assert not remark.caller_may_decide
        no = approval_pb2.DecideApprovalRequest(approval_id=asked, decision=REJECT, comment="Not known.")
        assert (await refused(boss.approvals.DecideApproval(no))).reason == "PERSON_REQUIRED"
        named = {"methods": ["ApprovalService.DecideApproval"], "when": 'principal.kind == "service"'}
        await put(boss, "programs-vote", ALLOW, **named)
        seen = await boss.approvals.GetApproval(approval_pb2.GetApprovalRequest(approval_id=asked))
        assert (seen.caller_may_decide, seen.caller_may_decide_unasked) == (True, True)
        assert not once.caller_may_decide_unasked
        twice = await boss.approvals.DecideApproval(no)
        assert twice.state == approval_pb2.APPROVAL_STATE_PENDING  # others may still make two
        await boss.approvals.PutPolicy(
            policy_pb2.PutPolicyRequest(
                policy=policy_pb2.Policy(id="two", description="One will do", effect=NEEDED, enabled=True)
            )
        )
        again = (await refused(agent.records.UpsertRecord(upsert("ada@example.com")))).variables["approval_id"]
        assert again != asked  # other terms, another approval
        await decide(core, again, REJECT)
        error = await refused(agent.records.UpsertRecord(upsert("ada@example.com")))
        assert error.reason == "APPROVAL_REJECTED"


async def test_a_policy_is_checked_whole_before_it_is_in_force(core: RunningCore) -> None:
    async with core.client() as boss:
        error = await refused(put(boss, "Bad Id", NEEDED, when="principal.knd == 1", methods=["RecordService.Nothing"]))
        assert {one.field for one in error.violations} == {"policy.id", "policy.when", "policy.methods[0]"}
        error = await refused(put(boss, "named", NEEDED, approval=policy_pb2.ApprovalRule(member_ids=["mem_gone"])))
        assert error.violations[0].field == "policy.approval.member_ids[0]"
        kept = await put(boss, "kept", DENY, priority=5)
        stale = policy_pb2.Policy(id="kept", description="d", effect=ALLOW, etag="9", enabled=True)
        assert (
            await refused(boss.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=stale)))
        ).reason == "ETAG_MISMATCH"
        # In force for everything, and yet it can be taken back.
        await put(boss, "first", ALLOW, priority=-1, methods=["RecordService.UpsertRecord"])
        listed = await boss.approvals.ListPolicies(policy_pb2.ListPoliciesRequest())
        assert [one.id for one in listed.policies] == ["first", "kept"]
        await boss.records.UpsertRecord(upsert("ada@example.com"))
        await boss.approvals.DeletePolicy(policy_pb2.DeletePolicyRequest(policy_id=kept.id))


@pytest.mark.both_databases
async def test_bulk_enrollment_fits_the_budget_or_is_refused_whole(core: RunningCore) -> None:
    async with core.client() as boss, core.client(core.agent_key) as agent:
        await boss.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="hello", source=HELLO, publish=True)
        )
        await budget(boss, "agent", "enrollments", 3)

        def enroll(*names: str) -> enrollment_pb2.EnrollContactsRequest:
            contacts = [enrollment_pb2.ContactInput(email=f"{name}@example.com") for name in names]
            return enrollment_pb2.EnrollContactsRequest(workflow_id="hello", contacts=contacts)

        assert (await agent.enrollments.EnrollContacts(enroll("a", "b"))).created_count == 2
        error = await refused(agent.enrollments.EnrollContacts(enroll("a", "c", "d")))
        assert (error.reason, error.variables["left"]) == ("BUDGET_EXHAUSTED", "1")
        assert "1 of these 2 contacts may be enrolled today" in error.message
        there = await boss.enrollments.ListEnrollments(enrollment_pb2.ListEnrollmentsRequest())
        assert len(there.enrollments) == 2
        assert (await agent.enrollments.EnrollContacts(enroll("a", "c"))).created_count == 1
        assert (await boss.enrollments.EnrollContacts(enroll("e", "f", "g"))).created_count == 3  # another principal
        me = await agent.organization.GetCaller(organization_pb2.GetCallerRequest())
        bound = await boss.approvals.ListBudgets(policy_pb2.ListBudgetsRequest(principal_id=me.principal_id))
        assert [(one.metric, one.daily_limit, one.used_today) for one in bound.budgets] == [("enrollments", 3, 3)]
        core.clock.advance(timedelta(days=1))
        assert (await agent.enrollments.EnrollContacts(enroll("d"))).created_count == 1
        await budget(boss, "agent", "enrollments", -1)
        await budget(boss, "agent", "writes", 0)
        error = await refused(agent.enrollments.EnrollContacts(enroll("z")))
        assert "No more calls may be made today" in error.message


@pytest.mark.both_databases
async def test_messages_over_the_budget_of_who_enrolled_wait_for_the_next_day(core: RunningCore) -> None:
    async with core.client() as boss, core.client(core.agent_key) as agent:
        await boss.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="hello", source=HELLO, publish=True)
        )
        await boss.webhooks.CreateEndpoint(webhook_pb2.CreateEndpointRequest(url="http://127.0.0.1:9/"))
        await budget(boss, "agent", "messages", 2)
        contacts = [enrollment_pb2.ContactInput(email=f"{n}@example.com") for n in range(5)]
        await agent.enrollments.EnrollContacts(
            enrollment_pb2.EnrollContactsRequest(workflow_id="hello", contacts=contacts)
        )
        await core.core.outward.mailer.drain()
        assert await outgoing(core) == {"sent": 2, "pending": 3}
        core.clock.advance(timedelta(days=1))
        await core.core.outward.mailer.drain()
        assert await outgoing(core) == {"sent": 4, "pending": 1}


async def outgoing(core: RunningCore) -> dict[str, int]:
    async with core.core.database.read(core.organization.org_id) as tx:
        rows = await tx.all(select(outgoing_messages.c.state, outgoing_messages.c.outcome))
    held = [row.outcome for row in rows if row.state == "pending"]
    assert all("has sent the 2 messages that it may a day" in outcome for outcome in held)
    return dict(Counter(row.state for row in rows))
