"""Approvals that workflows ask for, with all who have a say: through the public surface."""

from __future__ import annotations

from datetime import timedelta

import grpc
import pytest

from dripstone.v1 import approval_pb2, organization_pb2, workflow_pb2
from dripstone.v1.client import ApiError
from tests.journeys.following import Story
from tests.rpc.control_calls import refused
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

APPROVE = approval_pb2.APPROVAL_DECISION_APPROVE
HELLO = """
title: Hello
steps: [{id: hello, kind: log, message: hello}]
"""
QUORUM = """
title: Quorum
steps:
  - id: agree
    kind: approval
    title: Go on?
    mode: all
    roles: [approver, admin]
    timeout: 2h
    on_timeout: escalate
    on_reject: cancel
    exits: {timeout: late}
  - {id: yes, kind: log, message: yes, next: end}
  - {id: late, kind: log, message: late, next: end}
"""


async def waiting(story: Story) -> approval_pb2.Approval:
    request = approval_pb2.ListApprovalsRequest(filter='state = "pending"')
    (one,) = (await story.client.approvals.ListApprovals(request)).approvals
    return one


async def member(story: Story, name: str, role: organization_pb2.Role.ValueType) -> tuple[str, str]:
    made = await story.client.organization.CreateMember(
        organization_pb2.CreateMemberRequest(email=f"{name}@example.com", display_name=name, role=role)
    )
    request = organization_pb2.CreateApiKeyRequest(
        display_name=name,
        principal_kind=organization_pb2.PRINCIPAL_KIND_MEMBER,
        member_id=made.id,
        scopes=["approvals:decide", "approvals:read"],
    )
    return made.id, (await story.client.organization.CreateApiKey(request)).secret


async def test_a_launch_gate_stands_before_every_workflow_of_who_wants_it(core: RunningCore) -> None:
    async with core.client() as client, core.client(core.approver_api_key) as person:
        story = Story(client)
        await client.organization.UpdateOrganization(
            organization_pb2.UpdateOrganizationRequest(require_default_approval_gate=True)
        )
        await story.publish("hello", HELLO)
        published = await client.workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id="hello", version=1))
        assert [step.id for step in published.document.steps] == ["launch_gate", "hello"]
        assert "launch_gate" in published.source
        draft = await client.workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id="hello"))
        assert [step.id for step in draft.document.steps] == ["hello"]
        first, second = await story.enroll("hello", "a@example.com", "b@example.com")
        assert await story.where(first) == ("awaiting_approval", "launch_gate")
        for one in (await person.approvals.ListApprovals(approval_pb2.ListApprovalsRequest())).approvals:
            if one.subject_id == first:
                await person.approvals.DecideApproval(
                    approval_pb2.DecideApprovalRequest(approval_id=one.id, decision=APPROVE)
                )
        await core.settle()
        assert (await story.where(first))[0] == "completed"
        await core.pass_time(timedelta(days=3))
        assert await story.where(second) == ("exited", "launch_gate")
        await story.publish("open", HELLO + "require_default_approval_gate: false\n")
        (free,) = await story.enroll("open", "c@example.com")
        assert (await story.where(free))[0] == "completed"


async def test_all_must_agree_one_hands_it_on_and_what_is_late_goes_further(core: RunningCore) -> None:
    async with core.client() as client, core.client(core.approver_api_key) as person:
        story = Story(client)
        ada, ada_key = await member(story, "ada", organization_pb2.ROLE_APPROVER)
        bob, bob_key = await member(story, "bob", organization_pb2.ROLE_APPROVER)
        carl, carl_key = await member(story, "carl", organization_pb2.ROLE_APPROVER)
        await client.organization.RemoveMember(organization_pb2.RemoveMemberRequest(member_id=bob))
        await story.publish("quorum", QUORUM)
        # Who learnt the approvers' secrets must not be who asks, nor have made the key of who asks.
        async with core.client(core.agent_key) as other:
            (enrollment,) = await Story(other).enroll("quorum", "a@example.com")
        asked = await waiting(story)
        assert (asked.approvals_missing, asked.caller_may_decide) == (3, False)
        await core.pass_time(timedelta(hours=2))
        asked = await waiting(story)
        assert asked.HasField("escalate_time")
        decide = approval_pb2.DecideApprovalRequest(approval_id=asked.id, decision=APPROVE)
        await person.approvals.DecideApproval(decide)
        async with core.client(ada_key) as by_ada, core.client(carl_key) as by_carl:
            handed = await by_ada.approvals.DelegateApproval(
                approval_pb2.DelegateApprovalRequest(approval_id=asked.id, member_id=carl)
            )
            assert (list(handed.delegate_ids), handed.caller_may_decide) == ([carl], False)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await by_ada.approvals.DecideApproval(decide)
            assert ApiError.of(caught.value).reason == "PERMISSION_DENIED"
            done = await by_carl.approvals.DecideApproval(decide)
        assert [(one.principal_id, one.on_behalf_of) for one in done.votes if one.decision][1:] == [(carl, ada)]
        assert done.state == approval_pb2.APPROVAL_STATE_USED
        await core.settle()
        assert ("yes", "ok") in await story.trace(enrollment)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with core.client(bob_key) as by_bob:
                await by_bob.approvals.DecideApproval(decide)
        assert ApiError.of(caught.value).reason == "UNAUTHENTICATED"


async def test_who_sends_the_event_does_not_approve_what_it_leads_to(core: RunningCore) -> None:
    async with core.client() as client, core.client(core.approver_api_key) as person:
        story = Story(client)
        await story.begin()
        first = "steps: [{id: mark, kind: update, set: {lifecycle_stage: customer}}]\n"
        await story.publish("first", "title: First\ntriggers: [{event: order.paid}]\n" + first)
        gate = "steps: [{id: agree, kind: approval, title: Go on?, exits: {rejected: end}}]\n"
        await story.publish("near", "title: Near\ntriggers: [{event: order.paid}]\n" + gate)
        await story.publish("far", "title: Far\ntriggers: [{record: contact, fields: [lifecycle_stage]}]\n" + gate)
        await story.event("order.paid", "ada@example.com")
        await core.settle()
        listed = await client.approvals.ListApprovals(approval_pb2.ListApprovalsRequest(filter='state = "pending"'))
        workflows = {one.details["workflow_id"] for one in listed.approvals}
        assert workflows == {"near", "far"}
        for one in listed.approvals:
            decide = approval_pb2.DecideApprovalRequest(approval_id=one.id, decision=APPROVE)
            with refused("PERMISSION_DENIED"):
                await client.approvals.DecideApproval(decide)
            assert (await person.approvals.DecideApproval(decide)).state == approval_pb2.APPROVAL_STATE_USED
