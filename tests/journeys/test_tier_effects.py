"""What a scoring model lets happen when a lead comes into a tier, through a whole core."""

from __future__ import annotations

import pytest

from core.rpc.convert import to_struct
from dripstone.v1 import enrollment_pb2, organization_pb2, qualification_pb2, routing_pb2, workflow_pb2
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)]

WORKFLOW = """
title: Hot leads
triggers: [{event: lead.hot}]
steps:
  - {id: wait, kind: wait, for: 3d}
"""
MODEL = """
title: T
qualified_at: 10
tiers: [{name: A, from: 10}, {name: B, from: 0}]
fit: {rules: [{id: size, when: contact.employees >= 50, points: 20}]}
on_tier: {A: {enroll: hot-leads, event: lead.seen}}
"""
ROUTING = "title: Everybody\ncatch_all: {members: [ada@example.com]}\n"
BY_TIER = """
title: By tier
sla: {respond_within: 1h}
rules:
  - {id: hot, when: 'lead.tier == "A"', method: round_robin, members: [ada@example.com]}
catch_all: {members: [bob@example.com]}
"""
HOT = to_struct({"employees": 90})
COMMIT = qualification_pb2.QUALIFY_MODE_COMMIT


async def test_a_lead_that_comes_into_a_tier_is_enrolled_once_and_not_while_the_workflow_takes_nobody(
    core: RunningCore,
) -> None:
    async with core.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="hot-leads", source=WORKFLOW, publish=True)
        )
        await client.qualification.PublishScoringModel(
            qualification_pb2.PublishScoringModelRequest(model_id="default", source=MODEL)
        )
        plan = await client.qualification.QualifyLead(
            qualification_pb2.QualifyLeadRequest(email="ada@customer.example", fields=HOT)
        )
        assert [(one.kind, one.subject_id) for one in plan.planned_effects] == [
            ("event", "lead.seen"),
            ("enroll", "hot-leads"),
        ]
        for request in (
            qualification_pb2.QualifyLeadRequest(plan_id=plan.plan_id, mode=COMMIT),
            qualification_pb2.QualifyLeadRequest(email="ada@customer.example", mode=COMMIT),
        ):
            done = await client.qualification.QualifyLead(request)
            assert done.applied
        await core.settle()
        found = await client.enrollments.ListEnrollments(enrollment_pb2.ListEnrollmentsRequest(workflow_id="hot-leads"))
        assert [one.contact_id for one in found.enrollments] == [done.contact_id]

        await client.workflows.ArchiveWorkflow(workflow_pb2.ArchiveWorkflowRequest(workflow_id="hot-leads"))
        other = await client.qualification.QualifyLead(
            qualification_pb2.QualifyLeadRequest(email="ben@customer.example", fields=HOT, mode=COMMIT)
        )
        assert other.applied
        assert other.planned_effects[-1].summary == "The contact cannot be enrolled in hot-leads: it is archived"


async def test_a_model_gives_its_leads_to_whom_a_routing_says(core: RunningCore) -> None:
    async with core.client() as client:
        ada = await client.organization.CreateMember(
            organization_pb2.CreateMemberRequest(
                email="ada@example.com", display_name="Ada", role=organization_pb2.ROLE_EDITOR
            )
        )
        routing = qualification_pb2.PublishScoringModelRequest(
            model_id="default", source=MODEL.partition("on_tier")[0] + "routing: everybody\n"
        )
        with pytest.raises(Exception, match="everybody"):
            await client.qualification.PublishScoringModel(routing)
        await client.qualification.PublishRouting(
            routing_pb2.PublishRoutingRequest(routing_id="everybody", source=ROUTING)
        )
        await client.qualification.PublishScoringModel(routing)
        plan = await client.qualification.QualifyLead(
            qualification_pb2.QualifyLeadRequest(email="eve@customer.example", fields=HOT)
        )
        assert plan.owner.member_id == ada.id
        done = await client.qualification.QualifyLead(
            qualification_pb2.QualifyLeadRequest(plan_id=plan.plan_id, mode=COMMIT)
        )
        given = await client.qualification.ListAssignments(routing_pb2.ListAssignmentsRequest())
        assert [(one.lead_id, one.member_id) for one in given.assignments] == [(done.lead_id, ada.id)]


async def test_a_routing_decides_once_and_on_what_the_qualification_makes_of_the_lead(core: RunningCore) -> None:
    async with core.client() as client:
        members = {}
        for name in ("ada", "bob"):
            request = organization_pb2.CreateMemberRequest(
                email=f"{name}@example.com", display_name=name, role=organization_pb2.ROLE_EDITOR
            )
            members[name] = (await client.organization.CreateMember(request)).id
        await client.qualification.PublishRouting(
            routing_pb2.PublishRoutingRequest(routing_id="everybody", source=BY_TIER)
        )
        source = MODEL.partition("on_tier")[0] + "routing: everybody\n"
        await client.qualification.PublishScoringModel(
            qualification_pb2.PublishScoringModelRequest(model_id="default", source=source)
        )
        at_once = await client.qualification.QualifyLead(
            qualification_pb2.QualifyLeadRequest(email="hot@customer.example", fields=HOT, mode=COMMIT)
        )
        plan = await client.qualification.QualifyLead(
            qualification_pb2.QualifyLeadRequest(email="warm@customer.example", fields=HOT)
        )
        planned = await client.qualification.QualifyLead(
            qualification_pb2.QualifyLeadRequest(plan_id=plan.plan_id, mode=COMMIT)
        )
        assert {at_once.owner.member_id, plan.owner.member_id, planned.owner.member_id} == {members["ada"]}
        given = await client.qualification.ListAssignments(routing_pb2.ListAssignmentsRequest())
        told = {(one.lead_id, one.member_id, one.method, one.rule_id) for one in given.assignments}
        assert told == {(lead, members["ada"], "round_robin", "hot") for lead in (at_once.lead_id, planned.lead_id)}
        assert all(one.HasField("response_due_time") for one in given.assignments)
