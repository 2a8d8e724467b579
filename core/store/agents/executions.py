"""Executions: runs of workflows on payloads, what they cost, and how they ended.

An execution has no state of its own: it is that of the enrollment which carries it. When that is over, the execution
is settled in the same transaction: its steps get their prices, and its agent's use is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    Row,
    Select,
    Table,
    and_,
    delete,
    func,
    select,
    text,
    update,
)

from core import ids
from core.domain.agents import prices
from core.domain.enrollment import State
from core.store.agents.agents import agents
from core.store.control import budgets, usage
from core.store.control.budgets import Spender
from core.store.control.usage import AGENT, PRINCIPAL, WORKFLOW, Used
from core.store.keys import these
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments, trace_entries

executions = Table(
    "executions",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("agent_id", Name, nullable=False),
    Column("workflow_id", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("enrollment_id", Name, nullable=False),
    Column("contact_id", Name, nullable=False),
    Column("input", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("principal_id", Name, nullable=False, server_default=""),
    # What its steps cost, once it is over.
    Column("step_cost", Float, nullable=False, server_default="0"),
    Column("reported_cost", Float, nullable=False, server_default="0"),
    Column("tokens", BigInteger, nullable=False, server_default="0"),
    # When its end was seen to.
    Column("settled_at", Instant),
    Index("executions_agent", "org_id", "agent_id", "id"),
    Index(
        "executions_standing",
        "org_id",
        "agent_id",
        sqlite_where=text("settled_at IS NULL"),
        postgresql_where=text("settled_at IS NULL"),
    ),
)

execution_costs = Table(
    "execution_costs",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("execution_id", Name, nullable=False),
    Column("step_id", Name, nullable=False),
    Column("model", Name, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost", Float, nullable=False),
    Column("principal_id", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("execution_costs_execution", "org_id", "execution_id", "id"),
)

MOST_STEPS = 2_000
"""Steps of an execution that are shown and priced; loops that wait can take more."""

_OVER = tuple(state.value for state in State if state.over)
TOOK = "took:"
"""Metrics of how long executions lasted: `took:10` counts those of at most 2^10 milliseconds, beyond half of it."""

_MILLISECOND = timedelta(milliseconds=1)
ENDS = {State.COMPLETED: "succeeded", State.EXITED: "succeeded", State.FAILED: "failed", State.CANCELLED: "cancelled"}
"""Under which metric the end of an execution is counted."""


def with_enrollments() -> Select[Any]:
    """Return the query of executions with the state of the enrollment that carries each: there is no second state."""
    return select(
        executions,
        enrollments.c.state.label("enrollment_state"),
        enrollments.c.data.label("enrollment_data"),
        enrollments.c.end_reason,
        enrollments.c.step_id,
        enrollments.c.ended_at,
    ).join(
        enrollments, and_(enrollments.c.org_id == executions.c.org_id, enrollments.c.id == executions.c.enrollment_id)
    )


async def get(tx: Transaction, execution_id: str) -> Row[Any] | None:
    """Return an execution with its enrollment's state, or None."""
    return await tx.first(with_enrollments().where(executions.c.id == execution_id))


async def prices_of(tx: Transaction, keys: Collection[tuple[str, str]]) -> dict[tuple[str, str], Mapping[str, float]]:
    """Return the prices of agents by `(organization, id)`."""
    statement = select(agents.c.org_id, agents.c.id, agents.c.prices).where(these(agents, keys))
    return {(row.org_id, row.id): row.prices for row in await tx.all(statement)}


async def standing(tx: Transaction, agent_id: str, limit: int) -> Sequence[Row[Any]]:
    """Return executions of an agent that are not over, the oldest first."""
    x = executions.c
    return await tx.all(
        select(x.id, x.enrollment_id).where(x.agent_id == agent_id, x.settled_at.is_(None)).order_by(x.id).limit(limit)
    )


async def standing_count(tx: Transaction, agent_id: str) -> int:
    """Return how many executions of an agent are not over."""
    x = executions.c
    row = await tx.first(
        select(func.count()).select_from(executions).where(x.agent_id == agent_id, x.settled_at.is_(None))
    )
    return 0 if row is None else int(row[0])


async def steps(tx: Transaction, org: str, enrollment_id: str) -> Sequence[Row[Any]]:
    """Return the first steps that an execution took, oldest first."""
    c = trace_entries.c
    statement = select(c.step_id, c.kind, c.outcome, c.reason, c.at, c.inputs)
    taken = (c.kind != "enrollment", c.outcome != "waiting")
    statement = statement.where(c.org_id == org, c.enrollment_id == enrollment_id, *taken)
    return await tx.all(statement.order_by(c.seq).limit(MOST_STEPS))


