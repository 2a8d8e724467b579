"""How contacts went through workflows: counted as it happens, folded later, never by reading the history.

Every batch adds a few rows to `step_outcomes`, so that no two processes wait for each other; upkeep folds the older
ones into `step_statistics`. A figure is the sum over both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, Table

from core import ids
from core.domain import names
from core.domain.effects import SendMessage
from core.domain.enrollment import Enrollment
from core.domain.frozen import frozen
from core.domain.trace import OUTCOME, Transition
from core.store.metadata import Name, day_of, from_micros, metadata, org_id
from core.store.transaction import Transaction

step_outcomes = Table(
    "step_outcomes",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("workflow_id", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("step_id", Name, nullable=False),
    Column("outcome", Name, nullable=False),
    Column("exit", Name, nullable=False),
    Column("count", BigInteger, nullable=False),
    # Milliseconds that enrollments had stood in the step, together.
    Column("stood", BigInteger, nullable=False),
    # Days since 1970: use is told by day.
    Column("day", Integer, nullable=False),
    Index("step_outcomes_workflow", "org_id", "workflow_id", "id"),
)

step_statistics = Table(
    "step_statistics",
    metadata,
    org_id(),
    Column("workflow_id", Name, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("step_id", Name, primary_key=True),
    Column("outcome", Name, primary_key=True),
    Column("exit", Name, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("stood", BigInteger, nullable=False),
)

STANDING, STATE, DRAWN, CONVERTED, GOAL = "standing", "state", "drawn", "converted", "goal"
"""What is counted beside outcomes: enrollments in a step now, by state, those whom a split sent one way, how many of
these converted, goals."""

SENT, UNDELIVERED, UNSENT, GAPS = "sent", "undelivered", "unsent", "gaps"
"""What became of messages that a step wrote and did not wait for: sent, failed, or not sent on purpose. The step was
`ok` when it wrote them. And how many were written with something left empty."""

LATE = {"ok": SENT, "failed": UNDELIVERED, "skipped": UNSENT}

KEPT_UNFOLDED = 4_000
"""Rows of a workflow that stay as they are: the circuit breaker reads the last outcomes from them."""

OUTCOME_COLUMNS = "org_id id workflow_id version step_id outcome exit count stood day".split()
_ABOUT_ENROLLMENT = frozenset({"enrollment", "engine", "step"})

_AT_ONCE, _MILLISECOND = timedelta(), timedelta(milliseconds=1)

_Key = tuple[str, str, int, str, str, str]


@frozen
class Figure:
    """One count."""

    version: int
    step_id: str
    outcome: str
    exit: str
    count: int
    stood: timedelta


async def count(tx: Transaction, transitions: Sequence[Transition]) -> None:
    """Count what a batch of decisions did."""
    await tx.bulk_insert(step_outcomes, OUTCOME_COLUMNS, outcome_rows(tx, transitions))


def outcome_rows(tx: Transaction, transitions: Sequence[Transition]) -> list[tuple[Any, ...]]:
    """Return the rows, in the order of `OUTCOME_COLUMNS`, that count what a batch of decisions did."""
    counts: defaultdict[_Key, int] = defaultdict(int)
    stood: defaultdict[_Key, timedelta] = defaultdict(timedelta)
    for transition in transitions:
        _count_one(transition, counts, stood)
    day = day_of(tx.now)
    return [
        (*key[:1], ids.mint("out", tx.now), *key[1:], number, stood.get(key, _AT_ONCE) // _MILLISECOND, day)
        for key, number in counts.items()
        if number
    ]


def _count_one(transition: Transition, counts: dict[_Key, int], stood: dict[_Key, timedelta]) -> None:
    after, before = transition.enrollment, transition.before
    org, workflow, version = after.org_id, after.workflow_id, after.version
    for entry in transition.trace:
        if entry.kind == OUTCOME:
            counts[org, workflow, version, entry.step_id, LATE[entry.outcome], ""] += 1
        elif entry.outcome != "waiting" and entry.kind not in _ABOUT_ENROLLMENT:
            key = (org, workflow, version, entry.step_id, entry.outcome, entry.exit)
            counts[key] += 1
            if entry.stood:
                stood[key] += entry.stood
    for effect in transition.effects:
        if isinstance(effect, SendMessage) and effect.gaps:
            counts[org, workflow, version, effect.step_id, GAPS, ""] += 1
    for draw in transition.draws:
        counts[org, workflow, version, draw.step_id, DRAWN, draw.exit] += 1
    for conversion in transition.conversions:
        outcome = CONVERTED if conversion.step_id else GOAL
        counts[org, workflow, version, conversion.step_id, outcome, conversion.exit] += 1
    if before is not None and before.version != version:
        _carry(transition, before, counts)
    is_same = before is not None and before.state is after.state and before.version == version
    if before is not None:
        _stands(before, -1, counts, is_same=is_same)
    _stands(after, 1, counts, is_same=is_same)


def _carry(transition: Transition, before: Enrollment, counts: dict[_Key, int]) -> None:
    """Count in the version that an enrollment moves to what it counted for: a goal there is a share of draws there."""
    org, workflow = before.org_id, before.workflow_id
    moving = [(way.step_id, DRAWN, way.exit) for way in transition.carried]
    if before.converted:
        moving += [("", GOAL, before.converted), *((way.step_id, CONVERTED, way.exit) for way in transition.carried)]
    for figure in moving:
        counts[org, workflow, before.version, *figure] -= 1
        counts[org, workflow, transition.enrollment.version, *figure] += 1


def _stands(enrollment: Enrollment, number: int, counts: dict[_Key, int], *, is_same: bool = False) -> None:
    """Count where an enrollment stands, or stood; its state only where that is not the same before and after."""
    org, workflow, version, state = enrollment.org_id, enrollment.workflow_id, enrollment.version, enrollment.state
    if not is_same:
        counts[org, workflow, version, "", STATE, state.value] += number
    if not state.over:
        counts[org, workflow, version, enrollment.step_id, STANDING, ""] += number


async def forget(tx: Transaction, enrollment: Enrollment) -> None:
    """Take an enrollment that is deleted out of what stands where."""
    counts: defaultdict[_Key, int] = defaultdict(int)
    _stands(enrollment, -1, counts)
    day = day_of(tx.now)
    rows = [(*key[:1], ids.mint("out", tx.now), *key[1:], number, 0, day) for key, number in counts.items()]
    await tx.bulk_insert(step_outcomes, OUTCOME_COLUMNS, rows)


_FIGURES = (
    "SELECT version, step_id, outcome, exit, sum(count), sum(stood) FROM ("
    "SELECT version, step_id, outcome, exit, count, stood FROM step_statistics WHERE org_id = $1 AND workflow_id = $2 "
    "UNION ALL "
    "SELECT version, step_id, outcome, exit, count, stood FROM step_outcomes WHERE org_id = $1 AND workflow_id = $2"
    ") AS both_of_them GROUP BY version, step_id, outcome, exit ORDER BY version, step_id, outcome, exit"
)


async def figures(tx: Transaction, org: str, workflow_id: str) -> list[Figure]:
    """Return every count of a workflow."""
    return [
        Figure(version, step, outcome, exit, int(number), timedelta(milliseconds=int(stood)))
        for version, step, outcome, exit, number, stood in await tx.fetch(_FIGURES, org, workflow_id)
    ]


_RECENT = (
    "SELECT id, outcome, count FROM step_outcomes WHERE org_id = $1 AND workflow_id = $2 "
    "AND outcome IN ('ok', 'skipped', 'failed', 'ended', 'undelivered') AND id >= $4 ORDER BY id DESC LIMIT $3"
)
_RESUMED = "SELECT resumed_at FROM workflows WHERE org_id = $1 AND id = $2"


async def recent(tx: Transaction, org: str, workflow_id: str, at_most: int) -> list[tuple[bool, int]]:
    """Return the newest outcomes of a workflow as `(failed, how many)`, the newest first, failures before others.

    A message that failed long after its step was `ok` counts as one failure more.
    What was before its last resumption has been seen to. What one transaction counted happened at once; in which order
    its rows lie means nothing.
    """
    resumed = await tx.fetch(_RESUMED, org, workflow_id)
    since = names.compose("out", from_micros(resumed[0][0]), 0) if resumed and resumed[0][0] is not None else ""
    rows = [
        (names.minted_at(row_id), outcome in ("failed", UNDELIVERED), int(number))
        for row_id, outcome, number in await tx.fetch(_RECENT, org, workflow_id, at_most, since)
    ]
    return [(failed, number) for _, failed, number in sorted(rows, reverse=True)]


_CROWDED = (
    "SELECT org_id, workflow_id FROM step_outcomes GROUP BY org_id, workflow_id HAVING count(*) > $1 "
    "ORDER BY org_id, workflow_id"
)
_BOUNDARY = "SELECT id FROM step_outcomes WHERE org_id = $1 AND workflow_id = $2 ORDER BY id DESC LIMIT 1 OFFSET $3"
_INTO = "INSERT INTO step_statistics (org_id, workflow_id, version, step_id, outcome, exit, count, stood) "
_SUMS = (
    "SELECT org_id, workflow_id, version, step_id, outcome, exit, sum(count), sum(stood) FROM {rows} "
    "GROUP BY org_id, workflow_id, version, step_id, outcome, exit "
)
_ADDING = (
    "ON CONFLICT (org_id, workflow_id, version, step_id, outcome, exit) DO UPDATE SET "
    "count = step_statistics.count + excluded.count, stood = step_statistics.stood + excluded.stood"
)
_OLDER = "step_outcomes WHERE org_id = $1 AND workflow_id = $2 AND id <= $3"
IS_STEP = "step_id <> '' AND outcome IN ('ok', 'skipped', 'held', 'failed')"
"""Rows that count steps which were taken."""

_USED = (
    "INSERT INTO usage_days (org_id, subject_kind, subject_id, day, metric, count, cost) "  # noqa: S608 -- the texts above
    "SELECT org_id, 'workflow', workflow_id, day, 'steps', sum(count), 0 FROM {rows} " + f"AND {IS_STEP} "
    "GROUP BY org_id, workflow_id, day ORDER BY org_id, workflow_id, day "
    "ON CONFLICT (org_id, subject_kind, subject_id, day, metric) "
    "DO UPDATE SET count = usage_days.count + excluded.count"
)
_FOLD_SQLITE = (
    _INTO + _SUMS.format(rows=_OLDER) + _ADDING,
    _USED.format(rows=_OLDER),
    f"DELETE FROM {_OLDER}",  # noqa: S608 -- the text above
)
# One statement: a row that is committed between two would be deleted without having been counted.
_FOLD_POSTGRESQL = (
    f"WITH gone AS (DELETE FROM {_OLDER} RETURNING *), "  # noqa: S608
    f"used AS ({_USED.format(rows='gone WHERE true')}) " + _INTO + _SUMS.format(rows="gone") + _ADDING,
)


async def fold(tx: Transaction, kept: int = KEPT_UNFOLDED) -> int:
    """Fold older counts of every workflow that has many, in a system transaction; return how many workflows."""
    crowded = await tx.fetch(_CROWDED, 2 * kept)
    for org, workflow in crowded:
        boundary = await tx.fetch(_BOUNDARY, org, workflow, kept)
        if not boundary:
            continue  # another process has folded it meanwhile
        for statement in _FOLD_POSTGRESQL if tx.dialect == "postgresql" else _FOLD_SQLITE:
            await tx.fetch(statement, org, workflow, boundary[0][0])
    return len(crowded)
