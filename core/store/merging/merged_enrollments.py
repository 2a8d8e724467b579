"""What a merge does to the enrollments of two contacts: they move, or end, and come back when it is undone.

Those that move go on where they stand, with what they wait for. No step is carried out by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, Table, select, update

from core.domain import names
from core.domain.effects import Emit
from core.domain.enrollment import Enrollment, State
from core.domain.records import merging as rules
from core.domain.records.merging import Held
from core.domain.trace import TraceEntry, Transition, closed
from core.store.agents import tasks
from core.store.agents.executions import executions
from core.store.agents.tasks import agent_tasks
from core.store.control import approvals
from core.store.control.approvals import approvals as approval_table
from core.store.merging.merges import Move, packed, unpacked
from core.store.metadata import day_of
from core.store.transaction import Transaction
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission
from core.store.workflows import enrollments, statistics
from core.store.workflows.dead_letters import dead_letters
from core.store.workflows.enrollments import enrollments as table
from core.store.workflows.enrollments import to_domain, trace_entries

_CLOSED = "Merged into {kept}, which is in this workflow already."
_ENDED = (
    *("state", "step_id", "due_at", "deadline", "parked", "wait_kind", "wait_subject", "wait_key"),
    *("wait_since", "data", "end_reason", "moved_at", "ended_at"),
)
_BESIDE: tuple[Table, ...] = (dead_letters, agent_tasks, executions)
"""Tables that name the contact of an enrollment beside it."""
_OF_APPROVAL, _OF_TASK = ("state", "decided_at"), ("state", "claim_expires_at")
_AT_ONCE = 500
_TRACE = (
    *("org_id", "enrollment_id", "seq", "day", "bucket", "at", "step_id", "kind", "outcome", "exit", "reason"),
    *("inputs", "effects"),
)


async def held(tx: Transaction, contact_ids: Iterable[str]) -> Sequence[Row[Any]]:
    """Return the enrollments of contacts, locked, in the order in which the engine locks them."""
    statement = select(table).where(table.c.contact_id.in_(tuple(contact_ids))).order_by(table.c.id)
    return await tx.all(statement.with_for_update())


async def take(tx: Transaction, kept_id: str, merged_id: str, *, merge_id: str, actor: str) -> list[Move]:
    """Give the kept contact the enrollments of the merged one that it can have, and end those that it cannot."""
    rows = {row.id: row for row in await held(tx, (kept_id, merged_id))}
    sides: dict[str, list[Held]] = {kept_id: [], merged_id: []}
    for row in rows.values():
        sides[row.contact_id].append(Held(row.id, row.workflow_id, row.key, State(row.state).over))
    sorting = rules.sort(sides[kept_id], sides[merged_id])
    moves: list[Move] = []
    for enrollment_id in sorting.ending:
        moves += await _end(tx, rows[enrollment_id], kept_id)
    moving = [rows[enrollment_id] for enrollment_id in sorting.moving]
    reason = f"{merged_id} was merged into {kept_id} ({merge_id}); this goes on as {kept_id}'s."
    await _give(tx, moving, merged_id, kept_id, reason)
    moves += [_moved("enrollments", "enrollments", row.id, merged_id, kept_id) for row in moving]
    return moves + await _beside(tx, sorting.moving, merged_id, kept_id)


def _moved(kind: str, place: str, row_id: str, before: str, after: str) -> Move:
    action = "moved" if place == "enrollments" else "update"
    return Move(action, kind, place, {"id": row_id}, {"contact_id": before}, {"contact_id": after})


async def _give(tx: Transaction, rows: Sequence[Row[Any]], before: str, after: str, reason: str) -> None:
    """Make enrollments another contact's; those that wait for the one's events wait for the other's."""
    c = table.c
    for start in range(0, len(rows), _AT_ONCE):
        some = [row.id for row in rows[start : start + _AT_ONCE]]
        values = {"contact_id": after, "rev": c.rev + 1, "trace_count": c.trace_count + 1}
        await tx.run(update(table).where(c.id.in_(some)).values(values))
        await tx.run(update(table).where(c.id.in_(some), c.wait_key == before).values(wait_key=after))
    entries = [
        TraceEntry(row.trace_count + 1, row.step_id, "enrollment", "entered", tx.now, reason=reason) for row in rows
    ]
    await _write_trace(tx, zip(rows, entries, strict=True))


async def _beside(tx: Transaction, enrollment_ids: Sequence[str], before: str, after: str) -> list[Move]:
    moves: list[Move] = []
    for beside in _BESIDE:
        for start in range(0, len(enrollment_ids), _AT_ONCE):
            some = enrollment_ids[start : start + _AT_ONCE]
            which = (beside.c.enrollment_id.in_(some), beside.c.contact_id == before)
            found = await tx.all(select(beside.c.id).where(*which).order_by(beside.c.id).with_for_update())
            await tx.run(update(beside).where(*which).values(contact_id=after))
            moves += [_moved("", beside.name, row.id, before, after) for row in found]
    return moves


