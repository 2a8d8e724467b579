"""The one writer: turns decisions into rows, all in the transaction that is open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.domain import names
from core.domain.effects import CancelApproval, Emit, RequestApproval, UpdateRecord
from core.domain.enrollment import Enrollment
from core.domain.trace import Transition
from core.store import approvals, deliveries, records
from core.store.deliveries import Emission
from core.store.enrollments import enrollments, trace_entries
from core.store.metadata import day_of, dump_json, to_micros
from core.store.transaction import StaleEnrollment, Transaction

_MOVING = (
    "state step_id rev trace_count due_at deadline wait_kind wait_subject wait_since data end_reason moved_at ended_at"
).split()
_UPDATE_SQLITE = (
    "UPDATE enrollments SET "  # noqa: S608 -- names are ours
    + ", ".join(f"{name} = ?" for name in _MOVING)
    + " WHERE org_id = ? AND id = ? AND rev = ?"
)
_TYPES = {"rev": "int", "trace_count": "int", "seen": "int"} | {
    name: "bigint" for name in ("due_at", "deadline", "wait_since", "moved_at", "ended_at")
}
_ARRAYS = ", ".join(
    f"${number}::{_TYPES.get(name, 'text')}[]" for number, name in enumerate(["org_id", "id", "seen", *_MOVING], 1)
)
_UPDATE_POSTGRESQL = (
    "UPDATE enrollments e SET "  # noqa: S608 -- names are ours
    + ", ".join(f"{name} = v.{name}{'::jsonb' if name == 'data' else ''}" for name in _MOVING)
    + f" FROM unnest({_ARRAYS}) AS v(org_id, id, seen, {', '.join(_MOVING)})"
    + " WHERE e.org_id = v.org_id AND e.id = v.id AND e.rev = v.seen"
)
_INSERT_COLUMNS = (
    "org_id id bucket workflow_id version contact_id key occurrence actor state step_id rev trace_count "
    "due_at deadline wait_kind wait_subject wait_since data end_reason entered_at moved_at ended_at"
).split()
_TRACE_COLUMNS = ("org_id enrollment_id seq day bucket at step_id kind outcome exit reason inputs effects").split()


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a batch of decisions."""

    lost: frozenset[str]
    """New enrollments that were not written, because another one had taken their identity."""
    unheard: tuple[tuple[Enrollment, str], ...]
    """Enrollments that await a message which no endpoint will receive, and that message's id."""


async def apply(tx: Transaction, transitions: Sequence[Transition]) -> Applied:
    """Write enrollments, traces, record changes, approvals and messages.

    Raises StaleEnrollment when one has moved on since it was read.
    """
    lost = await _insert_new(tx, [t.enrollment for t in transitions if t.enrollment.rev == 1])
    written = [t for t in transitions if t.enrollment.id not in lost]
    await _update_moved(tx, [t.enrollment for t in written if t.enrollment.rev > 1])
    await tx.bulk_insert(trace_entries, _TRACE_COLUMNS, [row for t in written for row in _trace_rows(t)])
    unheard = await _apply_effects(tx, written)
    looks = [_looks_at(tx, t.enrollment) for t in written]
    if any(at is not None and at <= tx.now for at in looks):
        tx.wake("engine")
    tx.wake("watch")
    return Applied(frozenset(lost), unheard)


def _data(enrollment: Enrollment) -> dict[str, Any]:
    return {"vars": enrollment.variables, "event": enrollment.event, "outputs": enrollment.outputs}


def _looks_at(tx: Transaction, enrollment: Enrollment) -> datetime | None:
    """Return when the engine looks at an enrollment next.

    On PostgreSQL an event may be matched between the beginning of a wait and its commit, by a process that cannot see
    the wait yet. So the engine looks once after the commit, crash or not, and only then sleeps until the deadline.
    SQLite has one writer: nothing can come between.
    """
    waiting = enrollment.waiting
    begins = waiting is not None and waiting.kind == "event" and waiting.since == enrollment.moved_at
    return enrollment.moved_at if begins and tx.dialect == "postgresql" else enrollment.due_at


def _deadline(enrollment: Enrollment) -> datetime | None:
    return enrollment.due_at if enrollment.waiting is not None and enrollment.waiting.kind == "event" else None


def _micros(instant: datetime | None) -> int | None:
    return None if instant is None else to_micros(instant)


