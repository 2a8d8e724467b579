"""Work for agents: offered by workflows, claimed under a lease, answered once against a JSON Schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, ColumnElement, Index, Row, Select, Table, and_, or_, select, text, update

from core.domain import names
from core.domain.effects import CreateTask, Emit
from core.domain.enrollment import Enrollment, TaskAnswered
from core.domain.errors import Invalid, NotFound, WrongState, invalid
from core.domain.frozen import frozen
from core.domain.workflow import json_schemas
from core.domain.workflow.schema_complaints import complaints
from core.domain.workflow.storable import storable
from core.store.keys import these
from core.store.metadata import Instant, Json, Name, dump_json, metadata, org_id
from core.store.transaction import Transaction
from core.store.webhooks.deliveries import Emission

LEASE = timedelta(minutes=15)
"""How long a claim holds; claiming again before its end makes it longer."""

LARGEST_OUTPUT = 65_536
"""In bytes of JSON."""

_CLOSED_AT_ONCE = 500


class TaskState(StrEnum):
    """Where a task is in its life."""

    OPEN = "open"
    CLAIMED = "claimed"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


_STANDING = (TaskState.OPEN.value, TaskState.CLAIMED.value)

agent_tasks = Table(
    "agent_tasks",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("enrollment_id", Name, nullable=False),
    Column("workflow_id", Name, nullable=False),
    Column("step_id", Name, nullable=False),
    Column("contact_id", Name, nullable=False),
    Column("title", Name, nullable=False),
    Column("instructions", Name, nullable=False),
    Column("input", Json, nullable=False),
    Column("output_schema", Json, nullable=False),
    Column("state", Name, nullable=False),
    # Who works on it, and until when nobody else may; afterwards it is as good as open.
    Column("claimed_by", Name, nullable=False),
    Column("claim_expires_at", Instant),
    Column("output", Json),
    Column("answered_by", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("answered_at", Instant),
    # The organization not first: see `enrollments`.
    Index("agent_tasks_state", "state", "org_id", "id"),
    Index("agent_tasks_enrollment", "enrollment_id", "org_id", "id"),
    Index(
        "agent_tasks_expiring",
        "expires_at",
        sqlite_where=text("state IN ('open', 'claimed') AND expires_at IS NOT NULL"),
        postgresql_where=text("state IN ('open', 'claimed') AND expires_at IS NOT NULL"),
    ),
)

_COLUMNS = (
    "org_id id enrollment_id workflow_id step_id contact_id title instructions input output_schema state claimed_by "
    "answered_by created_at expires_at"
).split()


@frozen
class TaskOutcome:
    """An answer that was taken: the enrollment to move, and what it is told."""

    org_id: str
    enrollment_id: str
    stimulus: TaskAnswered


async def create_many(tx: Transaction, tasks: Sequence[tuple[Enrollment, CreateTask]]) -> None:
    """Write tasks of enrollments that wait for them, of any organizations. The caller announces them."""
    rows = [
        (
            *(e.org_id, task.id, e.id, e.workflow_id, e.step_id, e.contact_id, task.title, task.instructions),
            *(task.input, task.output_schema, TaskState.OPEN.value, "", "", tx.now, task.expires_at),
        )
        for e, task in tasks
    ]
    await tx.bulk_insert(agent_tasks, _COLUMNS, rows)


def announcement(enrollment: Enrollment, task: CreateTask, now: datetime) -> Emission:
    """Return the event that tells the organization of a task."""
    data = {
        "task_id": task.id,
        "title": task.title,
        "enrollment_id": enrollment.id,
        "workflow_id": enrollment.workflow_id,
        "step_id": enrollment.step_id,
        "contact_id": enrollment.contact_id,
    }
    if task.expires_at is not None:
        data["expires_at"] = task.expires_at.isoformat()
    message = names.derive("msg", now, task.id, "created")
    return Emission(enrollment.org_id, Emit(message, "agent_task.created", data), enrollment.id)


async def get(tx: Transaction, task_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a task, or None; `lock` holds it until the transaction ends."""
    statement = select(agent_tasks).where(agent_tasks.c.id == task_id)
    return await tx.first(statement.with_for_update() if lock else statement)


def state_now(row: Row[Any], now: datetime) -> TaskState:
    """Return the state of a task as it is at an instant: a claim lapses and a task expires without being written."""
    if row.state not in _STANDING:
        return TaskState(row.state)
    if row.expires_at is not None and row.expires_at <= now:
        return TaskState.EXPIRED
    lapsed = row.state == TaskState.CLAIMED and row.claim_expires_at <= now
    return TaskState.OPEN if lapsed else TaskState(row.state)


