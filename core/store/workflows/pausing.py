"""Pausing workflows and letting them go on: what stands where meanwhile, and what resuming does to timers."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import update

from core.domain import names
from core.domain.effects import Emit
from core.domain.frozen import frozen
from core.store.messages import outgoing_due
from core.store.metadata import to_micros
from core.store.transaction import Transaction
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission
from core.store.workflows.workflows import WorkflowState, workflows

ResumePolicy = Literal["run_overdue", "shift", "skip_overdue"]


@frozen
class Standing:
    """How many stand in one step of a paused workflow."""

    step_id: str
    overdue: int
    """Their timer fell due during the pause, or they have the step yet to begin."""
    ready: int
    """How many of these would not wait any longer if timers were shifted: they were due when the pause began, or have
    the step yet to begin."""
    kept: int
    """Something happened to them during the pause."""
    waiting: int
    """They go on waiting."""
    timed: int
    """A timer holds them, overdue or not."""


async def pause(tx: Transaction, org: str, workflow_id: str, reason: str, actor: str) -> bool:
    """Pause an active workflow, tell the endpoints, and say whether it was active.

    Nothing is written to its enrollments: the engine leaves each alone when it comes to it.
    """
    table = workflows
    here = (table.c.org_id == org, table.c.id == workflow_id, table.c.state == WorkflowState.ACTIVE)
    values = {"state": WorkflowState.PAUSED, "paused_at": tx.now, "pause_reason": reason, "updated_at": tx.now}
    if not await tx.run(update(table).where(*here).values(**values, rev=table.c.rev + 1)):
        return False
    data = {"workflow_id": workflow_id, "reason": reason, "actor": actor}
    message = names.derive("msg", tx.now, org, workflow_id, "paused")
    await deliveries.emit(tx, [Emission(org, Emit(message, "automation.paused", data))])
    return True


_STANDING = (
    "SELECT step_id, "
    "sum(CASE WHEN held = 0 AND deadline IS NOT NULL AND deadline <= $3 THEN 1 ELSE 0 END), "
    "sum(CASE WHEN held = 0 AND (deadline <= $4 OR (wait_kind IS NULL AND deadline <= $3)) THEN 1 ELSE 0 END), "
    "sum(held), "
    "sum(CASE WHEN held = 0 AND (deadline IS NULL OR deadline > $3) THEN 1 ELSE 0 END), "
    "sum(CASE WHEN deadline IS NOT NULL AND wait_kind IS NOT NULL THEN 1 ELSE 0 END) "
    "FROM (SELECT step_id, deadline, wait_kind, CASE WHEN {held} THEN 1 ELSE 0 END AS held FROM enrollments "
    "WHERE org_id = $1 AND workflow_id = $2 AND state IN ('active', 'awaiting_approval')) AS running "
    "GROUP BY step_id ORDER BY step_id"
)
_HELD = {"sqlite": "json_extract(data, '$.held') IS NOT NULL", "postgresql": "data ? 'held'"}
# Something happened to them, or events that came since their wait began have yet to be looked at.
_LOOKED_AT = {
    "sqlite": "(json_extract(data, '$.held') IS NOT NULL OR json_extract(data, '$.began_at') IS NOT NULL)",
    "postgresql": "data ?| ARRAY['held', 'began_at']",
}
_TIMERS = (
    "SELECT version, step_id, count(*) FROM enrollments WHERE org_id = $1 AND workflow_id = $2 "
    "AND state IN ('active', 'awaiting_approval') AND deadline IS NOT NULL AND wait_kind = 'timer' "
    "GROUP BY version, step_id"
)


async def standing(tx: Transaction, row: Any, now: datetime) -> list[Standing]:
    """Return how many stand in each step of a paused workflow, and what they would do if it went on now."""
    instants = (to_micros(now), to_micros(row.paused_at))
    rows = await tx.fetch(_STANDING.format(held=_HELD[tx.dialect]), row.org_id, row.id, *instants)
    return [Standing(step, *map(int, counts)) for step, *counts in rows]


async def timers(tx: Transaction, row: Any) -> Mapping[tuple[int, str], int]:
    """Return how many a timer holds in a workflow, by version and step."""
    found = await tx.fetch(_TIMERS, row.org_id, row.id)
    return {(version, step): int(count) for version, step, count in found}


_SHIFT = (
    "UPDATE enrollments SET deadline = deadline + $3, data = {moved}, "
    "due_at = CASE WHEN due_at = deadline THEN due_at + $3 ELSE due_at END "
    "WHERE org_id = $1 AND workflow_id = $2 AND state IN ('active', 'awaiting_approval') AND deadline IS NOT NULL "
    "AND wait_kind IS NOT NULL"
)
_MOVED = {
    "sqlite": "json_set(data, '$.shifted', coalesce(data ->> '$.shifted', 0) + $3)",
    "postgresql": "jsonb_set(data, '{shifted}', to_jsonb(coalesce((data ->> 'shifted')::bigint, 0) + $3))",
}
# Who waits for an approval or an agent has its time limit there as well.
_SHIFT_ASKED = (
    "UPDATE {table} SET expires_at = expires_at + $3 "
    "WHERE org_id = $1 AND state IN ({open}) AND expires_at IS NOT NULL AND id IN "
    "(SELECT wait_subject FROM enrollments WHERE org_id = $1 AND workflow_id = $2 "
    "AND state IN ('active', 'awaiting_approval') AND wait_kind = '{kind}')"
)
_SHIFT_APPROVALS = _SHIFT_ASKED.format(table="approvals", open="'pending'", kind="approval")
_SHIFT_TASKS = _SHIFT_ASKED.format(table="agent_tasks", open="'open', 'claimed'", kind="task")
# Overdue, and the engine has not come to them: neither during this pause, nor since an earlier one with its policy.
# Who only has a step yet to begin, such as whoever entered meanwhile, was never late.
_SKIP = (
    "UPDATE enrollments SET parked = 'skip' WHERE org_id = $1 AND workflow_id = $2 AND due_at <= $3 AND deadline <= $3 "
    "AND wait_kind IS NOT NULL AND parked IS NULL"
)
_RUN = (
    "UPDATE enrollments SET parked = NULL WHERE org_id = $1 AND workflow_id = $2 AND due_at <= $3 AND parked = 'skip'"
)
_RELEASE = (
    "UPDATE enrollments SET due_at = CASE WHEN {looked_at} THEN $3 ELSE deadline END, parked = {parked} "
    "WHERE org_id = $1 AND workflow_id = $2 AND parked = 'held'"
)


async def resume(tx: Transaction, row: Any, policy: ResumePolicy) -> Mapping[str, int]:
    """Let a paused workflow go on, and return how many enrollments were `released` and `shifted`.

    With `shift` every timer moves by the length of the pause, and with it the time to decide or to answer; who has a
    step yet to begin begins it now. With `skip_overdue` what fell due passes over outward steps up to its next wait;
    who has a step yet to begin does not, nor does anybody whom something moved that happened. Messages that were held
    go out.
    """
    org, workflow_id = row.org_id, row.id
    length = to_micros(tx.now) - to_micros(row.paused_at)
    shifted = 0
    if policy == "shift":
        shifted = await _count(tx, _SHIFT.format(moved=_MOVED[tx.dialect]), org, workflow_id, length)
        await tx.fetch(_SHIFT_APPROVALS, org, workflow_id, length)
        await tx.fetch(_SHIFT_TASKS, org, workflow_id, length)
    skips = policy == "skip_overdue"
    parked = "CASE WHEN deadline <= $3 AND wait_kind IS NOT NULL THEN 'skip' END" if skips else "NULL"
    await tx.fetch(_SKIP if skips else _RUN, org, workflow_id, to_micros(tx.now))
    release = _RELEASE.format(looked_at=_LOOKED_AT[tx.dialect], parked=parked)
    released = await _count(tx, release, org, workflow_id, to_micros(tx.now))
    await outgoing_due.unpark(tx, org, workflow_id)
    table = workflows
    values = {
        "state": WorkflowState.ACTIVE,
        "paused_at": None,
        "pause_reason": "",
        "updated_at": tx.now,
        "resumed_at": tx.now,
    }
    await tx.run(update(table).where(table.c.id == workflow_id).values(**values, rev=table.c.rev + 1))
    tx.wake("engine")
    return {"released": released, "shifted": shifted}


# From one workflow in the index of those who stand to the next: however many stand in it, it costs one look.
_STAND_STILL = (
    "SELECT org_id, workflow_id FROM parked p WHERE org_id <> '' AND NOT EXISTS (SELECT 1 FROM workflows w "
    "WHERE w.org_id = p.org_id AND w.id = p.workflow_id AND w.state = 'paused')"
)
_FORGOTTEN_SQLITE = (
    "WITH RECURSIVE parked(org_id, workflow_id) AS (SELECT '', '' UNION ALL "  # noqa: S608
    "SELECT n.org_id, n.workflow_id FROM parked p JOIN enrollments n ON n.rowid = coalesce("
    "(SELECT e.rowid FROM enrollments e WHERE e.parked = 'held' AND e.org_id = p.org_id "
    "AND e.workflow_id > p.workflow_id ORDER BY e.workflow_id LIMIT 1), "
    "(SELECT e.rowid FROM enrollments e WHERE e.parked = 'held' AND e.org_id > p.org_id "
    f"ORDER BY e.org_id, e.workflow_id LIMIT 1))) {_STAND_STILL}"
)
_FORGOTTEN_POSTGRESQL = (
    "WITH RECURSIVE parked(org_id, workflow_id) AS "  # noqa: S608
    """(SELECT ''::text COLLATE "C", ''::text COLLATE "C" UNION ALL """
    "SELECT n.org_id, n.workflow_id FROM parked p CROSS JOIN LATERAL (SELECT e.org_id, e.workflow_id "
    "FROM enrollments e WHERE e.parked = 'held' AND (e.org_id, e.workflow_id) > (p.org_id, p.workflow_id) "
    f"ORDER BY e.org_id, e.workflow_id LIMIT 1) n) {_STAND_STILL}"
)


async def release_forgotten(tx: Transaction) -> int:
    """Bring back whom the engine let stand for a pause that was over when it wrote so, in a system transaction.

    A batch that began during a pause may commit after the resumption. Waiting for each other instead would hold both
    up; this round of upkeep costs such an enrollment a minute at most.
    """
    forgotten = await tx.fetch(_FORGOTTEN_POSTGRESQL if tx.dialect == "postgresql" else _FORGOTTEN_SQLITE)
    release = _RELEASE.format(looked_at=_LOOKED_AT[tx.dialect], parked="NULL")
    released = 0
    for org, workflow_id in forgotten:
        released += await _count(tx, release, org, workflow_id, to_micros(tx.now))
    if released:
        tx.wake("engine")
    return released


async def _count(tx: Transaction, sql: str, *parameters: Any) -> int:
    """Run a hot update and return how many rows it changed."""
    return len(await tx.fetch(f"{sql} RETURNING id", *parameters))
