"""What was done and what it cost: by agent, principal and workflow, the same before and after upkeep folds it."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from core.store.control import usage
from core.store.workflows import statistics
from dripstone.v1 import agent_pb2 as pb
from dripstone.v1 import agent_template_pb2 as templates
from dripstone.v1 import audit_pb2, organization_pb2, policy_pb2
from tests.rpc.agent_calls import Fleet, fleet_of
from tests.rpc.control_calls import refused
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

PRICES = [
    templates.UnitCost(unit="step:log", cost=0.5),
    templates.UnitCost(unit="step:log/note", cost=0.25),
    templates.UnitCost(unit="input_token", cost=0.001),
    templates.UnitCost(unit="output_token/large", cost=0.01),
]


@pytest.fixture
async def fleet(core: RunningCore) -> AsyncIterator[Fleet]:
    """Return a core with two workflows, and agents of a template that says what things cost."""
    async with fleet_of(core) as made:
        await made.client.organization.UpdateOrganization(
            organization_pb2.UpdateOrganizationRequest(cost_currency="EUR")
        )
        await made.template(unit_costs=PRICES, budgets=[policy_pb2.Budget(metric="cost", daily_limit=4)])
        await made.deploy("quick", "desk", "quick")
        await made.deploy("slow", "desk", "slow")
        yield made


async def _usage(fleet: Fleet, group_by: str = "", **values: Any) -> audit_pb2.GetUsageResponse:
    return await fleet.client.audit.GetUsage(audit_pb2.GetUsageRequest(group_by=group_by, **values))


def _counts(line: audit_pb2.UsageLine) -> dict[str, int]:
    return {name: int(value) for name, value in line.counts.items()}


async def test_costs_follow_from_prices_and_reports_until_the_budget_is_spent(fleet: Fleet) -> None:
    execution = await fleet.execute("quick", "ann")
    await fleet.core.settle()
    over = await fleet.execution(execution.id)
    assert [(one.step_id, one.cost) for one in over.steps] == [("say", 0.5), ("note", 0.25), ("done", 0.0)]
    assert over.cost == 0.75
    reported = await fleet.report(execution.id, model="large", input_tokens=1_000, output_tokens=10, step_id="say")
    assert (reported.cost, reported.tokens, reported.steps[0].cost) == (1.85, 1_010, 1.6)
    with refused("INVALID_ARGUMENT") as told:
        await fleet.report(execution.id, input_tokens=-1, output_tokens=10**12, cost=-2)
    assert [one.field for one in told.error.violations] == ["input_tokens", "output_tokens", "cost"]
    assert (await fleet.report(execution.id, cost=2.0)).cost == 3.85
    budgets = await fleet.client.approvals.ListBudgets(policy_pb2.ListBudgetsRequest(principal_id="quick"))
    assert [(one.metric, one.daily_limit, one.used_today) for one in budgets.budgets] == [("cost", 4, 3)]
    await fleet.execute("quick", "ben")
    await fleet.core.settle()
    with refused("BUDGET_EXHAUSTED"):
        await fleet.execute("quick", "cid")
    # What is spent is spent: it is counted over the budget too.
    assert (await fleet.report(execution.id, cost=9.0)).cost == 12.85
    page = await fleet.client.agents.ListExecutions(pb.ListExecutionsRequest(filter='agent_id = "quick"'))
    assert sorted(one.cost for one in page.executions) == [0.75, 12.85]


async def test_metrics_are_what_a_recount_of_the_executions_gives(fleet: Fleet) -> None:
    key = await fleet.key("slow")
    for agent_id, name in (("quick", "ann"), ("quick", "ben"), ("slow", "cid"), ("slow", "dan"), ("slow", "eve")):
        await fleet.execute(agent_id, name)
    await fleet.core.settle()
    slow = await fleet.client.agents.ListExecutions(pb.ListExecutionsRequest(filter='agent_id = "slow"'))
    await fleet.report(slow.executions[0].id, input_tokens=500)
    async with fleet.core.client(key.secret) as own:
        tasks = (await own.agents.ListAgentTasks(pb.ListAgentTasksRequest())).tasks
        fleet.core.clock.advance(timedelta(seconds=3))
        await own.agents.AnswerAgentTask(pb.AnswerAgentTaskRequest(task_id=tasks[0].id, output={"line": "Hello"}))
        # An agent that executes another: each has its own.
        await fleet.execute("quick", "fay", own)
    await fleet.client.agents.CancelExecution(
        templates.CancelExecutionRequest(execution_id=next(one.id for one in slow.executions if _waits(one, tasks[1])))
    )
    await fleet.core.settle()
    for agent_id in ("quick", "slow"):
        page = await fleet.client.agents.ListExecutions(pb.ListExecutionsRequest(filter=f'agent_id = "{agent_id}"'))
        states = Counter(pb.ExecutionState.Name(one.state) for one in page.executions)
        took = [_seconds(one) for one in page.executions if one.HasField("end_time")]
        told = await fleet.metrics(agent_id)
        assert (told.execution_count, told.running_count) == (len(page.executions), states["EXECUTION_STATE_RUNNING"])
        assert (told.succeeded_count, told.failed_count, told.cancelled_count) == (
            states["EXECUTION_STATE_SUCCEEDED"],
            states["EXECUTION_STATE_FAILED"],
            states["EXECUTION_STATE_CANCELLED"],
        )
        assert told.mean_seconds == pytest.approx(sum(took) / len(took), abs=0.001)
        assert max(took) <= told.p95_seconds <= max(2 * max(took), 0.001)
        assert told.cost == pytest.approx(sum(one.cost for one in page.executions))
        assert told.tokens == sum(one.tokens for one in page.executions)
        assert [(line.subject_id, line.cost) for line in told.days] == [(agent_id, told.cost)]
    assert (await fleet.metrics("slow")).tasks_answered == 1
    fleet.core.clock.advance(timedelta(days=2))
    assert (await fleet.metrics("slow", days=1)).execution_count == 0
    with refused("INVALID_ARGUMENT"):
        await fleet.metrics("slow", days=400)


def _waits(execution: pb.Execution, task: pb.AgentTask) -> bool:
    return execution.enrollment_id == task.enrollment_id


def _seconds(execution: pb.Execution) -> float:
    return (execution.end_time.ToDatetime() - execution.create_time.ToDatetime()).total_seconds()


async def _measured(fleet: Fleet) -> float:
    """Return the cost of agents by /metrics."""
    async with fleet.core.http() as http:
        text = (await http.get("/metrics")).text
    (*_, last) = ["0", *re.findall(r'^dripstone_cost_total\{kind="agent"\} (\S+)$', text, re.MULTILINE)]
    return float(last)


async def test_use_is_told_by_who_and_what_and_folding_changes_no_figure(fleet: Fleet) -> None:
    key = await fleet.key("quick")
    async with fleet.core.client(key.secret) as own:
        done = await fleet.execute("quick", "ann", own)
        await own.agents.ReportCost(templates.ReportCostRequest(execution_id=done.id, cost=0.125))
        await own.agents.Execute(
            pb.ExecuteRequest(agent_id="quick", type="workflow", input={"email": "no@example.com"}, validate_only=True)
        )
    await fleet.core.settle()
    groups = ("", "principal", "workflow", "agent")
    before = [await _usage(fleet, group) for group in groups]
    whole, principals, workflows, agents = before
    (principal,) = (one for one in principals.lines if one.subject_id == key.api_key.id)
    assert _counts(principal) == {"writes": 2, "executions": 1, "enrollments": 1, "records": 1}
    assert (principal.display_name, principal.cost, principal.day) == ("Key", 0.875, "2026-03-02")
    (quick,) = workflows.lines
    assert (quick.subject_id, quick.display_name, quick.cost, _counts(quick)) == ("quick", "Quick", 0.875, {"steps": 2})
    (agent,) = agents.lines
    assert (agent.subject_id, agent.cost) == ("quick", 0.875)
    assert _counts(agent) == {
        "writes": 2, "executions": 1, "enrollments": 1, "records": 1, "succeeded": 1,
    }  # fmt: skip
    assert [(line.subject_id, line.cost) for line in whole.lines] == [("", 0.875)]
    assert whole.lines[0].counts["writes"] == sum(line.counts["writes"] for line in principals.lines)
    assert {(one.cost, one.currency) for one in before} == {(0.875, "EUR")}

    async def fold() -> None:
        async with fleet.core.core.database.system() as tx:
            await usage.fold(tx)

    measured = await _measured(fleet)
    await asyncio.gather(fleet.core.core.outward.scheduler.turn(), fold(), fold())
    # Whoever folds it measures it: here one of three did.
    assert await _measured(fleet) - measured in (0.0, 0.875)
    async with fleet.core.core.database.system() as tx:
        await statistics.fold(tx, kept=0)
    assert [await _usage(fleet, group) for group in groups] == before
    await fleet.execute("quick", "ben")
    await fleet.core.settle()
    measured = await _measured(fleet)
    await fleet.core.core.outward.scheduler.turn()
    assert await _measured(fleet) - measured == 0.75
    later = await _usage(fleet, "workflow", subject_id="quick")
    assert [_counts(line) for line in later.lines] == [{"steps": 4}]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_days_are_those_that_are_asked_for_and_bad_ones_are_refused(fleet: Fleet) -> None:
    fleet.core.clock.advance(timedelta(days=1))
    await fleet.execute("quick", "ann")
    assert [line.day for line in (await _usage(fleet)).lines] == ["2026-03-03", "2026-03-02"]
    assert [line.day for line in (await _usage(fleet, end_day="2026-03-02")).lines] == ["2026-03-02"]
    assert [line.day for line in (await _usage(fleet, start_day="2026-03-03")).lines] == ["2026-03-03"]
    for values, fields in (
        ({"group_by": "agnet"}, ["group_by"]),
        ({"subject_id": "quick"}, ["subject_id"]),
        ({"start_day": "yesterday", "end_day": "2026-02-30"}, ["end_day", "start_day"]),
        ({"start_day": "2026-03-02", "end_day": "2026-03-01"}, ["start_day"]),
        ({"start_day": "2024-03-02"}, ["start_day"]),
    ):
        with refused("INVALID_ARGUMENT") as told:
            await fleet.client.audit.GetUsage(audit_pb2.GetUsageRequest(**values))  # type: ignore[arg-type]
        assert [one.field for one in told.error.violations] == fields