def listing(state: TaskState | None = None, *, workflow_id: str = "", now: datetime) -> Select[Any]:
    """Return the query of tasks, those in a state at this instant where one is named."""
    statement = select(agent_tasks)
    if workflow_id:
        statement = statement.where(agent_tasks.c.workflow_id == workflow_id)
    return statement if state is None else statement.where(_in_state(state, now))


def _in_state(state: TaskState, now: datetime) -> ColumnElement[bool]:
    c = agent_tasks.c
    in_time = or_(c.expires_at.is_(None), c.expires_at > now)
    match state:
        case TaskState.OPEN:
            lapsed = and_(c.state == TaskState.CLAIMED, c.claim_expires_at <= now)
            return and_(or_(c.state == TaskState.OPEN, lapsed), in_time)
        case TaskState.CLAIMED:
            return and_(c.state == TaskState.CLAIMED, c.claim_expires_at > now, in_time)
        case TaskState.EXPIRED:
            return or_(c.state == TaskState.EXPIRED, and_(c.state.in_(_STANDING), c.expires_at <= now))
        case _:
            return c.state == state


async def claim(tx: Transaction, task_id: str, principal_id: str) -> Row[Any]:
    """Give a task to an agent for the length of the lease; again, it begins anew.

    Raises NotFound and WrongState: somebody else works on it, or there is nothing to do any more.
    """
    rows = await _take(tx, [task_id], principal_id)
    if rows:
        return rows[0]
    row = await get(tx, task_id)
    if row is None:
        raise NotFound(kind="task", id=task_id)
    raise WrongState(kind="Task", id=task_id, state=_spoken(row, tx.now), action="claiming it")


async def claim_next(
    tx: Transaction, principal_id: str, *, limit: int = 1, workflow_id: str = ""
) -> Sequence[Row[Any]]:
    """Give up to so many open tasks, oldest first, to an agent; several agents at once get different ones."""
    statement = listing(TaskState.OPEN, workflow_id=workflow_id, now=tx.now).order_by(agent_tasks.c.id).limit(limit)
    found = await tx.all(statement.with_for_update(skip_locked=True))
    return await _take(tx, [row.id for row in found], principal_id)


async def _take(tx: Transaction, task_ids: Sequence[str], principal_id: str) -> Sequence[Row[Any]]:
    if not task_ids:
        return []
    own = and_(_in_state(TaskState.CLAIMED, tx.now), agent_tasks.c.claimed_by == principal_id)
    statement = (
        update(agent_tasks)
        .where(agent_tasks.c.id.in_(task_ids), or_(_in_state(TaskState.OPEN, tx.now), own))
        .values(state=TaskState.CLAIMED.value, claimed_by=principal_id, claim_expires_at=tx.now + LEASE)
    )
    rows = await tx.all(statement.returning(*agent_tasks.c))
    tx.wake("watch")
    return sorted(rows, key=lambda row: str(row.id))


async def release(tx: Transaction, task_id: str, principal_id: str) -> Row[Any]:
    """Give a task back, so that others may take it.

    Raises NotFound, and WrongState where it is not claimed by this agent.
    """
    row = await _held(tx, task_id)
    if state_now(row, tx.now) is not TaskState.CLAIMED or row.claimed_by != principal_id:
        raise WrongState(kind="Task", id=task_id, state=_spoken(row, tx.now), action="giving it back")
    await _save(tx, task_id, state=TaskState.OPEN.value, claimed_by="", claim_expires_at=None)
    return await _held(tx, task_id)


async def release_of_keys(tx: Transaction, principal_ids: Sequence[str]) -> int:
    """Give back every task that these principals have claimed; return how many."""
    c = agent_tasks.c
    theirs = and_(c.state == TaskState.CLAIMED, c.claimed_by.in_(sorted(principal_ids)))
    open_again = {"state": TaskState.OPEN.value, "claimed_by": "", "claim_expires_at": None}
    released = await tx.run(update(agent_tasks).where(theirs).values(**open_again)) if principal_ids else 0
    tx.wake("watch")
    return released


