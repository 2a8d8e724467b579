"""Schedules and pools of published workflows: when each fires next, and how far a firing has come."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Table, delete, select, update

from core.domain.frozen import frozen
from core.domain.workflow.trigger_kinds import PoolTrigger, ScheduleTrigger, Timed
from core.domain.workflow.version import Version
from core.domain.workflow.zones import Zone, zone_of
from core.store.metadata import Instant, Json, Name, dump_json, from_micros, metadata, org_id, to_micros
from core.store.organizations.organizations import organizations
from core.store.transaction import Transaction

workflow_schedules = Table(
    "workflow_schedules",
    metadata,
    org_id(),
    Column("workflow_id", Name, primary_key=True),
    # Which trigger of the version it is, from 0.
    Column("position", Integer, primary_key=True),
    Column("version", Integer, nullable=False),
    # Of the trigger as written: one that a new version takes over unchanged goes on where it is.
    Column("digest", Name, nullable=False),
    # When the engine looks at it next: now, while a firing is under way.
    Column("next_at", Instant, nullable=False),
    # `firing` while contacts of one firing are still to be enrolled; `empty` once a pool had nobody left; `missed` what
    # came round in a pause; `last` what it did last.
    Column("state", Json, nullable=False),
    Index("workflow_schedules_due", "next_at"),
)

_DUE = (
    "SELECT s.org_id, s.workflow_id, s.position, s.version, s.next_at, s.state, w.state, o.timezone "
    "FROM workflow_schedules s JOIN workflows w ON w.org_id = s.org_id AND w.id = s.workflow_id "
    "JOIN organizations o ON o.org_id = s.org_id WHERE s.next_at <= $1 "
    "ORDER BY s.next_at, s.org_id, s.workflow_id, s.position LIMIT 1"
)

_STATE = "SELECT state FROM workflows WHERE org_id = $1 AND id = $2"


@frozen
class Firing:
    """One time that a schedule came round, while its contacts are being enrolled."""

    at: datetime
    """When it began: contacts made later are not of it."""
    after: str = ""
    """The contact up to which it has come."""
    taken: int = 0
    """Contacts enrolled so far."""


@frozen
class Missed:
    """How often a schedule came round while its workflow was paused."""

    count: int
    first: datetime
    last: datetime

    def again(self, at: datetime) -> Missed:
        """Return it with one more time."""
        return Missed(self.count + 1, self.first, at)


@frozen
class Last:
    """What a schedule did when it came round last."""

    at: datetime
    taken: int = 0
    """Contacts enrolled."""
    left_out: int = 0
    """How often it had come round in a pause, which the resumption left out; 0 where it fired."""


@frozen
class DueSchedule:
    """A schedule whose time has come, held by the transaction."""

    org_id: str
    workflow_id: str
    position: int
    version: int
    workflow_state: str
    organization_timezone: str
    at: datetime
    """When it was to be looked at."""
    firing: Firing | None
    """What is under way; None when it comes round now."""
    empty: bool
    """Its pool had nobody left when it was last looked at."""
    missed: Missed | None = None
    """What a pause that is not over has kept of it."""
    last: Last | None = None


@frozen
class Standing:
    """How a schedule stands."""

    next_at: datetime
    firing: Firing | None
    """What is under way."""
    missed: Missed | None = None
    """What came round during a pause that is not over."""
    last: Last | None = None
    """What it did last; None before that."""


async def standing(tx: Transaction, workflow_id: str) -> dict[int, Standing]:
    """Return how the schedules of a workflow stand, by the position of the trigger."""
    table = workflow_schedules
    rows = await tx.all(select(table).where(table.c.workflow_id == workflow_id))
    return {row.position: standing_of(row) for row in rows}


def standing_of(row: Row[Any]) -> Standing:
    """Return how the schedule of a row stands."""
    return Standing(row.next_at, _firing(row.state), _missed(row.state), _last(row.state))


def timed(version: Version) -> dict[int, Timed]:
    """Return the triggers of a version that fire by time, by position."""
    return {
        position: trigger
        for position, trigger in enumerate(version.triggers)
        if isinstance(trigger, ScheduleTrigger | PoolTrigger)
    }


def zone(trigger: Timed, version: Version, organization_timezone: str) -> Zone:
    """Return whose clock a trigger goes by: its own zone, the workflow's, or the organization's."""
    return zone_of(None, trigger.timezone or version.timezone, organization_timezone)


async def publish(tx: Transaction, version: Version) -> None:
    """Let the schedules of a new version fire instead of the older ones.

    One that is written as before goes on where it is: it neither fires twice nor loses whom it has yet to enroll.
    """
    table = workflow_schedules
    triggers = timed(version)
    there = await tx.all(select(table).where(table.c.workflow_id == version.workflow_id).order_by(table.c.position))
    if there:
        await remove(tx, version.workflow_id)
    if not triggers:
        return
    before: dict[str, list[Any]] = {}
    for row in there:
        before.setdefault(row.digest, []).append(row)
    organization = await tx.first(select(organizations.c.timezone).where(organizations.c.org_id == tx.org_id))
    default = organization.timezone if organization is not None else ""
    rows = []
    for position, trigger in triggers.items():
        written = _digest(version, position)
        kept = before[written].pop(0) if before.get(written) else None
        rows.append(
            {
                "workflow_id": version.workflow_id,
                "position": position,
                "version": version.number,
                "digest": written,
                "next_at": kept.next_at if kept else trigger.next_after(tx.now, zone(trigger, version, default)),
                "state": kept.state if kept else {},
            }
        )
    await tx.insert(table, rows)


async def remove(tx: Transaction, workflow_id: str) -> None:
    """Let a workflow's schedules fire no more."""
    await tx.run(delete(workflow_schedules).where(workflow_schedules.c.workflow_id == workflow_id))


