"""Taking a merge back: everything that moved returns to where it was, but for what has changed since, which is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, and_, select, update

from core.domain.errors import NotFound, WrongState
from core.domain.records import merging as rules
from core.domain.records.changes import Change, value_at
from core.store.merging import identity_conflicts, merged_enrollments, merges
from core.store.merging.merges import Move, unpacked
from core.store.merging.merging import CAUSE, MERGED_INTO, lock_work
from core.store.messages.consent import consents
from core.store.metadata import dump_json, metadata
from core.store.records import identifiers, record_events, unique_values
from core.store.records.record_rows import Draft, Record, hold, records, save, to_record
from core.store.transaction import Transaction

_AT_ONCE = 500
_TOLD_ONE_BY_ONE = 10
"""Lost rows of a table that are told one by one: of a merge's events thousands may be no longer kept."""


@dataclass(slots=True)
class _Parting:
    """An undoing on its way."""

    tx: Transaction
    row: Row[Any]
    actor: str
    held: Mapping[str, Record]
    drafts: dict[str, Draft] = field(default_factory=dict)
    conflicts: list[str] = field(default_factory=list)
    losses: list[Move] = field(default_factory=list)
    """What moved and is no longer where the merge put it."""

    @property
    def cause(self) -> str:
        return f"{CAUSE}{self.row.id}"

    def told(self) -> list[str]:
        """Return a sentence for everything that cannot be taken back; many things of a kind have one together."""
        sentences = list(self.conflicts)
        for place, alike in groupby(sorted(self.losses, key=lambda move: move.place), key=lambda move: move.place):
            lost = list(alike)
            if len(lost) > _TOLD_ONE_BY_ONE:
                sentences.append(rules.told_many_lost(lost[0].kind or place, len(lost), self.row.merged_id))
            else:
                sentences += [rules.told_lost(move.told, self.row.merged_id) for move in lost]
        return sorted(sentences)


async def undo(tx: Transaction, merge_id: str, *, actor: str) -> Row[Any]:
    """Take a merge back and return it, with what could not be taken back; workflows are told nothing.

    Raises NotFound, WrongState for one that was taken back already, and RecordMerged where the kept record has gone
    into another one since: that merge comes first.
    """
    row = await merges.get(tx, merge_id)
    if row is None:
        raise NotFound(kind="merge", id=merge_id)
    await lock_work(tx, row.kept_id, row.merged_id)
    moves = await merges.moves_of(tx, merge_id)
    named = [move.key["id"] for move in moves if move.action == "field"]
    found = await hold(tx, [(tx.org_id, record_id) for record_id in {row.kept_id, *named}])
    row = await merges.get(tx, merge_id, lock=True)  # whoever merges or undoes holds the kept record before
    assert row is not None
    if row.undone_at is not None:
        raise WrongState(kind="merge", id=merge_id, state="taken back", action="an undo")
    if (tx.org_id, row.kept_id) not in found:
        raise await merges.kept_by(tx, row.kept_id) or NotFound(kind="record", id=row.kept_id)
    parting = _Parting(tx, row, actor, {key[1]: record for key, record in found.items()})
    await _bring_back(parting)
    for action, some in groupby(reversed(moves), key=lambda move: move.action):
        await _ACTIONS[action](parting, list(some))
    await _claim_own(parting)
    written = await save(tx, parting.drafts.values())
    await identity_conflicts.reopen(tx, merge_id)
    await merges.mark_undone(tx, merge_id, actor, parting.told())
    await record_events.tell_endpoints(tx, [item for item in written if item.record.id != row.merged_id])
    done = await merges.get(tx, merge_id)
    assert done is not None
    return done


async def _bring_back(parting: _Parting) -> None:
    """Bring the merged record back into sight, at a version of its own."""
    tx, which = parting.tx, records.c.id == parting.row.merged_id
    there = await tx.first(select(records).where(which).with_for_update())
    if there is None:
        raise NotFound(kind="record", id=parting.row.merged_id)
    await tx.run(update(records).where(which).values(deleted_at=None))
    draft = Draft(to_record(there))
    draft.history.append((Change(MERGED_INTO, parting.row.kept_id, None), parting.actor, parting.cause))
    parting.drafts[there.id] = draft


async def _fields(parting: _Parting, moves: Sequence[Move]) -> None:
    """Give fields back that still are what the merge made them."""
    for move in moves:
        record_id, path = move.key["id"], move.key["field"]
        record = parting.held.get(record_id)
        if record is None:
            parting.losses.append(move)
            continue
        draft = parting.drafts.setdefault(record_id, Draft(record))
        now = value_at(draft.record.fields, path)
        if dump_json(now) != dump_json(move.after["value"]):
            parting.conflicts.append(rules.told_changed(record_id, path, now))
            continue
        draft.patch({path: move.before["value"]}, parting.actor, parting.cause)


