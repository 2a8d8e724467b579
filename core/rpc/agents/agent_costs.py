"""Handlers of AgentService: what agents did, and what language models cost that worked for them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from core.domain.agents import prices
from core.domain.errors import Invalid, NotFound, Violation, invalid
from core.rpc.admission.permission import spender
from core.rpc.agents.agents import agent_row, execution_message
from core.rpc.audit.usage import line_message
from core.rpc.call import Call
from core.store.agents import executions
from core.store.agents.executions import TOOK
from core.store.control import usage
from core.store.metadata import day_of
from dripstone.v1 import agent_pb2 as pb
from dripstone.v1 import agent_template_pb2 as templates

USUAL_DAYS, MOST_DAYS = 30, 365
MOST_TOKENS = 1_000_000_000
DEAREST = 1_000_000.0


async def get_agent_metrics(request: templates.GetAgentMetricsRequest, call: Call) -> templates.AgentMetrics:
    """Return what an agent did, from counts that are kept as it happens."""
    if not 0 <= request.days <= MOST_DAYS:
        raise invalid("days", "OUT_OF_RANGE", f"{request.days} is no number of days", f"Give 1 to {MOST_DAYS}.")
    row = await agent_row(call, request.agent_id)
    today = day_of(call.now)
    first = today - (request.days or USUAL_DAYS) + 1
    lines = await usage.lines(call.tx, call.caller.org_id, usage.AGENT, first, today, row.id)
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(line.counts)
    ended = counts["succeeded"] + counts["failed"] + counts["cancelled"]
    return templates.AgentMetrics(
        execution_count=counts["executions"],
        succeeded_count=counts["succeeded"],
        failed_count=counts["failed"],
        cancelled_count=counts["cancelled"],
        running_count=await executions.standing_count(call.tx, row.id),
        tasks_answered=counts["tasks"],
        mean_seconds=counts["milliseconds"] / ended / 1000 if ended else 0.0,
        p95_seconds=_p95(counts) / 1000,
        cost=prices.told(sum(line.cost for line in lines)),
        tokens=counts["tokens"],
        days=[line_message(line, row.display_name) for line in lines],
    )


def _p95(counts: Mapping[str, int]) -> int:
    """Return the milliseconds that 95 of 100 executions took at most, rounded up to a power of two."""
    took = {int(name.removeprefix(TOOK)): number for name, number in counts.items() if name.startswith(TOOK)}
    total, seen = sum(took.values()), 0
    for bits in sorted(took):
        seen += took[bits]
        if seen * 100 >= total * 95:
            return 1 << bits
    return 0


async def report_cost(request: templates.ReportCostRequest, call: Call) -> pb.Execution:
    """Add tokens and cost to an execution; without a cost it follows from the agent's prices."""
    tokens = (request.input_tokens, request.output_tokens)
    problems = [
        Violation(name, "OUT_OF_RANGE", "is no number of tokens", f"Give 0 to {MOST_TOKENS:,}.")
        for name, number in zip(("input_tokens", "output_tokens"), tokens, strict=True)
        if not 0 <= number <= MOST_TOKENS
    ]
    if not (math.isfinite(request.cost) and 0 <= request.cost <= DEAREST):
        problems.append(Violation("cost", "OUT_OF_RANGE", "is no cost", f"Give 0 to {DEAREST:,.0f}."))
    if problems:
        raise Invalid(*problems)
    row = await executions.get(call.tx, request.execution_id)
    if row is None:
        raise NotFound(kind="execution", id=request.execution_id)
    cost = request.cost
    if not cost and row.agent_id:
        tariffs = await executions.prices_of(call.tx, {(call.caller.org_id, row.agent_id)})
        cost = float(prices.of_tokens(tariffs[call.caller.org_id, row.agent_id], request.model, *tokens))
    await executions.report(
        call.tx,
        row,
        step_id=request.step_id,
        model=request.model,
        tokens=tokens,
        cost=cost,
        spender=spender(call),
    )
    return await execution_message(call, row.id)