async def answer(tx: Transaction, task_id: str, principal_id: str, output: Any) -> TaskOutcome:
    """Take the answer to a task that is open or claimed by this agent; the caller moves the enrollment.

    Raises NotFound, WrongState, and Invalid where the answer does not fit the schema; the task stays as it is then.
    """
    row = await _held(tx, task_id)
    state = state_now(row, tx.now)
    if state is not TaskState.OPEN and not (state is TaskState.CLAIMED and row.claimed_by == principal_id):
        raise WrongState(kind="Task", id=task_id, state=_spoken(row, tx.now), action="answering it")
    output = _fitting(row.output_schema, output)
    await _save(
        tx,
        task_id,
        state=TaskState.ANSWERED.value,
        claim_expires_at=None,
        output=output,
        answered_by=principal_id,
        answered_at=tx.now,
    )
    return TaskOutcome(row.org_id, row.enrollment_id, TaskAnswered(task_id, output, principal_id))


def _fitting(written: Mapping[str, Any], output: Any) -> Any:
    """Return an answer as it is kept. Raises Invalid where it does not fit the schema."""
    try:
        size = len(dump_json(output).encode(errors="replace"))
    except (TypeError, ValueError):
        raise invalid("output", "NOT_JSON", "the answer has no JSON form", "Use JSON values only.") from None
    if size > LARGEST_OUTPUT:
        message = f"the answer has {size:,} bytes; at most {LARGEST_OUTPUT:,} are allowed"
        raise invalid("output", "TOO_LARGE", message, "Say it shorter.")
    output = storable(json.loads(dump_json(output)))
    schema, problems = json_schemas.read(written, "output_schema")
    if schema is None:  # limits became narrower since the workflow was published
        raise Invalid(*problems)
    if wrong := complaints(schema, output, "output", "Make the answer fit the task's output_schema."):
        raise Invalid(*wrong)
    return output


async def cancel(tx: Transaction, ids: Sequence[tuple[str, str]]) -> int:
    """Withdraw tasks `(organization, id)` that nobody has answered; return how many.

    One whose time is over was not withdrawn: it has expired.
    """
    if not ids:
        return 0
    rows = await tx.all(_standing().where(these(agent_tasks, ids)).with_for_update())
    expired = {row.id for row in rows if state_now(row, tx.now) is TaskState.EXPIRED}
    await _close(tx, [row for row in rows if row.id in expired], TaskState.EXPIRED)
    await _close(tx, [row for row in rows if row.id not in expired], TaskState.CANCELLED)
    return len(rows)


async def reschedule(tx: Transaction, which: Sequence[tuple[str, str, datetime | None]]) -> None:
    """Let tasks `(organization, id, last moment)` that nobody has answered be answered until another time."""
    for org, task_id, until in which:
        open_ones = (these(agent_tasks, [(org, task_id)]), agent_tasks.c.state.in_((TaskState.OPEN, TaskState.CLAIMED)))
        await tx.run(update(agent_tasks).where(*open_ones).values(expires_at=until))


# Nobody is late while a workflow is paused: resuming says what becomes of them.
_GOES_ON = text(
    "NOT EXISTS (SELECT 1 FROM workflows w WHERE w.org_id = agent_tasks.org_id AND w.id = agent_tasks.workflow_id "
    "AND w.state = 'paused')"
)


async def expire(tx: Transaction) -> int:
    """Close tasks that nobody answered in time, in a system transaction; return how many.

    Their enrollments go on by their own timers.
    """
    overdue = _standing().where(agent_tasks.c.expires_at <= tx.now, _GOES_ON).limit(_CLOSED_AT_ONCE)
    rows = await tx.all(overdue.with_for_update())
    await _close(tx, rows, TaskState.EXPIRED)
    return len(rows)


async def _held(tx: Transaction, task_id: str) -> Row[Any]:
    row = await get(tx, task_id, lock=True)
    if row is None:
        raise NotFound(kind="task", id=task_id)
    return row


async def _save(tx: Transaction, task_id: str, **values: Any) -> None:
    await tx.run(update(agent_tasks).where(agent_tasks.c.id == task_id).values(**values))
    tx.wake("watch")


def _standing() -> Select[Any]:
    in_work = text("state IN ('open', 'claimed')")  # as in the partial index
    return select(agent_tasks).where(in_work).order_by(agent_tasks.c.org_id, agent_tasks.c.id)


async def _close(tx: Transaction, rows: Sequence[Row[Any]], state: TaskState) -> None:
    if rows:
        statement = update(agent_tasks).where(these(agent_tasks, [(row.org_id, row.id) for row in rows]))
        await tx.run(statement.values(state=state.value, claim_expires_at=None))
        tx.wake("watch")


def _spoken(row: Row[Any], now: datetime) -> str:
    state = state_now(row, now)
    if state is TaskState.CLAIMED:
        return f"claimed by {row.claimed_by} until {row.claim_expires_at:%H:%M:%S} UTC"
    return f"answered by {row.answered_by}" if state is TaskState.ANSWERED else state.value
