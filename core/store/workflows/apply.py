"""The one writer: turns decisions into rows, all in the transaction that is open."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

from core.domain import names
from core.domain.effects import Ask
from core.domain.enrollment import DeliveryEnded, Enrollment
from core.domain.frozen import frozen
from core.domain.trace import Transition
from core.pieces import LIGHT_AT_ONCE, in_pieces
from core.store.metadata import day_of, to_micros, write_json
from core.store.transaction import StaleEnrollment, Transaction, inserting, insertion, insertions, rows_of_json
from core.store.workflows import statistics
from core.store.workflows.carrying_out import carry_out
from core.store.workflows.enrollments import HELD, SKIP, data_of, enrollments, trace_entries

_FOUND_BY = "state wait_kind wait_key".split()
"""What indexes go by and a move from one wait to the next leaves as it is; whoever changes it counts `rev` up."""
_MOVING = [
    *_FOUND_BY,
    *"version step_id rev trace_count due_at deadline parked wait_subject wait_since data end_reason moved_at".split(),
    "ended_at",
]
# SQLite writes the entries of an index anew when a statement names what it goes by, changed or not.
_UPDATE_SQLITE, _UPDATE_STAYING_SQLITE = (
    f"UPDATE enrollments SET {', '.join(f'{name} = ?' for name in columns)} WHERE org_id = ? AND id = ? AND rev = ?"  # noqa: S608
    for columns in (_MOVING, _MOVING[len(_FOUND_BY) :])
)
_TYPES = {"version": "int", "rev": "int", "trace_count": "int", "seen": "int", "data": "jsonb"} | {
    name: "bigint" for name in ("due_at", "deadline", "wait_since", "moved_at", "ended_at")
}
_UPDATE_POSTGRESQL = (
    "UPDATE enrollments e SET "  # noqa: S608 -- names are ours
    + ", ".join(f"{name} = v.{name}" for name in _MOVING)
    + f" FROM {rows_of_json({name: _TYPES.get(name, 'text') for name in [*_MOVING, 'org_id', 'id', 'seen']})} AS v"
    + " WHERE e.org_id = v.org_id AND e.id = v.id AND e.rev = v.seen"
)
_INSERT_COLUMNS = (
    "org_id id bucket workflow_id version contact_id key occurrence actor state step_id rev trace_count "
    "due_at deadline parked wait_kind wait_subject wait_key wait_since data end_reason entered_at moved_at ended_at"
).split()
_TRACE_COLUMNS = ("org_id enrollment_id seq day bucket at step_id kind outcome exit reason inputs effects").split()
# Where somebody else has moved one of them, its trace has the same places already: then none is written.
_WRITE_POSTGRESQL = (
    f"WITH moved AS ({_UPDATE_POSTGRESQL} RETURNING 1), "  # noqa: S608 -- names are ours
    f"traced AS ({inserting(trace_entries, tuple(_TRACE_COLUMNS), 2)} "
    "WHERE (SELECT count(*) FROM moved) = $4::bigint), "
    f"counted AS ({inserting(statistics.step_outcomes, tuple(statistics.OUTCOME_COLUMNS), 3)}) "
    "SELECT count(*) FROM moved"
)


_bucket = lru_cache(names.bucket)


@frozen
class Applied:
    """What became of a batch of decisions."""

    lost: frozenset[str]
    """New enrollments that were not written, because another one had taken their identity."""
    unheard: tuple[tuple[Enrollment, DeliveryEnded], ...]
    """Enrollments that await a message which no endpoint will receive, and what they are told of it."""
    asked: tuple[tuple[Enrollment, Ask], ...]
    """Enrollments that wait for an answer of the core, and the question."""


async def apply(tx: Transaction, transitions: Sequence[Transition], paused: frozenset[str] = frozenset()) -> Applied:
    """Write enrollments, traces, record changes, approvals, messages, tasks, events and counts.

    `paused` names the enrollments whose workflow is paused: the engine does not look at them until it is resumed.
    Raises StaleEnrollment when one has moved on since it was read.
    """
    looks = [_look(tx, t, paused) for t in transitions]
    lost = await _insert_new(tx, [look for look in looks if look.enrollment.rev == 1])
    written = transitions
    if lost:
        written = [t for t in transitions if t.enrollment.id not in lost]
        looks = [look for look in looks if look.enrollment.id not in lost]
    await _write_down(tx, [look for look in looks if look.enrollment.rev > 1], written)
    applied = await carry_out(tx, written)
    if any(look.at is not None and look.at <= tx.now for look in looks):
        tx.wake("engine")
    tx.wake("watch")
    return Applied(frozenset(lost), *applied)


@frozen
class _Look:
    """An enrollment and when the engine looks at it next."""

    enrollment: Enrollment
    at: datetime | None
    parked: str | None
    before: Enrollment | None

    @property
    def stays(self) -> bool:
        """Tell whether indexes find it where they did, unless they go by when it is due."""
        before, after = self.before, self.enrollment
        if before is None or before.state is not after.state:
            return False
        was, now = before.waiting, after.waiting
        if was is None or now is None:
            return was is now
        return was.kind == now.kind and was.key == now.key


def _look(tx: Transaction, transition: Transition, paused: frozenset[str]) -> _Look:
    """Return when the engine looks at an enrollment next.

    On PostgreSQL an event may be matched between the beginning of a wait, or of an enrollment, and its commit, by a
    process that cannot see it yet. So the engine looks once after the commit, crash or not, and only then sleeps until
    the enrollment is due. SQLite has one writer: nothing can come between. Who listens since an earlier instant is
    looked at once as well, for what came in since then.
    """
    enrollment = transition.enrollment
    waiting = enrollment.waiting
    at = enrollment.due_at
    if not enrollment.state.over:
        begins = waiting is not None and waiting.kind == "event" and waiting.since == enrollment.moved_at
        # Later, whoever matches the change of a record waits for the enrollment and sees it; not when it is new.
        unseen = enrollment.rev == 1 and waiting is not None and waiting.kind == "condition"
        listens = begins or unseen or transition.listens
        if enrollment.held or enrollment.catches_up or (listens and tx.dialect == "postgresql"):
            at = enrollment.moved_at
    if enrollment.id in paused and not enrollment.state.over:
        due = at is not None and at <= tx.now
        return _Look(enrollment, None if due else at, HELD if due else None, transition.before)
    return _Look(enrollment, at, SKIP if enrollment.skipping else None, transition.before)


def _micros(instant: datetime | None) -> int | None:
    return None if instant is None else to_micros(instant)


def _found_by(enrollment: Enrollment) -> tuple[Any, ...]:
    waiting = enrollment.waiting
    return (enrollment.state.value, *((None, None) if waiting is None else (waiting.kind, waiting.key)))


def _moving_values(look: _Look, data: Any) -> tuple[Any, ...]:
    enrollment = look.enrollment
    waiting = enrollment.waiting
    return (
        enrollment.version,
        enrollment.step_id,
        enrollment.rev,
        enrollment.trace_count,
        _micros(look.at),
        _micros(enrollment.due_at),
        look.parked,
        None if waiting is None else waiting.subject,
        _micros(waiting.since) if waiting is not None else None,
        data,
        enrollment.end_reason,
        to_micros(enrollment.moved_at),
        _micros(enrollment.ended_at),
        enrollment.org_id,
        enrollment.id,
        enrollment.rev - 1,
    )


async def _write_down(tx: Transaction, moved: Sequence[_Look], written: Sequence[Transition]) -> None:
    """Write where enrollments stand now, how they came there, and the counts, all in one trip."""
    if not written:
        return
    as_text = tx.dialect != "postgresql"
    told = in_pieces(written, LIGHT_AT_ONCE)
    traced = [row async for some in told for t in some for row in _trace_rows(t, as_text=as_text)]
    counted = statistics.outcome_rows(tx, written)
    if not as_text:
        looks = in_pieces(moved, LIGHT_AT_ONCE)
        rows = [
            (*_found_by(look.enrollment), *_moving_values(look, data_of(look.enrollment)))
            async for some in looks
            for look in some
        ]
        given = (rows, traced, counted)
        _nobody_went_ahead(moved, (await tx.fetch(_WRITE_POSTGRESQL, *map(write_json, given), len(rows)))[0][0])
        return
    moving: list[tuple[Any, ...]] = []
    staying: list[tuple[Any, ...]] = []
    async for some in in_pieces(moved, LIGHT_AT_ONCE):
        for look in some:
            row = _moving_values(look, write_json(data_of(look.enrollment)))
            if look.stays:
                staying.append(row)
            else:
                moving.append((*_found_by(look.enrollment), *row))
    touched = await tx.write_each(
        (_UPDATE_SQLITE, moving),
        (_UPDATE_STAYING_SQLITE, staying),
        *insertions(trace_entries, _TRACE_COLUMNS, traced),
        insertion(statistics.step_outcomes, statistics.OUTCOME_COLUMNS, counted),
    )
    _nobody_went_ahead(moved, sum(touched[:2]))


def _nobody_went_ahead(moved: Sequence[_Look], written: int) -> None:
    if written != len(moved):
        raise StaleEnrollment(f"of {len(moved)} enrollments, one at least has moved on")


async def _insert_new(tx: Transaction, new: Sequence[_Look]) -> set[str]:
    """Insert enrollments and return the ids of those whose identity was taken meanwhile."""
    if not new:
        return set()
    rows = []
    for look in new:
        e, waiting = look.enrollment, look.enrollment.waiting
        rows.append(
            (
                e.org_id, e.id, names.bucket(e.org_id), e.workflow_id, e.version, e.contact_id, e.key, e.occurrence,
                e.actor, e.state.value, e.step_id, e.rev, e.trace_count, look.at, e.due_at, look.parked,
                None if waiting is None else waiting.kind,
                None if waiting is None else waiting.subject,
                None if waiting is None else waiting.key,
                None if waiting is None else waiting.since,
                data_of(e), e.end_reason, e.entered_at, e.moved_at, e.ended_at,
            )
        )  # fmt: skip
    if tx.dialect == "postgresql":
        ids = {look.enrollment.id for look in new}
        return ids - await tx.bulk_insert_free(enrollments, _INSERT_COLUMNS, rows)
    await tx.bulk_insert(enrollments, _INSERT_COLUMNS, rows)  # the only writer: nobody can have come between
    return set()


def _trace_rows(transition: Transition, *, as_text: bool) -> list[tuple[Any, ...]]:
    """Return the rows of a trace, what is JSON as text or as it is; most entries have nothing there."""
    enrollment = transition.enrollment
    org, id_, bucket = enrollment.org_id, enrollment.id, _bucket(enrollment.org_id)
    return [
        (
            org, id_, entry.seq, day_of(entry.at), bucket, to_micros(entry.at), entry.step_id, entry.kind,
            entry.outcome, entry.exit, entry.reason,
            (write_json(entry.inputs) if entry.inputs else "{}") if as_text else entry.inputs,
            (write_json(entry.effects) if entry.effects else "[]") if as_text else entry.effects,
        )
        for entry in transition.trace
    ]  # fmt: skip
