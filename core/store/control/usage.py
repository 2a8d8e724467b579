"""What was done and cost, by day and by who or what did it: counted as it happens, folded later.

Every call adds rows of its own to `usage_deltas`, so that no two wait for one counter; upkeep folds them. A figure is
the sum of both. Days are those of UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import BigInteger, Column, Float, Index, Integer, Table

from core import ids
from core.domain.frozen import frozen
from core.store.metadata import Name, day_of, metadata, org_id
from core.store.transaction import Transaction
from core.store.workflows import statistics

usage_days = Table(
    "usage_days",
    metadata,
    org_id(),
    Column("subject_kind", Name, primary_key=True),
    Column("subject_id", Name, primary_key=True),
    # Days since 1970.
    Column("day", Integer, primary_key=True),
    Column("metric", Name, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("cost", Float, nullable=False),
)

usage_deltas = Table(
    "usage_deltas",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("subject_kind", Name, nullable=False),
    Column("subject_id", Name, nullable=False),
    Column("day", Integer, nullable=False),
    Column("metric", Name, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("cost", Float, nullable=False),
    Index("usage_deltas_subject", "org_id", "subject_kind", "subject_id"),
)

PRINCIPAL, WORKFLOW, AGENT = "principal", "workflow", "agent"
"""Kinds of subjects."""

_COLUMNS = "org_id id subject_kind subject_id day metric count cost".split()


@frozen
class Used:
    """Something that was done."""

    subject_kind: str
    subject_id: str
    metric: str
    count: int = 0
    cost: float = 0.0
    """In the organization's units."""


@frozen
class Line:
    """What one did in a day."""

    day: int
    subject_id: str
    counts: Mapping[str, int]
    cost: float


async def add(tx: Transaction, org: str, used: Iterable[Used]) -> None:
    """Count what was done now."""
    day = day_of(tx.now)
    rows = [
        (org, ids.mint("use", tx.now), one.subject_kind, one.subject_id, day, one.metric, one.count, one.cost)
        for one in used
        if one.count or one.cost
    ]
    await tx.bulk_insert(usage_deltas, _COLUMNS, rows)


async def note_call(tx: Transaction, org: str, principal_id: str, agent_id: str, done: Mapping[str, int]) -> None:
    """Count what a call did for whoever made it."""
    used = [Used(PRINCIPAL, principal_id, metric, number) for metric, number in sorted(done.items())]
    if agent_id:  # executions are counted for the agent that is executed
        of_agent = {metric: number for metric, number in sorted(done.items()) if metric != "executions"}
        used += [Used(AGENT, agent_id, metric, number) for metric, number in of_agent.items()]
    await add(tx, org, used)


_BOTH = (
    "SELECT day, subject_id, metric, sum(count), sum(cost) FROM ("
    "SELECT day, subject_id, metric, count, cost FROM usage_days WHERE org_id = $1 AND subject_kind = $2 "
    "AND day BETWEEN $3 AND $4 AND ($5 = '' OR subject_id = $5) UNION ALL "
    "SELECT day, subject_id, metric, count, cost FROM usage_deltas WHERE org_id = $1 AND subject_kind = $2 "
    "AND day BETWEEN $3 AND $4 AND ($5 = '' OR subject_id = $5)"
    ") AS both_of_them GROUP BY day, subject_id, metric ORDER BY day DESC, subject_id, metric"
)
_STEPS = (  # those that upkeep has not folded yet
    "SELECT day, workflow_id, 'steps', sum(count), 0 FROM step_outcomes WHERE org_id = $1 "  # noqa: S608
    f"AND day BETWEEN $2 AND $3 AND ($4 = '' OR workflow_id = $4) AND {statistics.IS_STEP} "
    "GROUP BY day, workflow_id ORDER BY day DESC, workflow_id"
)


async def lines(
    tx: Transaction, org: str, subject_kind: str, first_day: int, last_day: int, subject_id: str = ""
) -> list[Line]:
    """Return what each did on each day, the newest day first."""
    rows = list(await tx.fetch(_BOTH, org, subject_kind, first_day, last_day, subject_id))
    if subject_kind == WORKFLOW:
        rows += await tx.fetch(_STEPS, org, first_day, last_day, subject_id)
    found: dict[tuple[int, str], tuple[dict[str, int], list[float]]] = {}
    for day, subject, metric, count, cost in rows:
        counts, costs = found.setdefault((day, subject), ({}, []))
        if count:
            counts[metric] = counts.get(metric, 0) + int(count)
        costs.append(float(cost))
    ordered = sorted(found.items(), key=lambda item: (-item[0][0], item[0][1]))
    return [Line(day, subject, counts, sum(costs)) for (day, subject), (counts, costs) in ordered]


_INTO = "INSERT INTO usage_days (org_id, subject_kind, subject_id, day, metric, count, cost) "
_SUMS = (
    "SELECT org_id, subject_kind, subject_id, day, metric, sum(count), sum(cost) FROM {rows} "
    "GROUP BY org_id, subject_kind, subject_id, day, metric "
    "ORDER BY org_id, subject_kind, subject_id, day, metric "  # two folds at once take the rows in one order
)
_ADDING = (
    "ON CONFLICT (org_id, subject_kind, subject_id, day, metric) DO UPDATE SET "
    "count = usage_days.count + excluded.count, cost = usage_days.cost + excluded.cost"
)
_TOTALS = (
    "SELECT subject_kind, metric, sum(count), sum(cost) FROM {rows} GROUP BY subject_kind, metric "
    "ORDER BY subject_kind, metric"
)
_FOLD_SQLITE = (_INTO + _SUMS.format(rows="usage_deltas WHERE true") + _ADDING, "DELETE FROM usage_deltas")
# One statement: a row that is committed between two would be deleted without having been counted.
_FOLD_POSTGRESQL = (
    "WITH gone AS (DELETE FROM usage_deltas RETURNING *), "  # noqa: S608 -- the texts above
    + f"folded AS ({_INTO + _SUMS.format(rows='gone') + _ADDING}) "
    + _TOTALS.format(rows="gone")
)


async def fold(tx: Transaction) -> list[Used]:
    """Fold what was counted, in a system transaction; return how much it was, of every subject of a kind together."""
    if tx.dialect == "postgresql":
        totals = await tx.fetch(_FOLD_POSTGRESQL)
    else:
        totals = await tx.fetch(_TOTALS.format(rows="usage_deltas"))
        for statement in _FOLD_SQLITE:
            await tx.fetch(statement)
    return [Used(kind, "", metric, int(count), float(cost)) for kind, metric, count, cost in totals]