async def _end(tx: Transaction, row: Row[Any], kept_id: str) -> list[Move]:
    """End an enrollment that the kept contact has one like, and remember how it stood."""
    moves = await _asked(tx, row)
    before = to_domain(row)
    reason = _CLOSED.format(kept=kept_id)
    ended = closed(before, State.CANCELLED, tx.now, "enrollment", "ended", reason)
    over = ended.enrollment
    values = {
        **dict.fromkeys(_ENDED),
        "state": over.state.value,
        "step_id": over.step_id,
        "data": enrollments.data_of(over),
        "end_reason": reason,
        "moved_at": tx.now,
        "ended_at": tx.now,
        "rev": over.rev,
        "trace_count": over.trace_count,
    }
    await tx.run(update(table).where(table.c.id == before.id).values(values))
    await _write_trace(tx, [(row, ended.trace[0])])
    waiting = before.waiting
    if waiting is not None and waiting.kind == "approval":
        await approvals.cancel(tx, [(tx.org_id, waiting.subject)])
    if waiting is not None and waiting.kind == "task":
        await tasks.cancel(tx, [(tx.org_id, waiting.subject)])
    await statistics.count(tx, [ended])
    await deliveries.emit(tx, [_exited(tx, over)])
    stood = packed(table, {name: row._mapping[name] for name in _ENDED})
    return [*moves, Move("ended", "", "enrollments", {"id": before.id}, stood, {"state": over.state.value})]


def _exited(tx: Transaction, over: Enrollment) -> Emission:
    data = {
        "enrollment_id": over.id,
        "workflow_id": over.workflow_id,
        "version": over.version,
        "contact_id": over.contact_id,
        "key": over.key,
        "step_id": over.step_id,
        "reason": over.end_reason,
    }
    message = names.derive("msg", tx.now, over.id, over.rev, "exited")
    return Emission(over.org_id, Emit(message, "enrollment.exited", data), over.id)


async def _asked(tx: Transaction, row: Row[Any]) -> list[Move]:
    """Return how what an enrollment asked for stands, so that it can be asked for again."""
    asked: Mapping[str, Table] = {"approval": approval_table, "task": agent_tasks}
    where = asked.get(row.wait_kind or "")
    if where is None:
        return []
    there = await tx.first(select(where).where(where.c.id == row.wait_subject).with_for_update())
    if there is None or there.state not in ("pending", "open", "claimed"):
        return []
    changing = _OF_APPROVAL if where is approval_table else _OF_TASK
    before = packed(where, {name: there._mapping[name] for name in changing})
    return [Move("update", "", where.name, {"id": there.id}, before, {"state": "cancelled"})]


async def give_back(tx: Transaction, move: Move, merge_id: str) -> bool:
    """Let an enrollment be the merged contact's again; tell whether it was still where the merge had put it."""
    row = await tx.first(select(table).where(table.c.id == move.key["id"]).with_for_update())
    before, after = move.before["contact_id"], move.after["contact_id"]
    if row is None or row.contact_id != after:
        return False
    await _give(tx, [row], after, before, f"The merge {merge_id} was taken back; this is {before}'s again.")
    return True


async def revive(tx: Transaction, move: Move, merge_id: str) -> bool:
    """Let an enrollment that the merge had ended stand as it stood; tell whether nothing happened to it since."""
    row = await tx.first(select(table).where(table.c.id == move.key["id"]).with_for_update())
    if row is None or row.state != move.after["state"]:
        return False
    over = to_domain(row)
    reason = f"The merge {merge_id} was taken back; this goes on where it stood."
    values = {**unpacked(table, move.before), "rev": row.rev + 1, "trace_count": row.trace_count + 1}
    await tx.run(update(table).where(table.c.id == row.id).values(values))
    again = await enrollments.get(tx, row.id)
    assert again is not None
    entry = TraceEntry(again.trace_count, again.step_id, "enrollment", "entered", tx.now, reason=reason)
    await _write_trace(tx, [(row, entry)])
    await statistics.count(tx, [Transition(again, (entry,), (), before=over)])
    tx.wake("engine")
    return True


async def _write_trace(tx: Transaction, entries: Iterable[tuple[Row[Any], TraceEntry]]) -> None:
    rows = [
        (
            tx.org_id, row.id, entry.seq, day_of(entry.at), row.bucket, entry.at, entry.step_id, entry.kind,
            entry.outcome, entry.exit, entry.reason, entry.inputs, entry.effects,
        )
        for row, entry in entries
    ]  # fmt: skip
    await tx.bulk_insert(trace_entries, _TRACE, rows)
