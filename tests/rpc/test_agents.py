"""Agents: templates bind them, people let them go to work, and anybody responsible can hold or stop them at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from dripstone.v1 import agent_pb2 as pb
from dripstone.v1 import agent_template_pb2 as templates
from dripstone.v1 import approval_pb2, enrollment_pb2, organization_pb2, policy_pb2
from tests.rpc.agent_calls import Fleet, fleet_of
from tests.rpc.control_calls import new_key, refused
from tests.running import RunningCore

pytestmark = pytest.mark.anyio


@pytest.fixture
async def fleet(core: RunningCore) -> AsyncIterator[Fleet]:
    """Return a core with two workflows."""
    async with fleet_of(core) as made:
        yield made


async def _decide(fleet: Fleet, approval_id: str, decision: approval_pb2.ApprovalDecision.ValueType) -> None:
    request = approval_pb2.DecideApprovalRequest(approval_id=approval_id, decision=decision, comment="Seen it.")
    async with fleet.core.client(fleet.core.approver_api_key) as person:
        await person.approvals.DecideApproval(request)


async def test_templates_have_versions_and_a_bad_one_is_refused_whole(fleet: Fleet) -> None:
    assert (await fleet.template(workflow_id="quick")).version == 1
    assert (await fleet.template(workflow_id="quick")).version == 1
    second = await fleet.template(workflow_id="quick", instructions="Be brief.")
    assert (second.version, second.HasField("create_time")) == (2, True)
    await fleet.template("other")
    read = await fleet.client.agents.GetAgentTemplate(templates.GetAgentTemplateRequest(template_id="desk"))
    assert read == second
    page = await fleet.client.agents.ListAgentTemplates(templates.ListAgentTemplatesRequest())
    assert [(one.id, one.version) for one in page.templates] == [("other", 1), ("desk", 2)]
    with refused("NOT_FOUND"):
        await fleet.client.agents.GetAgentTemplate(templates.GetAgentTemplateRequest(template_id="none"))
    with refused("INVALID_ARGUMENT") as told:
        await fleet.template(
            "Bad Desk",
            workflow_id="quik",
            scoring_model_id="none",
            allowed_methods=["QualificationService.QualifyLaed"],
            budgets=[
                policy_pb2.Budget(metric="recods", daily_limit=-5, principal_id="x"),
                *[policy_pb2.Budget(metric="records")] * 2,
            ],
            approval=policy_pb2.ApprovalRule(required_count=3),
            unit_costs=[templates.UnitCost(unit="step:lgo", cost=1)],
        )
    assert {one.field for one in told.error.violations} >= {
        "template.id",
        "template.workflow_id",
        "template.scoring_model_id",
        "template.allowed_methods[0]",
        "template.budgets[0].metric",
        "template.budgets[0].daily_limit",
        "template.budgets[0].principal_id",
        "template.budgets[2].metric",
        "template.approval",
        "template.unit_costs[0].unit",
    }


async def test_a_deployment_waits_until_others_have_decided_on_it(fleet: Fleet) -> None:
    await fleet.template(workflow_id="quick", deploy_requires_approval=True)
    deployed = await fleet.deploy("one", "desk")
    assert (deployed.state, deployed.workflow_id, deployed.template_version) == (
        pb.AGENT_STATE_PENDING_APPROVAL,
        "quick",
        1,
    )
    await fleet.template(workflow_id="slow")  # what is deployed keeps its version
    with refused("AGENT_HELD") as told:
        await fleet.execute("one", "ann")
    assert deployed.approval_id in told.error.message
    with refused("PERMISSION_DENIED"):
        await fleet.client.approvals.DecideApproval(
            approval_pb2.DecideApprovalRequest(
                approval_id=deployed.approval_id, decision=approval_pb2.APPROVAL_DECISION_APPROVE
            )
        )
    await _decide(fleet, deployed.approval_id, approval_pb2.APPROVAL_DECISION_APPROVE)
    at_work = await fleet.agent("one")
    assert (at_work.state, at_work.template_version, at_work.workflow_id) == (pb.AGENT_STATE_ACTIVE, 1, "quick")
    assert (await fleet.execute("one", "ann")).agent_id == "one"

    await fleet.template("asks", workflow_id="quick", deploy_requires_approval=True)
    rejected, expired = await fleet.deploy("two", "asks"), await fleet.deploy("three", "asks")
    await _decide(fleet, rejected.approval_id, approval_pb2.APPROVAL_DECISION_REJECT)
    await fleet.core.pass_time(timedelta(days=60))
    for agent_id, why in (("two", "was rejected. Seen it."), ("three", "expired.")):
        agent = await fleet.agent(agent_id)
        assert agent.state == pb.AGENT_STATE_REJECTED
        assert agent.state_reason.endswith(why)
        with refused("AGENT_HELD"):
            await fleet.execute(agent_id, "ann")
        with refused("WRONG_STATE"):
            await fleet.key(agent_id)
        with refused("WRONG_STATE"):
            await fleet.client.agents.ResumeAgent(templates.ResumeAgentRequest(agent_id=agent_id))
    assert expired.state == pb.AGENT_STATE_PENDING_APPROVAL


async def test_a_template_binds_the_keys_and_the_budgets_of_its_agents(fleet: Fleet) -> None:
    methods = ["AgentService.Execute", "AgentService.GetExecution"]
    await fleet.template(
        workflow_id="quick",
        allowed_methods=methods,
        budgets=[policy_pb2.Budget(metric="executions", daily_limit=2)],
    )
    await fleet.deploy("one", "desk")
    key = await fleet.key("one")
    assert list(key.api_key.limits.methods) == methods
    assert list((await fleet.agent("one")).key_ids) == [key.api_key.id]
    beyond = organization_pb2.KeyLimits(methods=[methods[0], "RecordService.GetRecord"])
    with refused("INVALID_ARGUMENT") as told:
        await fleet.key("one", limits=beyond)
    assert [one.field for one in told.error.violations] == ["limits.methods[1]"]
    with refused("INVALID_ARGUMENT"):
        await fleet.client.organization.UpdateApiKey(
            organization_pb2.UpdateApiKeyRequest(
                api_key_id=key.api_key.id,
                api_key=organization_pb2.ApiKey(limits=beyond),
                update_mask={"paths": ["limits"]},
            )
        )
    async with fleet.core.client(key.secret) as own:
        with refused("KEY_LIMITED"):
            await own.agents.GetAgent(pb.GetAgentRequest(agent_id="one"))
        first = await fleet.execute("one", "ann", own, idempotency_key="once")
        assert await fleet.execute("one", "ann", own, idempotency_key="once") == first
        await fleet.execute("one", "ben")  # whoever executes it
        with refused("BUDGET_EXHAUSTED"):
            await fleet.execute("one", "cid", own)
    with refused("BUDGET_EXHAUSTED"):
        await fleet.execute("one", "cid")


async def test_a_paused_agent_does_nothing_and_a_stopped_one_never_again(fleet: Fleet) -> None:
    await fleet.deploy("one", workflow_id="slow")
    key = await fleet.key("one")
    running = [await fleet.execute("one", name) for name in ("ann", "ben", "cat")]
    enroll = enrollment_pb2.EnrollContactsRequest(workflow_id="slow", contacts=[{"email": "cid@example.com"}])
    of_others = (await fleet.client.enrollments.EnrollContacts(enroll)).enrollment_ids[0]
    await fleet.core.settle()
    async with fleet.core.client(key.secret) as own:
        tasks = (await own.agents.ListAgentTasks(pb.ListAgentTasksRequest())).tasks
        task_id = next(one.id for one in tasks if one.enrollment_id == of_others)
        await own.agents.ClaimAgentTask(pb.ClaimAgentTaskRequest(task_id=task_id))
        watch = own.enrollments.WatchEnrollment(
            enrollment_pb2.WatchEnrollmentRequest(enrollment_id=running[0].enrollment_id)
        )
        await watch.read()
        paused = await fleet.client.agents.PauseAgent(templates.PauseAgentRequest(agent_id="one", reason="Too fast"))
        assert paused.state == pb.AGENT_STATE_PAUSED
        assert paused.state_reason.endswith(": Too fast.")
        for client in (own, fleet.client):
            with refused("AGENT_HELD"):
                await fleet.execute("one", "dan", client)
        with refused("AGENT_HELD"):
            await own.agents.GetAgentTask(pb.GetAgentTaskRequest(task_id=task_id))
        await fleet.client.agents.CancelExecution(templates.CancelExecutionRequest(execution_id=running[0].id))
        with refused("AGENT_HELD"):
            async with asyncio.timeout(10):
                while await watch.read():
                    pass
        resumed = await fleet.client.agents.ResumeAgent(templates.ResumeAgentRequest(agent_id="one"))
        assert (resumed.state, resumed.state_reason) == (pb.AGENT_STATE_ACTIVE, "")
        await own.agents.GetAgentTask(pb.GetAgentTaskRequest(task_id=task_id))
        stop = templates.StopAgentRequest(agent_id="one", reason="It went wrong")
        stopped = await fleet.client.agents.StopAgent(stop)
        assert (stopped.cancelled_count, stopped.released_count, stopped.revoked_key_count) == (2, 1, 1)
        again = await fleet.client.agents.StopAgent(stop)
        assert (again.cancelled_count, again.released_count, again.revoked_key_count) == (0, 0, 0)
        assert again.agent == stopped.agent
        with refused("UNAUTHENTICATED"):
            await own.agents.GetAgentTask(pb.GetAgentTaskRequest(task_id=task_id))
    assert {(await fleet.execution(one.id)).state for one in running} == {pb.EXECUTION_STATE_CANCELLED}
    free = await fleet.client.agents.GetAgentTask(pb.GetAgentTaskRequest(task_id=task_id))
    assert free.state == pb.AGENT_TASK_STATE_OPEN
    for request in (templates.ResumeAgentRequest(agent_id="one"), templates.PauseAgentRequest(agent_id="one")):
        call = fleet.client.agents.ResumeAgent if "Resume" in type(request).__name__ else fleet.client.agents.PauseAgent
        with refused("WRONG_STATE"):
            await call(request)  # type: ignore[operator]
    with refused("AGENT_HELD"):
        await fleet.execute("one", "dan")
    metrics = await fleet.metrics("one")
    assert (metrics.execution_count, metrics.cancelled_count, metrics.running_count) == (3, 3, 0)


async def test_executions_tell_their_steps_and_can_be_cancelled(fleet: Fleet) -> None:
    quick = await fleet.client.agents.ExecuteWorkflow(
        pb.ExecuteWorkflowRequest(workflow_id="quick", input={"email": "ann@example.com", "name": "Ann"})
    )
    await fleet.deploy("slow", workflow_id="slow")
    slow = await fleet.execute("slow", "ben")
    await fleet.core.settle()
    over = await fleet.execution(quick.id)
    assert over.state == pb.EXECUTION_STATE_SUCCEEDED
    assert [(one.step_id, one.kind, one.outcome, list(one.logs)) for one in over.steps] == [
        ("say", "log", "ok", ["Hello Ann"]),
        ("note", "log", "ok", ["Bye"]),
        ("done", "exit", "ended", []),
    ]
    cancelled = await fleet.client.agents.CancelExecution(
        templates.CancelExecutionRequest(execution_id=slow.id, reason="By mistake")
    )
    assert cancelled.state == pb.EXECUTION_STATE_CANCELLED
    assert "By mistake" in cancelled.error
    for execution_id, reason in ((slow.id, "WRONG_STATE"), (quick.id, "WRONG_STATE"), ("exe_none", "NOT_FOUND")):
        with refused(reason):
            await fleet.client.agents.CancelExecution(templates.CancelExecutionRequest(execution_id=execution_id))


async def test_a_key_of_no_agent_is_not_touched_by_a_stop(fleet: Fleet) -> None:
    await fleet.deploy("one", workflow_id="quick")
    other = await new_key(fleet.client, ["agents:read"], principal_kind=organization_pb2.PRINCIPAL_KIND_AGENT)
    await fleet.client.agents.StopAgent(templates.StopAgentRequest(agent_id="one", reason="Over"))
    async with fleet.core.client(other.secret) as client:
        assert (await client.agents.GetAgent(pb.GetAgentRequest(agent_id="one"))).state == pb.AGENT_STATE_STOPPED


@pytest.mark.parametrize("agent_id", ["service", "agent", "member", "key_01kjpwd6m0tyb79fb70qgkt6j7"])
async def test_an_agent_is_not_named_like_others_who_have_budgets(fleet: Fleet, agent_id: str) -> None:
    with refused("INVALID_ARGUMENT") as told:
        await fleet.deploy(agent_id, workflow_id="quick")
    assert [one.field for one in told.error.violations] == ["agent_id"]


async def test_a_template_lowers_what_admins_allow_and_never_raises_it(fleet: Fleet) -> None:
    budget = policy_pb2.Budget(principal_id="agent", metric="executions", daily_limit=5)
    await fleet.client.approvals.SetBudget(policy_pb2.SetBudgetRequest(budget=budget))
    for template_id, limit in (("wide", 2**53), ("tight", 2)):
        budget = policy_pb2.Budget(metric="executions", daily_limit=limit)
        await fleet.template(template_id, workflow_id="quick", budgets=[budget])
    for agent_id, template_id in (("usual", "wide"), ("least", "tight")):
        await fleet.deploy(agent_id, template_id)
    listed = await fleet.client.approvals.ListBudgets(policy_pb2.ListBudgetsRequest())
    limits = {one.principal_id: one.daily_limit for one in listed.budgets}
    assert limits == {"agent": 5, "usual": 5, "least": 2}