async def settle(tx: Transaction, ended: Iterable[tuple[str, str]]) -> None:
    """See to executions `(organization, id)` that are over: price their steps, count them for their agents, once."""
    keys = sorted(set(ended))
    if not keys:
        return
    found = await tx.all(
        with_enrollments().where(
            these(executions, keys), executions.c.settled_at.is_(None), enrollments.c.state.in_(_OVER)
        )
    )
    tariffs = await prices_of(tx, {(row.org_id, row.agent_id) for row in found if row.agent_id})
    for row in found:
        tariff = tariffs.get((row.org_id, row.agent_id), {})
        cost = float(step_cost(tariff, await steps(tx, row.org_id, row.enrollment_id))) if tariff else 0.0
        if row.agent_id:
            await budgets.note(tx.within(row.org_id), spender_of(row.agent_id), "cost", cost)
            await usage.add(tx, row.org_id, _end_of(row, cost))
        here = (executions.c.org_id == row.org_id, executions.c.id == row.id)
        await tx.run(update(executions).where(*here).values(step_cost=cost, settled_at=tx.now))


def step_cost(tariff: Mapping[str, float], taken: Sequence[Row[Any]]) -> Decimal:
    """Return what steps cost by an agent's prices."""
    return sum((prices.of_step(tariff, one.kind, one.step_id, one.outcome) for one in taken), Decimal(0))


def _end_of(row: Row[Any], cost: float) -> list[Used]:
    lasted = row.ended_at - row.created_at
    milliseconds = max(0, lasted // _MILLISECOND)
    return [
        Used(AGENT, row.agent_id, ENDS[State(row.enrollment_state)], 1),
        Used(AGENT, row.agent_id, "milliseconds", milliseconds),
        Used(AGENT, row.agent_id, f"{TOOK}{milliseconds.bit_length()}", 1),
        *_costs(row, row.principal_id, cost),
    ]


def _costs(row: Row[Any], principal_id: str, cost: float) -> list[Used]:
    """Return a cost as everyone's who had to do with it; each kind of subject sees it once."""
    who = ((PRINCIPAL, principal_id), (WORKFLOW, row.workflow_id), (AGENT, row.agent_id))
    return [Used(kind, subject, "cost", cost=cost) for kind, subject in who if subject]


def spender_of(agent_id: str) -> Spender:
    """Return the agent as one whose budgets are charged, whoever executes it."""
    return Spender(agent_id, "agent", agent_id)


async def report(
    tx: Transaction,
    row: Row[Any],
    *,
    step_id: str,
    model: str,
    tokens: tuple[int, int],
    cost: float,
    spender: Spender,
) -> None:
    """Add tokens `(read, written)` and cost to an execution, to its agent's use, and to that of who spent them."""
    await tx.insert(
        execution_costs,
        [
            {
                "id": ids.mint("cost", tx.now),
                "execution_id": row.id,
                "step_id": step_id,
                "model": model,
                "input_tokens": tokens[0],
                "output_tokens": tokens[1],
                "cost": cost,
                "principal_id": spender.principal_id,
                "created_at": tx.now,
            }
        ],
    )
    x = executions.c
    added = {"tokens": x.tokens + sum(tokens), "reported_cost": x.reported_cost + cost}
    await tx.run(update(executions).where(x.id == row.id).values(**added))
    await budgets.note(tx, spender_of(row.agent_id) if row.agent_id else spender, "cost", cost)
    read = [Used(AGENT, row.agent_id, "tokens", sum(tokens))] if row.agent_id else []
    await usage.add(tx, tx.org_id, [*read, *_costs(row, spender.principal_id, cost)])


async def reported_by_step(tx: Transaction, execution_id: str) -> dict[str, float]:
    """Return the reported cost of an execution by step; that of the whole stands under an empty id."""
    c = execution_costs.c
    found: dict[str, float] = {}
    for row in await tx.all(select(c.step_id, c.cost).where(c.execution_id == execution_id).order_by(c.id)):
        found[row.step_id] = found.get(row.step_id, 0.0) + row.cost
    return found


async def remove_of_enrollment(tx: Transaction, enrollment_id: str) -> None:
    """Delete the execution that an enrollment carried, with its costs; the agent's use stays counted."""
    found = await tx.all(select(executions.c.id).where(executions.c.enrollment_id == enrollment_id))
    gone = [row.id for row in found]
    if gone:
        await tx.run(delete(execution_costs).where(execution_costs.c.execution_id.in_(gone)))
        await tx.run(delete(executions).where(executions.c.id.in_(gone)))
