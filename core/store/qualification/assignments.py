"""Assignments: each lead that was given to somebody, what was seen when it was, and when they should have responded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Select, Table, select, text, update

from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction


class AssignmentState(StrEnum):
    """Where an assignment is."""

    OPEN = "open"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    REROUTED = "rerouted"
    REPLACED = "replaced"


assignments = Table(
    "assignments",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("lead_id", Name, nullable=False),
    Column("member_id", Name, nullable=False),
    # Empty for one by hand.
    Column("routing_id", Name, nullable=False),
    Column("routing_version", Integer, nullable=False),
    Column("rule_id", Name, nullable=False),
    Column("method", Name, nullable=False),
    # Pairs of member and reason, and texts.
    Column("skipped", Json, nullable=False),
    Column("skipped_rules", Json, nullable=False),
    # What the decision saw: the same version decides the same from it.
    Column("seen", Json, nullable=False),
    # Members who had the lead before, and why they do not get it again.
    Column("excluded", Json, nullable=False),
    Column("state", Name, nullable=False),
    Column("reroutes_left", Integer, nullable=False),
    Column("response_due_at", Instant),
    # When it is looked whether somebody responded; NULL once that does not matter any more.
    Column("check_at", Instant),
    Column("previous_id", Name, nullable=False),
    Column("actor", Name, nullable=False),
    Column("cause", Name, nullable=False),
    Column("reason", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("assignments_lead", "org_id", "lead_id", "id"),
    Index("assignments_member", "org_id", "member_id", "created_at"),
    Index(
        "assignments_due",
        "check_at",
        sqlite_where=text("check_at IS NOT NULL"),
        postgresql_where=text("check_at IS NOT NULL"),
    ),
)

_STANDING = (AssignmentState.OPEN, AssignmentState.ACCEPTED)


async def get(tx: Transaction, assignment_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return an assignment, or None; `lock` holds it until the transaction ends."""
    statement = select(assignments).where(assignments.c.id == assignment_id)
    return await tx.first(statement.with_for_update() if lock else statement)


def listed() -> Select[Any]:
    """Return the query of all assignments."""
    return select(assignments)


async def create(tx: Transaction, row: Mapping[str, Any]) -> Row[Any]:
    """Write an assignment; what was with somebody until now is replaced."""
    standing = assignments.c.state.in_(_STANDING)
    here = assignments.c.lead_id == row["lead_id"]
    ended = {"state": AssignmentState.REPLACED, "ended_at": tx.now, "check_at": None}
    await tx.run(update(assignments).where(here, standing).values(**ended))
    await tx.insert(assignments, [row])
    made = await get(tx, row["id"])
    assert made is not None, "it was just written"
    return made


async def change(tx: Transaction, assignment_id: str, **values: Any) -> Row[Any]:
    """Set columns of an assignment and return it."""
    await tx.run(update(assignments).where(assignments.c.id == assignment_id).values(**values))
    changed = await get(tx, assignment_id)
    assert changed is not None, "the caller holds it"
    return changed


async def end(tx: Transaction, assignment_id: str, state: AssignmentState) -> Row[Any]:
    """End an assignment: nobody is waited for any more."""
    return await change(tx, assignment_id, state=state, ended_at=tx.now, check_at=None)


_MOST_OF_A_LEAD = 100
"""Assignments that are looked at for who had a lead."""


async def newest_of(tx: Transaction, lead_id: str) -> Row[Any] | None:
    """Return the newest assignment of a lead, or None."""
    statement = select(assignments).where(assignments.c.lead_id == lead_id)
    return await tx.first(statement.order_by(assignments.c.id.desc()).limit(1))


async def of_lead(tx: Transaction, lead_id: str) -> Sequence[Row[Any]]:
    """Return the newest assignments of a lead, oldest first."""
    statement = select(assignments).where(assignments.c.lead_id == lead_id)
    return list(reversed(await tx.all(statement.order_by(assignments.c.id.desc()).limit(_MOST_OF_A_LEAD))))


async def overdue(tx: Transaction, limit: int) -> Sequence[tuple[str, str]]:
    """Return organization and id of assignments that nobody has responded to in time, in a system transaction."""
    table = assignments
    statement = select(table.c.org_id, table.c.id).where(table.c.check_at <= tx.now)
    return [(row.org_id, row.id) for row in await tx.all(statement.order_by(table.c.check_at).limit(limit))]
