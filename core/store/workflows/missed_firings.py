"""Schedules and pools that came round while their workflow was paused, and what resuming makes of that.

However often one came round, it fires once at most: a pool has its pace, and an audience is taken as it is then.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select, update

from core.domain.frozen import frozen
from core.domain.workflow.trigger_kinds import Timed
from core.domain.workflow.version import Version
from core.domain.workflow.zones import Zone, next_local
from core.store.organizations import organizations
from core.store.transaction import Transaction
from core.store.workflows import schedules
from core.store.workflows.pausing import ResumePolicy
from core.store.workflows.schedules import Last, Missed, Standing, workflow_schedules


@frozen
class MissedFiring:
    """A schedule or a pool that a pause passed over, under a policy."""

    position: int
    trigger: Timed
    missed: Missed
    next_at: datetime
    """When it fires next."""


async def of(
    tx: Transaction, version: Version, policy: ResumePolicy, paused_at: datetime, *, lock: bool = False
) -> list[MissedFiring]:
    """Return what a pause has passed over of the published version; `lock` keeps the engine from them meanwhile."""
    table = workflow_schedules
    statement = select(table).where(table.c.workflow_id == version.workflow_id).order_by(table.c.position)
    rows = await tx.all(statement.with_for_update() if lock else statement)
    if not rows:
        return []
    triggers, default = schedules.timed(version), (await organizations.get(tx)).timezone
    found = []
    for row in rows:
        standing, trigger = schedules.standing_of(row), triggers[row.position]
        if standing.missed is not None:
            zone = schedules.zone(trigger, version, default)
            next_at = _next(standing, standing.missed, policy, tx.now, paused_at, zone)
            found.append(MissedFiring(row.position, trigger, standing.missed, next_at))
    return found


def _next(
    standing: Standing, missed: Missed, policy: ResumePolicy, now: datetime, paused_at: datetime, zone: Zone
) -> datetime:
    """Return when it fires next: a moved one keeps its time of day, and one that comes round before that counts."""
    if policy == "run_overdue":
        return now
    if policy == "skip_overdue":
        return standing.next_at
    moved = missed.first + (now - paused_at)
    return min(standing.next_at, next_local(moved, zone.local(missed.first).time(), None, zone))


async def resolve(tx: Transaction, workflow_id: str, found: Sequence[MissedFiring], policy: ResumePolicy) -> None:
    """Let schedules of a workflow that goes on fire as the policy says; what was under way goes on at once."""
    table = workflow_schedules
    by_position = {one.position: one for one in found}
    for row in await tx.all(select(table).where(table.c.workflow_id == workflow_id)):
        standing = schedules.standing_of(row)
        one = by_position.get(row.position)
        if one is None and standing.firing is None:
            continue
        next_at, last = tx.now, standing.last
        if one is not None:
            next_at = one.next_at
            last = Last(one.missed.last, left_out=one.missed.count) if policy == "skip_overdue" else last
        state = schedules.state_of(standing.firing, row.state.get("empty") is True, None, last)
        here = (table.c.workflow_id == workflow_id, table.c.position == row.position)
        await tx.run(update(table).where(*here).values(next_at=next_at, state=state))
