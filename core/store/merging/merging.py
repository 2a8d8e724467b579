"""Carrying a merge out: two records of one type become one, in the transaction that is open.

Locks are taken in one order everywhere: events that wait for the matcher, messages on their way, enrollments, then the
records in order of id. The engine holds an enrollment before its contact's record, and so does a merge; two merges of
one record meet at its row, and the second finds it gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Column, Row, Table, and_, delete, or_, select, update

from core import ids
from core.domain.errors import EtagMismatch, NotFound, TooManyIdentifiers, TooMuchToMerge, invalid
from core.domain.messaging.consent import Answer
from core.domain.records import merging as rules
from core.domain.records.changes import Change
from core.domain.records.identity import MOST_IDENTIFIERS
from core.domain.records.standard import plural
from core.store.events.events import events
from core.store.merging import identity_conflicts, merged_enrollments, merges
from core.store.merging.identity_conflicts import identity_conflicts as conflict_table
from core.store.merging.merges import Move, packed
from core.store.messages.consent import consents
from core.store.messages.outgoing import outgoing_messages
from core.store.messages.suppressions import suppressions
from core.store.records import record_events
from core.store.records.identifiers import record_identifiers
from core.store.records.lists import list_members
from core.store.records.record_rows import Draft, Record, hold, records, save
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments

MOST_FOLLOWING = 20_000
"""Rows that a merge takes along: it and its undoing are one transaction each, which others wait for."""

CAUSE = "merge:"
"""How the cause of a change begins that a merge or its undoing made; workflows are not told of it."""

MERGED_INTO = "merged_into"
"""The field under which a merged record's history tells where it went."""

_FOLLOWING: tuple[tuple[Table, str], ...] = (
    (events, "events"),
    (outgoing_messages, "messages"),
    (suppressions, "suppressions"),
)
"""Tables whose rows follow their contact as they are."""


OWNED: Mapping[str, Sequence[Column[Any]]] = {
    "contact": tuple(
        table.c.contact_id
        for table in (enrollments, events, outgoing_messages, suppressions, list_members, consents, records)
    ),
    "company": (records.c.company_id,),
}
"""Where rows name the record that they belong to, by its type."""


@dataclass(slots=True)
class Joining:
    """A merge on its way."""

    tx: Transaction
    id: str
    kept: Record
    merged: Record
    actor: str
    moves: list[Move] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)

    @property
    def cause(self) -> str:
        """Return the cause of every change it makes."""
        return f"{CAUSE}{self.id}"

    @property
    def counts(self) -> dict[str, int]:
        """Return how many rows moved, by kind."""
        return dict(Counter(move.kind for move in self.moves if move.kind))


async def merge(
    tx: Transaction,
    kept_id: str,
    merged_id: str,
    *,
    actor: str,
    cause: str,
    etags: tuple[str, str] = ("", ""),
) -> Row[Any]:
    """Let one record go into another of its type and return the merge; workflows are told nothing.

    `etags` are those at which the two are expected, empty for any. Raises Invalid, NotFound, RecordMerged for a record
    that is part of another one already, EtagMismatch, TooManyIdentifiers, and TooMuchToMerge.
    """
    if kept_id == merged_id:
        raise invalid("merged_id", "SAME_RECORD", "is the record that stays", "Name two records.")
    if await is_too_much(tx, merged_id):
        raise TooMuchToMerge(id=merged_id, limit=MOST_FOLLOWING)
    await lock_work(tx, kept_id, merged_id)
    kept, merged = await _hold_both(tx, kept_id, merged_id)
    for record, expected in zip((kept, merged), etags, strict=True):
        if expected and record.etag != expected:
            raise EtagMismatch(kind=record.type, id=record.id, current=record.etag, given=expected)
    joining = Joining(tx, ids.mint("mrg", tx.now), kept, merged, actor)
    filling = rules.fill(kept.type, kept.fields, merged.fields)
    _note_fields(joining, Draft(kept), filling.patch)
    await _take_identifiers(joining)
    await WAYS.get(kept.type, alone)(joining)
    await _go(joining)
    written = await save(tx, joining.drafts)
    await _conflicts(joining)
    row = {
        "id": joining.id,
        "record_type": kept.type,
        "kept_id": kept_id,
        "merged_id": merged_id,
        "actor": actor,
        "cause": cause,
        "filled_fields": list(filling.filled),
        "differing_fields": list(filling.differing),
        "moved_counts": joining.counts,
    }
    await merges.keep(tx, row, joining.moves)
    await record_events.tell_endpoints(tx, [item for item in written if item.record.id != merged_id])
    found = await merges.get(tx, joining.id)
    assert found is not None
    return found


