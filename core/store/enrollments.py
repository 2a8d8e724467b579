"""Enrollments and their traces: the narrow hot table that the engine claims from, and the history beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    Column,
    Index,
    Integer,
    Row,
    SmallInteger,
    Table,
    delete,
    select,
    text,
    tuple_,
)

from core.domain.enrollment import Enrollment, State, Waiting
from core.domain.trace import TraceEntry
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction

enrollments = Table(
    "enrollments",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("bucket", SmallInteger, nullable=False),
    Column("workflow_id", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("contact_id", Name, nullable=False),
    Column("key", Name, nullable=False),
    # Re-entry after an exit is the next occurrence of the same identity; two at once meet at the unique index.
    Column("occurrence", Integer, nullable=False),
    Column("actor", Name, nullable=False),
    Column("state", Name, nullable=False),
    Column("step_id", Name, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("trace_count", Integer, nullable=False),
    # When the engine looks at it next. A wait for an event has its deadline beside it: on PostgreSQL the engine looks
    # once right after the wait is committed, for an event that was matched while nobody could see the wait.
    Column("due_at", Instant),
    Column("deadline", Instant),
    Column("wait_kind", Name),
    Column("wait_subject", Name),
    Column("wait_since", Instant),
    Column("data", Json, nullable=False),
    Column("end_reason", Name, nullable=False),
    Column("entered_at", Instant, nullable=False),
    Column("moved_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("enrollments_identity", "org_id", "workflow_id", "contact_id", "key", "occurrence", unique=True),
    Index("enrollments_contact", "org_id", "contact_id"),
    Index(
        "enrollments_due",
        "org_id",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
    Index(
        "enrollments_waiting",
        "org_id",
        "contact_id",
        "wait_kind",
        "wait_subject",
        sqlite_where=text("wait_kind IN ('event', 'delivery', 'approval')"),
        postgresql_where=text("wait_kind IN ('event', 'delivery', 'approval')"),
    ),
    postgresql_with={"fillfactor": 90, "autovacuum_vacuum_scale_factor": 0.02, "autovacuum_vacuum_cost_delay": 0},
)

trace_entries = Table(
    "trace_entries",
    metadata,
    org_id(),
    Column("enrollment_id", Name, primary_key=True),
    Column("seq", Integer, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("bucket", SmallInteger, nullable=False),
    Column("at", Instant, nullable=False),
    Column("step_id", Name, nullable=False),
    Column("kind", Name, nullable=False),
    Column("outcome", Name, nullable=False),
    Column("exit", Name, nullable=False),
    Column("reason", Name, nullable=False),
    Column("inputs", Json, nullable=False),
    Column("effects", Json, nullable=False),
    postgresql_partition_by="RANGE (day)",
)


def to_domain(row: Row[Any]) -> Enrollment:
    """Return a row as the domain sees it."""
    waiting = Waiting(row.wait_kind, row.wait_subject or "", row.wait_since) if row.wait_kind else None
    return Enrollment(
        id=row.id,
        org_id=row.org_id,
        workflow_id=row.workflow_id,
        version=row.version,
        contact_id=row.contact_id,
        key=row.key,
        occurrence=row.occurrence,
        actor=row.actor,
        state=State(row.state),
        step_id=row.step_id,
        rev=row.rev,
        entered_at=row.entered_at,
        moved_at=row.moved_at,
        trace_count=row.trace_count,
        due_at=row.deadline if row.wait_kind == "event" else row.due_at,
        waiting=waiting,
        variables=row.data.get("vars", {}),
        event=row.data.get("event"),
        outputs=row.data.get("outputs", {}),
        end_reason=row.end_reason,
        ended_at=row.ended_at,
    )


def trace_to_domain(row: Row[Any]) -> TraceEntry:
    """Return a row of a trace as the domain sees it."""
    return TraceEntry(
        seq=row.seq,
        step_id=row.step_id,
        kind=row.kind,
        outcome=row.outcome,
        at=row.at,
        exit=row.exit,
        reason=row.reason,
        inputs=row.inputs,
        effects=tuple(row.effects),
    )


async def get(tx: Transaction, enrollment_id: str, *, lock: bool = False) -> Enrollment | None:
    """Return an enrollment, or None; `lock` holds it until the transaction ends."""
    statement = select(enrollments).where(enrollments.c.id == enrollment_id)
    row = await tx.first(statement.with_for_update() if lock else statement)
    return None if row is None else to_domain(row)


async def trace(tx: Transaction, enrollment_id: str, *, after: int = 0, limit: int = 500) -> list[TraceEntry]:
    """Return entries of a trace after a position, oldest first."""
    rows = await tx.all(
        select(trace_entries)
        .where(trace_entries.c.enrollment_id == enrollment_id, trace_entries.c.seq > after)
        .order_by(trace_entries.c.seq)
        .limit(limit)
    )
    return [trace_to_domain(row) for row in rows]


async def standing(
    tx: Transaction, org: str, workflow_id: str, identities: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Row[Any]]:
    """Return the latest occurrence (id, occurrence, state) of each `(contact, key)` in a workflow."""
    found: dict[tuple[str, str], Row[Any]] = {}
    for start in range(0, len(identities), 500):
        rows = await tx.all(
            select(*(enrollments.c[name] for name in ("contact_id", "key", "id", "occurrence", "state")))
            .where(
                enrollments.c.org_id == org,
                enrollments.c.workflow_id == workflow_id,
                tuple_(enrollments.c.contact_id, enrollments.c.key).in_(identities[start : start + 500]),
            )
            .order_by(enrollments.c.occurrence)
        )
        found.update({(row.contact_id, row.key): row for row in rows})
    return found


async def remove(tx: Transaction, enrollment_id: str) -> None:
    """Delete an enrollment and its trace."""
    await tx.run(delete(trace_entries).where(trace_entries.c.enrollment_id == enrollment_id))
    await tx.run(delete(enrollments).where(enrollments.c.id == enrollment_id))