def _moving_values(tx: Transaction, enrollment: Enrollment) -> tuple[Any, ...]:
    waiting = enrollment.waiting
    return (
        enrollment.state.value,
        enrollment.step_id,
        enrollment.rev,
        enrollment.trace_count,
        _micros(_looks_at(tx, enrollment)),
        _micros(_deadline(enrollment)),
        None if waiting is None else waiting.kind,
        None if waiting is None else waiting.subject,
        _micros(waiting.since) if waiting is not None else None,
        dump_json(_data(enrollment)),
        enrollment.end_reason,
        to_micros(enrollment.moved_at),
        _micros(enrollment.ended_at),
    )


async def _update_moved(tx: Transaction, moved: Sequence[Enrollment]) -> None:
    if not moved:
        return
    driver = await tx.driver()
    if tx.dialect == "postgresql":
        rows = [(e.org_id, e.id, e.rev - 1, *_moving_values(tx, e)) for e in moved]
        tag: str = await driver.execute(_UPDATE_POSTGRESQL, *[list(column) for column in zip(*rows, strict=True)])
        count = int(tag.rpartition(" ")[2])
    else:
        rows = [(*_moving_values(tx, e), e.org_id, e.id, e.rev - 1) for e in moved]
        count = (await driver.executemany(_UPDATE_SQLITE, rows)).rowcount
    if count != len(moved):
        raise StaleEnrollment(f"{len(moved) - count} of {len(moved)} enrollments have moved on")


async def _insert_new(tx: Transaction, new: Sequence[Enrollment]) -> set[str]:
    """Insert enrollments and return the ids of those whose identity was taken meanwhile."""
    if not new:
        return set()
    rows = [
        (
            e.org_id, e.id, names.bucket(e.org_id), e.workflow_id, e.version, e.contact_id, e.key, e.occurrence,
            e.actor, e.state.value, e.step_id, e.rev, e.trace_count, _looks_at(tx, e), _deadline(e),
            None if e.waiting is None else e.waiting.kind,
            None if e.waiting is None else e.waiting.subject,
            None if e.waiting is None else e.waiting.since,
            _data(e), e.end_reason, e.entered_at, e.moved_at, e.ended_at,
        )
        for e in new
    ]  # fmt: skip
    if tx.dialect == "postgresql":
        return {e.id for e in new} - await tx.bulk_insert_free(enrollments, _INSERT_COLUMNS, rows)
    await tx.bulk_insert(enrollments, _INSERT_COLUMNS, rows)  # the only writer: nobody can have come between
    return set()


def _trace_rows(transition: Transition) -> list[tuple[Any, ...]]:
    enrollment = transition.enrollment
    bucket = names.bucket(enrollment.org_id)
    return [
        (
            enrollment.org_id, enrollment.id, entry.seq, day_of(entry.at), bucket, entry.at, entry.step_id, entry.kind,
            entry.outcome, entry.exit, entry.reason, entry.inputs, list(entry.effects),
        )
        for entry in transition.trace
    ]  # fmt: skip


async def _apply_effects(tx: Transaction, transitions: Sequence[Transition]) -> tuple[tuple[Enrollment, str], ...]:
    updates: list[records.RecordUpdate] = []
    requested: list[approvals.NewApproval] = []
    cancelled: list[tuple[str, str]] = []
    emissions: list[Emission] = []
    awaited: dict[str, Enrollment] = {}
    for transition in transitions:
        enrollment = transition.enrollment
        for effect in transition.effects:
            match effect:
                case UpdateRecord():
                    cause = f"enrollment:{enrollment.id}/{enrollment.rev}"
                    actor = f"workflow:{enrollment.workflow_id}"
                    updates.append(
                        records.RecordUpdate(enrollment.org_id, effect.record_id, effect.fields, actor, cause)
                    )
                case RequestApproval():
                    request = approvals.NewApproval.of_step(enrollment, effect)
                    requested.append(request)
                    emissions.append(request.announcement(tx.now))
                case CancelApproval():
                    cancelled.append((enrollment.org_id, effect.id))
                case Emit():
                    emissions.append(Emission(enrollment.org_id, effect, enrollment.id))
                    if effect.awaited:
                        awaited[effect.id] = enrollment
    if updates:
        await records.apply_updates(tx, updates)
    if requested:
        await approvals.create_many(tx, requested)
    if cancelled:
        await approvals.cancel(tx, cancelled)
    if not emissions:
        return ()
    counts = await deliveries.emit(tx, emissions)
    return tuple((awaited[message], message) for message, count in counts.items() if not count and message in awaited)