async def is_too_much(tx: Transaction, merged_id: str) -> bool:
    """Tell whether more belongs to a record than one merge takes along; looked at before anything is held."""
    left = MOST_FOLLOWING
    for column in (one for columns in OWNED.values() for one in columns):
        here = f"{column.table.name} WHERE org_id = $1 AND {column.name} = $2"
        counting = f"SELECT count(*) FROM (SELECT 1 FROM {here} LIMIT $3) AS found"  # noqa: S608 -- names are ours
        left -= (await tx.fetch(counting, tx.org_id, merged_id, left + 1))[0][0]
        if left < 0:
            return True
    return False


async def lock_work(tx: Transaction, *contact_ids: str) -> None:
    """Hold what loops work on for these contacts, in the order in which loops hold it."""
    e, m = events.c, outgoing_messages.c
    await tx.all(
        select(e.id).where(e.contact_id.in_(contact_ids), e.match_due_at.is_not(None)).order_by(e.id).with_for_update()
    )
    await tx.all(
        select(m.id)
        .where(m.contact_id.in_(contact_ids), m.state.in_(("pending", "sending")))
        .order_by(m.id)
        .with_for_update()
    )
    await merged_enrollments.held(tx, contact_ids)


async def _hold_both(tx: Transaction, kept_id: str, merged_id: str) -> tuple[Record, Record]:
    held = await hold(tx, [(tx.org_id, kept_id), (tx.org_id, merged_id)])
    for record_id in (kept_id, merged_id):
        if (tx.org_id, record_id) not in held:
            raise await merges.kept_by(tx, record_id) or NotFound(kind="record", id=record_id)
    kept, merged = held[tx.org_id, kept_id], held[tx.org_id, merged_id]
    if kept.type != merged.type:
        message = f"is a {merged.type}, and {kept_id} is a {kept.type}"
        raise invalid("merged_id", "OTHER_TYPE", message, "Merge two records of one type.")
    return kept, merged


def _note_fields(joining: Joining, draft: Draft, patch: Mapping[str, Any], kind: str = "") -> None:
    """Set fields of a record, with its history, and remember what they were."""
    changes = draft.patch(patch, joining.actor, joining.cause)
    for number, change in enumerate(changes):
        key = {"id": draft.record.id, "field": change.field}
        counted = kind if not number else ""
        joining.moves.append(Move("field", counted, "records", key, {"value": change.old}, {"value": change.new}))
    joining.drafts.append(draft)


async def _take_identifiers(joining: Joining) -> None:
    tx, c = joining.tx, record_identifiers.c
    owned = await tx.all(select(c.record_id).where(c.record_id.in_((joining.kept.id, joining.merged.id))))
    if len(owned) > MOST_IDENTIFIERS:
        raise TooManyIdentifiers(id=joining.kept.id, count=len(owned), limit=MOST_IDENTIFIERS)
    await _repoint(joining, record_identifiers, "identifiers", "record_id")


async def _repoint(joining: Joining, table: Table, kind: str, column: str, *conditions: Any) -> None:
    """Give the merged record's rows of a table to the kept one."""
    tx = joining.tx
    key = [one for one in table.primary_key.columns if one.name != "org_id"]
    where = and_(table.c[column] == joining.merged.id, *conditions)
    found = await tx.all(select(*key).where(where).order_by(*key).with_for_update())
    if not found:
        return
    await tx.run(update(table).where(where).values({column: joining.kept.id}))
    before, after = {column: joining.merged.id}, {column: joining.kept.id}
    for row in found:
        joining.moves.append(Move("update", kind, table.name, packed(table, row._asdict()), before, after))


async def _contact(joining: Joining) -> None:
    """Let everything that is a contact's follow."""
    await _follow_fields(joining, "contact_id", records.c.contact_id)
    for table, kind in _FOLLOWING:
        await _repoint(joining, table, kind, "contact_id")
    await _lists(joining)
    await _consents(joining)
    joining.moves += await merged_enrollments.take(
        joining.tx, joining.kept.id, joining.merged.id, merge_id=joining.id, actor=joining.actor
    )


async def _company(joining: Joining) -> None:
    """Let the company's contacts follow."""
    await _follow_fields(joining, "company_id", records.c.company_id)


async def alone(joining: Joining) -> None:
    """Do nothing more: leads and the like have fields and identifiers alone."""


WAYS = {"contact": _contact, "company": _company}
"""What follows a record into another one, by its type; into others nothing does."""


async def _follow_fields(joining: Joining, path: str, column: Any) -> None:
    """Let records that name the merged one in a field name the kept one."""
    tx = joining.tx
    wanted = await tx.all(select(records.c.id).where(column == joining.merged.id, records.c.deleted_at.is_(None)))
    held = await hold(tx, [(tx.org_id, row.id) for row in wanted])
    for _, record in sorted(held.items()):
        if record.fields.get(path) == joining.merged.id:
            _note_fields(joining, Draft(record), {path: joining.kept.id}, plural(record.type))


