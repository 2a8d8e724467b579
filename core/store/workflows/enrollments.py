"""Enrollments and their traces: the narrow hot table that the engine claims from, and the history beside it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import (
    Column,
    Index,
    Integer,
    Row,
    SmallInteger,
    Table,
    delete,
    func,
    select,
    text,
)

from core.domain import stimuli
from core.domain.enrollment import Enrollment, State, Waiting, WaitKind
from core.domain.trace import TraceEntry
from core.store.metadata import Instant, Json, Name, from_micros, metadata, org_id, to_micros
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
    # When the engine looks at it next, and when it is really due. They differ where the engine looks once more right
    # after a commit, for an event that was matched while nobody could see who waits for it; where something waits
    # since a pause; and while the workflow is paused: then the engine does not look at all.
    Column("due_at", Instant),
    Column("deadline", Instant),
    # `held` while the engine would look but the workflow is paused; `skip` when it passes over what became overdue.
    Column("parked", Name),
    Column("wait_kind", Name),
    Column("wait_subject", Name),
    # For a wait for events: the contact's id, or a field and its value.
    Column("wait_key", Name),
    Column("wait_since", Instant),
    Column("data", Json, nullable=False),
    Column("end_reason", Name, nullable=False),
    Column("entered_at", Instant, nullable=False),
    Column("moved_at", Instant, nullable=False),
    Column("ended_at", Instant),
    # The organization never first but in the key: while a table is small, and known to PostgreSQL as nothing else, an
    # index that begins with it seems as good as the key for whoever looks up an id.
    Index("enrollments_identity", "workflow_id", "org_id", "contact_id", "key", "occurrence", unique=True),
    Index("enrollments_contact", "contact_id", "org_id"),
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
        "wait_key",
        sqlite_where=text("wait_kind = 'event'"),
        postgresql_where=text("wait_kind = 'event'"),
    ),
    Index(
        "enrollments_running",
        "org_id",
        "workflow_id",
        "id",
        sqlite_where=text("state IN ('active', 'awaiting_approval')"),
        postgresql_where=text("state IN ('active', 'awaiting_approval')"),
    ),
    Index(
        "enrollments_parked",
        "org_id",
        "workflow_id",
        sqlite_where=text("parked = 'held'"),
        postgresql_where=text("parked = 'held'"),
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


HELD, SKIP = "held", "skip"
"""What `parked` says."""

_AS_THEY_ARE = ("attempts", "hops", "converted", "messages", "again", "about", "led")
"""Fields of an enrollment that are kept as JSON as they are."""
_MICROSECOND = timedelta(microseconds=1)


def waiting_of(kind: str | None, subject: str | None, since: datetime | None, key: str | None) -> Waiting | None:
    """Return what a row waits for."""
    return Waiting(cast(WaitKind, kind), subject or "", since, key or "") if kind else None


def data_of(enrollment: Enrollment) -> dict[str, Any]:
    """Return what of an enrollment is kept as JSON; what most enrollments lack is left out."""
    data: dict[str, Any] = {
        "vars": enrollment.variables,
        "event": enrollment.event,
        "outputs": enrollment.outputs,
    }
    for name in _AS_THEY_ARE:
        value = getattr(enrollment, name)
        if value:
            data[name] = value
    if enrollment.begun:
        data["begun"] = {step: to_micros(at) for step, at in enrollment.begun.items()}
    if enrollment.began_at is not None:
        data["began_at"] = to_micros(enrollment.began_at)
    if enrollment.shifted:
        data["shifted"] = enrollment.shifted // _MICROSECOND
    if enrollment.held:
        data["held"] = [stimuli.to_data(stimulus) for stimulus in enrollment.held]
    return data


def from_data(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an enrollment that are kept as JSON."""
    found: dict[str, Any] = {
        "variables": data.get("vars", {}),
        "event": data.get("event"),
        "outputs": data.get("outputs", {}),
    }
    for name in _AS_THEY_ARE:
        if name in data:
            found[name] = data[name]
    if "begun" in data:
        found["begun"] = {step: from_micros(at) for step, at in data["begun"].items()}
    if "began_at" in data:
        found["began_at"] = from_micros(data["began_at"])
    if "shifted" in data:
        found["shifted"] = data["shifted"] * _MICROSECOND
    if "held" in data:
        found["held"] = tuple(stimuli.from_data(item) for item in data["held"])
    return found


def to_domain(row: Row[Any]) -> Enrollment:
    """Return a row as the domain sees it."""
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
        due_at=row.deadline,
        waiting=waiting_of(row.wait_kind, row.wait_subject, row.wait_since, row.wait_key),
        end_reason=row.end_reason,
        ended_at=row.ended_at,
        skipping=row.parked == SKIP,
        **from_data(row.data),
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
        inputs=row.inputs or {},  # erasing once left an empty list there
        effects=tuple(row.effects),
    )


async def get(tx: Transaction, enrollment_id: str, *, lock: bool = False) -> Enrollment | None:
    """Return an enrollment, or None; `lock` holds it until the transaction ends."""
    statement = select(enrollments).where(enrollments.c.id == enrollment_id)
    row = await tx.first(statement.with_for_update() if lock else statement)
    return None if row is None else to_domain(row)


async def latest(tx: Transaction, workflow_id: str, contact_id: str) -> Enrollment | None:
    """Return a contact's latest enrollment in a workflow, or None."""
    row = await tx.first(
        select(enrollments)
        .where(enrollments.c.workflow_id == workflow_id, enrollments.c.contact_id == contact_id)
        .order_by(enrollments.c.entered_at.desc(), enrollments.c.id.desc())
        .limit(1)
    )
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
    """Return the latest occurrence (id, occurrence, state, entered_at) of each `(contact, key)` in a workflow."""
    found: dict[tuple[str, str], Row[Any]] = {}
    for start in range(0, len(identities), 500):
        contacts, keys = zip(*identities[start : start + 500], strict=True)
        rows = await tx.all(
            select(*(enrollments.c[name] for name in ("contact_id", "key", "id", "occurrence", "state", "entered_at")))
            .where(
                enrollments.c.org_id == org,
                enrollments.c.workflow_id == workflow_id,
                # Not as pairs: for those SQLite reads all of the workflow's. It looks up the contacts and then compares
                # keys; a pair that nobody asked for does no harm.
                enrollments.c.contact_id.in_(sorted(set(contacts))),
                func.coalesce(enrollments.c.key, "").in_(sorted(set(keys))),
            )
            .order_by(enrollments.c.occurrence)
        )
        found.update({(row.contact_id, row.key): row for row in rows})
    return found


async def been(tx: Transaction, org: str, workflow_id: str, contact_ids: Collection[str]) -> set[str]:
    """Return which contacts have been in a workflow, under whichever key."""
    table, found = enrollments, set[str]()
    wanted = sorted(contact_ids)
    for start in range(0, len(wanted), 500):
        there = (table.c.workflow_id == workflow_id, table.c.contact_id.in_(wanted[start : start + 500]))
        rows = await tx.all(select(table.c.contact_id).where(table.c.org_id == org, *there).distinct())
        found |= {row.contact_id for row in rows}
    return found


async def remove(tx: Transaction, enrollment_id: str) -> None:
    """Delete an enrollment and its trace."""
    await tx.run(delete(trace_entries).where(trace_entries.c.enrollment_id == enrollment_id))
    await tx.run(delete(enrollments).where(enrollments.c.id == enrollment_id))