async def _updates(parting: _Parting, moves: Sequence[Move]) -> None:
    """Give rows back that still are what the merge made them."""
    many = sorted((move for move in moves if "id" in move.key), key=_likeness)
    for _, alike in groupby(many, key=_likeness):
        some = list(alike)
        for start in range(0, len(some), _AT_ONCE):
            await _update_alike(parting, some[start : start + _AT_ONCE])
    for move in moves:
        if "id" not in move.key:
            await _update_one(parting, move)


def _likeness(move: Move) -> str:
    return dump_json([move.place, move.before, move.after])


async def _update_alike(parting: _Parting, moves: Sequence[Move]) -> None:
    """Give rows back that are told apart by their ids alone, in one statement."""
    table = metadata.tables[moves[0].place]
    which = [table.c[name].in_(sorted({move.key[name] for move in moves})) for name in moves[0].key]
    await _update(parting, table, moves, and_(*which), lambda row: row.id)


async def _update_one(parting: _Parting, move: Move) -> None:
    table = metadata.tables[move.place]
    key = {**move.key, **{name: value for name, value in move.after.items() if name in move.key}}
    which = and_(*(table.c[name] == value for name, value in key.items()))
    if table is consents and "contact_id" in move.after and not await _unchanged(parting, table, move, which):
        await _answer_apart(parting, move, which)
    else:
        await _update(parting, table, [move], which, lambda _: move.key.get("id"))


async def _unchanged(parting: _Parting, table: Table, move: Move, which: ColumnElement[bool]) -> bool:
    after = (table.c[name] == value for name, value in unpacked(table, move.after).items())
    return await parting.tx.first(select(table.c.org_id).where(which, *after).with_for_update()) is not None


async def _answer_apart(parting: _Parting, move: Move, which: ColumnElement[bool]) -> None:
    """Leave an answer that was given anew where it is, and give its first owner the stricter of it and their own."""
    now = await parting.tx.first(select(consents).where(which))
    answer = {**unpacked(consents, move.key), **unpacked(consents, move.before)}
    if now is not None and not now.granted:
        answer |= {"granted": False, "actor": now.actor, "reason": now.reason, "updated_at": now.updated_at}
    await parting.tx.insert(consents, [answer], on_conflict="ignore")
    parting.conflicts.append(rules.told_answer(move.told, parting.row.kept_id, parting.row.merged_id))


async def _update(
    parting: _Parting,
    table: Table,
    moves: Sequence[Move],
    which: ColumnElement[bool],
    of: Callable[[Row[Any]], object],
) -> None:
    before, after = (unpacked(table, values) for values in (moves[0].before, moves[0].after))
    unchanged = and_(*(table.c[name] == value for name, value in after.items()))
    statement = update(table).where(which, unchanged).values(before).returning(*table.primary_key.columns)
    back = {of(row) for row in await parting.tx.all(statement)}
    for move in moves:
        if move.key.get("id") not in back:
            parting.losses.append(move)


async def _deleted(parting: _Parting, moves: Sequence[Move]) -> None:
    """Write rows again that the merge had deleted."""
    for move in moves:
        table = metadata.tables[move.place]
        await parting.tx.insert(table, [unpacked(table, move.before)], on_conflict="ignore")


async def _each(
    parting: _Parting, moves: Iterable[Move], how: Callable[[Transaction, Move, str], Awaitable[bool]]
) -> None:
    for move in moves:
        if not await how(parting.tx, move, parting.row.id):
            parting.losses.append(move)


async def _moved(parting: _Parting, moves: Sequence[Move]) -> None:
    await _each(parting, moves, merged_enrollments.give_back)


async def _ended(parting: _Parting, moves: Sequence[Move]) -> None:
    await _each(parting, moves, merged_enrollments.revive)


_ACTIONS: Mapping[str, Callable[[_Parting, Sequence[Move]], Awaitable[None]]] = {
    "field": _fields,
    "update": _updates,
    "delete": _deleted,
    "moved": _moved,
    "ended": _ended,
}


async def _claim_own(parting: _Parting) -> None:
    """Let the merged record be found by its own e-mail and phone again, where nobody else has them by now."""
    record = parting.drafts[parting.row.merged_id].record
    change = identifiers.Change(parting.tx.org_id, record.id, record.type, record.fields)
    taken = await identifiers.claim_changed(parting.tx, [change])
    for owner in taken.values():
        parting.conflicts.append(f"The e-mail of {record.id} is {owner}'s by now: it finds {owner}.")
    for path, owner in (await unique_values.give_back(parting.tx, record, parting.row.kept_id)).items():
        parting.drafts[record.id].patch({path: None}, parting.actor, parting.cause)
        parting.conflicts.append(f"{path} of {record.id} is unique, and {owner} has its value by now: it is removed.")