async def _lists(joining: Joining) -> None:
    """Put the kept contact on the merged one's lists; where it is on one already, the merged one's place ends."""
    tx, c = joining.tx, list_members.c
    on = await tx.all(
        select(list_members)
        .where(c.contact_id.in_((joining.kept.id, joining.merged.id)))
        .order_by(c.list_name, c.contact_id)
        .with_for_update()
    )
    there = {row.list_name for row in on if row.contact_id == joining.kept.id}
    for row in on:
        if row.contact_id != joining.merged.id:
            continue
        place = and_(c.list_name == row.list_name, c.contact_id == joining.merged.id)
        key = {"list_name": row.list_name, "contact_id": joining.merged.id}
        if row.list_name in there:
            await tx.run(delete(list_members).where(place))
            joining.moves.append(Move("delete", "", "list_members", key, packed(list_members, row._asdict())))
        else:
            await tx.run(update(list_members).where(place).values(contact_id=joining.kept.id))
            after = {"contact_id": joining.kept.id}
            joining.moves.append(Move("update", "lists", "list_members", key, {"contact_id": joining.merged.id}, after))


async def _consents(joining: Joining) -> None:
    """Let the stricter of two answers hold."""
    tx, c = joining.tx, consents.c
    both = (joining.kept.id, joining.merged.id)
    rows = await tx.all(
        select(consents).where(c.contact_id.in_(both)).order_by(c.contact_id, c.channel, c.purpose).with_for_update()
    )
    answers: dict[str, list[Answer]] = {record_id: [] for record_id in both}
    for row in rows:
        answers[row.contact_id].append(Answer(row.channel, row.purpose, row.granted, row.updated_at, row.actor))
    found = rules.stricter(answers[joining.kept.id], answers[joining.merged.id])
    for one in found.moving:
        moved = {"contact_id": joining.kept.id, "granted": one.granted, "updated_at": one.at}
        await _change_consent(joining, joining.merged.id, one, rows, moved)
    for one in found.restated:
        restated = {"contact_id": joining.kept.id, "updated_at": tx.now}
        await _change_consent(joining, joining.merged.id, one, rows, restated)
    for one in found.refusing:
        refused = {"granted": False, "updated_at": tx.now, "actor": joining.cause, "reason": "Refused before a merge."}
        await _change_consent(joining, joining.kept.id, one, rows, refused)


async def _change_consent(
    joining: Joining, contact_id: str, answer: Answer, rows: Sequence[Row[Any]], values: Mapping[str, Any]
) -> None:
    c = consents.c
    place = (contact_id, answer.channel, answer.purpose)
    (row,) = [one for one in rows if (one.contact_id, one.channel, one.purpose) == place]
    which = and_(c.contact_id == contact_id, c.channel == answer.channel, c.purpose == answer.purpose)
    await joining.tx.run(update(consents).where(which).values(values))
    key = dict(zip(("contact_id", "channel", "purpose"), place, strict=True))
    # All of an answer that goes to the other contact, so that it can be given back even if that one answers anew.
    kept = (*values, "granted", "actor", "reason", "updated_at") if "contact_id" in values else tuple(values)
    before = {name: row._mapping[name] for name in kept}
    joining.moves.append(
        Move("update", "consents", "consents", key, packed(consents, before), packed(consents, values))
    )


async def _go(joining: Joining) -> None:
    """Take the merged record out of sight; its fields stay as they were."""
    draft = Draft(joining.merged)
    draft.history.append((Change(MERGED_INTO, None, joining.kept.id), joining.actor, joining.cause))
    joining.drafts.append(draft)
    which = records.c.id == joining.merged.id
    await joining.tx.run(update(records).where(which).values(deleted_at=joining.tx.now))


async def _conflicts(joining: Joining) -> None:
    """Settle what the two conflicted about, and let the merged one's other conflicts be the kept one's."""
    tx, kept, merged = joining.tx, joining.kept.id, joining.merged.id
    await identity_conflicts.join(tx, kept, merged, joining.actor, joining.id)
    c = conflict_table.c
    told = await tx.all(
        select(c.chosen_id, c.other_id, c.kind, c.value).where(or_(c.chosen_id == kept, c.other_id == kept))
    )
    there = {tuple(row) for row in told}
    for row in await identity_conflicts.open_of(tx, merged):
        side = "chosen_id" if row.chosen_id == merged else "other_id"
        ends = {"chosen_id": row.chosen_id, "other_id": row.other_id, side: kept}
        identity = (ends["chosen_id"], ends["other_id"], row.kind, row.value)
        if identity in there:
            continue
        there.add(identity)
        await tx.run(update(conflict_table).where(c.id == row.id).values({side: kept}))
        joining.moves.append(Move("update", "", conflict_table.name, {"id": row.id}, {side: merged}, {side: kept}))
