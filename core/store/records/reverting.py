"""Histories of records, and what is written when changes are taken back; the rules are in the domain."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Row, and_, func, select, update

from core.domain import names
from core.domain.errors import EmailTaken
from core.domain.frozen import frozen
from core.domain.records.reverting import DELETED, Past, Way
from core.domain.records.reverting import plan as way_of
from core.store.erasing import erasures
from core.store.records import (
    causes,
    deleting,
    identifiers,
    pipelines,
    record_events,
    record_schema,
    unique_values,
    unsubscribed_field,
)
from core.store.records.record_rows import Draft, Record, Written, record_changes, records, save, to_record
from core.store.records.record_schema import Patch
from core.store.transaction import Transaction

MOST_RECORDS = 2_000
"""Of one call."""
_AT_ONCE = 200
_INDEX_BITS = 48


@dataclass(slots=True)
class Reverting:
    """How one record gets rid of changes."""

    record: Record
    """As it is now; it is held."""
    row: Row[Any]
    way: Way
    history: Sequence[Past] = field(default_factory=list)

    @property
    def taken_back(self) -> list[Past]:
        """Return the changes that go."""
        ids = {one for taken in self.way.taken_back.values() for one in taken}
        return [one for one in self.history if one.id in ids]


@frozen
class Named:
    """What is to be taken back: single changes, or everything of a cause."""

    change_ids: frozenset[str] = frozenset()
    cause: str = ""

    def has(self, row: Row[Any]) -> bool:
        """Tell whether a change is among it."""
        return row.id in self.change_ids or (bool(self.cause) and causes.is_of(row.cause, self.cause))


async def records_of(tx: Transaction, named: Named) -> list[str]:
    """Return the records with changes that are to be taken back and were not: one more than fit into one call."""
    c = record_changes.c
    where = await _are(tx, named)
    newest = func.max(c.id)
    rows = await tx.all(
        select(c.record_id).where(where).group_by(c.record_id).order_by(newest.desc()).limit(MOST_RECORDS + 1)
    )
    return [row.record_id for row in rows]


async def extent(tx: Transaction, named: Named) -> tuple[int, str]:
    """Return how many changes are to be taken back, and the newest of them: changes are only ever added."""
    c = record_changes.c
    counted = select(func.count().label("number"), func.max(c.id).label("newest"))
    row = await tx.first(counted.where(await _are(tx, named)))
    return (0, "") if row is None else (int(row.number), str(row.newest or ""))


async def _are(tx: Transaction, named: Named) -> ColumnElement[bool]:
    c = record_changes.c
    if named.change_ids:
        return c.id.in_(sorted(named.change_ids))
    return and_(c.reverted_by.is_(None), causes.of(named.cause), await causes.where(tx, named.cause))


async def look(tx: Transaction, named: Named, record_ids: Collection[str]) -> list[Reverting]:
    """Return how each of these records gets rid of the named changes, and hold them, in order of their ids."""
    wanted = sorted(record_ids)
    found: list[Reverting] = []
    for start in range(0, len(wanted), _AT_ONCE):
        some = wanted[start : start + _AT_ONCE]
        rows = await tx.all(select(records).where(records.c.id.in_(some)).order_by(records.c.id).with_for_update())
        past = await _histories(tx, named, some)
        for row in rows:
            told = past.get(row.id, [])
            history = sorted((one for one, _ in told), key=lambda one: one.place)
            ids = {one.id for one, wanted in told if wanted}
            way = way_of(history, ids, row.fields, is_deleted=row.deleted_at is not None)
            found.append(Reverting(to_record(row), row, way, history))
    await _leave_what_cannot_be(tx, found)
    return found


async def _histories(tx: Transaction, named: Named, record_ids: Sequence[str]) -> dict[str, list[tuple[Past, bool]]]:
    """Return all changes of records, and which of them are wanted; values only of the fields that it is about.

    Of other fields it counts that somebody changed them, and a history may be long.
    """
    c = record_changes.c
    where = c.record_id.in_(record_ids)
    about = (c.id, c.record_id, c.field, c.actor, c.cause, c.reverted_by)
    rows = [(row, named.has(row)) for row in await tx.all(select(*about).where(where))]
    fields = {DELETED, *(row.field for row, wanted in rows if wanted)}
    with_values = select(c.id, c.old_value, c.new_value).where(where, c.field.in_(sorted(fields)))
    values = {row.id: (row.old_value, row.new_value) for row in await tx.all(with_values)}
    found: dict[str, list[tuple[Past, bool]]] = {}
    for row, wanted in rows:
        old, new = values.get(row.id, (None, None))
        found.setdefault(row.record_id, []).append((_past(row, old, new), wanted))
    return found


def _past(row: Row[Any], old: Any, new: Any) -> Past:
    place = names.entropy_of(row.id) >> _INDEX_BITS  # revision and number of the change in it
    first = place >> 12 == 1
    return Past(row.id, row.record_id, row.field, old, new, row.actor, place, first, row.reverted_by or "")


async def _leave_what_cannot_be(tx: Transaction, found: Sequence[Reverting]) -> None:
    """Let stay what others have by now, what the fields do not take any more, and what a contact refused."""
    going = [one for one in found if not one.way.does_nothing]
    for one in going:
        if one.way.deleted is False and await erasures.is_erased(tx, one.record.id):
            _leave(one, DELETED, "RECORD_ERASED")
        elif one.way.deleted is False and (owner := await deleting.in_the_way(tx, one.row)):
            _leave(one, DELETED, "VALUE_TAKEN", owner)
    patched = [one for one in going if one.way.patch]
    patches = [Patch(one.record.org_id, one.record.type, dict(one.way.patch), demanding=False) for one in patched]
    for one, fitted in zip(patched, await record_schema.fit(tx, patches), strict=True):
        for path in [path for path in one.way.patch if path not in fitted.fields]:
            _leave(one, path, "DOES_NOT_FIT")
    await _leave_stages(tx, [one for one in patched if one.record.type == pipelines.OPPORTUNITY])
    named = [(one.record, one.way.patch) for one in patched]
    refused = await unsubscribed_field.overridden(tx, named)
    for one in patched:
        by = refused.get((one.record.org_id, one.record.id))
        if by is not None:
            _leave(one, unsubscribed_field.FIELD, "REFUSED_BY_CONTACT", by)
    schema = await record_schema.of(tx)
    given: dict[tuple[str, ...], str] = {}
    for one in patched:
        await _leave_taken(tx, one, schema, given)


async def _leave_stages(tx: Transaction, found: Sequence[Reverting]) -> None:
    staged = [one for one in found if {"pipeline_id", "stage_id"} & one.way.patch.keys()]
    if not staged:
        return
    moves: list[tuple[Mapping[str, Any], Mapping[str, Any], str]] = []
    for one in staged:
        after = {**one.record.fields, **one.way.patch}
        moves.append(({}, {name: after.get(name) for name in ("pipeline_id", "stage_id")}, ""))
    for one, (_, wrong) in zip(staged, await pipelines.place(tx, moves), strict=True):
        for path in ("pipeline_id", "stage_id", "probability", "status") if wrong else ():
            _leave(one, path, "DOES_NOT_FIT")


async def _leave_taken(tx: Transaction, one: Reverting, schema: Any, given: dict[tuple[str, ...], str]) -> None:
    """Let e-mails and unique values stay that another record has, or that this call gives to another."""
    record = one.record
    keys: dict[tuple[str, ...], str] = {}
    if record.type == "contact" and one.way.patch.get("email"):
        change = identifiers.Change(record.org_id, record.id, record.type, {"email": one.way.patch["email"]})
        for key, owner in (await identifiers.taken_emails(tx, [change])).items():
            _leave(one, "email", "VALUE_TAKEN", owner)
            keys[key] = owner
    rows = unique_values.rows_of(schema, record.org_id, record.type, record.id, one.way.patch, dotted=True)
    owners = await unique_values.owners(tx, [row[:4] for row in rows])
    for row in rows:
        owner = given.setdefault(row[:4], record.id)
        holder = owners.get(row[:4], record.id)
        if holder != record.id or owner != record.id:
            _leave(one, f"custom.{row[2]}", "VALUE_TAKEN", holder if holder != record.id else owner)


def _leave(one: Reverting, path: str, reason: str, by: str = "") -> None:
    now = one.record.deleted_at is not None if path == DELETED else one.record.fields.get(path)
    one.way.leave(path, one.history, reason, now, by)
    if path == DELETED:  # and with it whatever else would have come back
        one.way.deleted = None
        for other in list(one.way.patch):
            one.way.leave(other, one.history, reason, one.record.fields.get(other), by)


async def carry_out(tx: Transaction, found: Sequence[Reverting], *, actor: str, cause: str) -> list[Written]:
    """Take changes back as it was found they can be; whose enrollments end are over already.

    Endpoints are told; workflows are not, for they were told when it was first written.

    Raises EmailTaken and ValueTaken for what somebody took meanwhile: the whole is to be asked for again.
    """
    written: dict[str, Written] = {}
    returning = [one.row for one in found if one.way.deleted is False]
    for item in await deleting.bring_back(tx, returning, actor=actor, cause=cause):
        written[item.record.id] = item
    drafts = []
    for one in found:
        if one.way.patch:
            held = written.get(one.record.id)
            draft = Draft(one.record if held is None else held.record)
            draft.patch(one.way.patch, actor, cause)
            drafts.append(draft)
    emails = [
        identifiers.Change(draft.record.org_id, draft.record.id, draft.record.type, draft.record.fields)
        for draft in drafts
        if any(change.field in ("email", "phone") for change, _, _ in draft.history)
    ]
    for owner in (await identifiers.claim_changed(tx, emails)).values():
        raise EmailTaken(owner=owner)  # it was free when this looked
    patched = await save(tx, drafts)
    await record_events.announce(tx, patched, triggers="none")
    await unsubscribed_field.heed(tx, drafts)
    done = [*written.values(), *patched]
    after = {item.record.id: item.record for item in done}
    leaving = [after.get(one.record.id, one.record) for one in found if one.way.deleted]
    gone = await deleting.delete(tx, leaving, actor=actor, cause=cause)
    done += gone
    await _mark(tx, found, done)
    return done


async def _mark(tx: Transaction, found: Sequence[Reverting], done: Sequence[Written]) -> None:
    """Write at each change that was taken back which change did it."""
    by: dict[tuple[str, str], str] = {}
    for item in done:
        for change_id, change in zip(item.change_ids, item.changes, strict=True):
            by.setdefault((item.record.id, change.field), change_id)
    c = record_changes.c
    for one in found:
        marks: dict[str, list[str]] = {}
        for path, taken in one.way.taken_back.items():
            if (one.record.id, path) in by:
                marks.setdefault(by[one.record.id, path], []).extend(taken)
        for reverter, taken in marks.items():
            await tx.run(update(record_changes).where(c.id.in_(taken)).values(reverted_by=reverter))


def conflicts_of(found: Sequence[Reverting]) -> list[Mapping[str, Any]]:
    """Return everything that stays, as the contract's fields."""
    return [
        {
            "change_id": stays.change.id,
            "record_id": one.record.id,
            "field": stays.change.field,
            "reason": stays.reason,
            "current_value": stays.now,
            "changed_by": stays.by,
        }
        for one in found
        for stays in one.way.stays
    ]