async def claim_due(tx: Transaction, now: datetime) -> DueSchedule | None:
    """Claim the schedule that has been due longest, in a system transaction; other processes pass over it."""
    rows = await tx.fetch(_DUE + (" FOR UPDATE OF s SKIP LOCKED" if tx.dialect == "postgresql" else ""), to_micros(now))
    if not rows:
        return None
    org, workflow_id, position, version, next_at, state, workflow_state, timezone = rows[0]
    told: Mapping[str, Any] = json.loads(state) if isinstance(state, str) else state
    return DueSchedule(
        org,
        workflow_id,
        position,
        version,
        workflow_state,
        timezone,
        from_micros(next_at),
        _firing(told),
        told.get("empty") is True,
        _missed(told),
        _last(told),
    )


async def is_paused(tx: Transaction, due: DueSchedule) -> bool:
    """Tell whether the workflow of a claimed schedule is paused by now: it may have gone on before the claim."""
    rows = await tx.fetch(_STATE, due.org_id, due.workflow_id)
    return bool(rows) and rows[0][0] == "paused"


async def keep(
    tx: Transaction,
    due: DueSchedule,
    next_at: datetime,
    firing: Firing | None = None,
    *,
    empty: bool = False,
    missed: Missed | None = None,
    last: Last | None = None,
) -> None:
    """Write when a schedule is looked at next, and how far it has come."""
    await _update(tx, due, {"next_at": next_at, "state": state_of(firing, empty, missed, last or due.last)})


def state_of(
    firing: Firing | None = None, empty: bool = False, missed: Missed | None = None, last: Last | None = None
) -> dict[str, Any]:
    """Return what is kept of a schedule."""
    state: dict[str, Any] = {"empty": True} if empty else {}
    if firing is not None:
        state["firing"] = {"at": to_micros(firing.at), "after": firing.after, "taken": firing.taken}
    if missed is not None:
        state["missed"] = [missed.count, to_micros(missed.first), to_micros(missed.last)]
    if last is not None:
        state["last"] = [to_micros(last.at), last.taken, last.left_out]
    return state


async def put_off(tx: Transaction, due: DueSchedule, until: datetime) -> None:
    """Look at a schedule again no earlier than this."""
    await _update(tx, due, {"next_at": until})


async def _update(tx: Transaction, due: DueSchedule, values: Mapping[str, Any]) -> None:
    table = workflow_schedules
    of_this = (
        table.c.org_id == due.org_id,
        table.c.workflow_id == due.workflow_id,
        table.c.position == due.position,
        table.c.version == due.version,
    )
    await tx.run(update(table).where(*of_this).values(values))


def _firing(state: Mapping[str, Any]) -> Firing | None:
    told = state.get("firing")
    return None if told is None else Firing(from_micros(told["at"]), told["after"], told["taken"])


def _missed(state: Mapping[str, Any]) -> Missed | None:
    told = state.get("missed")
    return None if told is None else Missed(told[0], from_micros(told[1]), from_micros(told[2]))


def _last(state: Mapping[str, Any]) -> Last | None:
    told = state.get("last")
    return None if told is None else Last(from_micros(told[0]), *told[1:])


def _digest(version: Version, position: int) -> str:
    """Return a digest of a trigger as it is written, with the zone it goes by."""
    written = version.document["triggers"][position]
    return hashlib.sha256(dump_json([written, version.timezone]).encode()).hexdigest()[:32]
