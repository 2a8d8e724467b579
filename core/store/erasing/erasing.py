"""Erasing a person: what is theirs loses what it says, in one transaction; enrollments have ended before."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Row, and_, or_, select, text, update

from core import ids
from core.domain import names
from core.domain.effects import Emit
from core.domain.records import identity, words
from core.domain.records.changes import Change
from core.domain.records.identity import Identifier
from core.store.erasing import erasing_search, erasures
from core.store.erasing.erased_people import CHANNELS, channel_of
from core.store.erasing.erasing_places import PLACES, Link, Place
from core.store.filtering import JsonPath, json_text
from core.store.merging import merges
from core.store.merging.merges import merges as merge_table
from core.store.messages import suppressions
from core.store.messages.outgoing import outgoing_messages
from core.store.metadata import metadata
from core.store.records import identifiers, record_search
from core.store.records.record_rows import Draft, record_changes, records, save, to_record
from core.store.transaction import Transaction
from core.store.webhooks import deliveries as telling
from core.store.webhooks.deliveries import Emission
from core.store.webhooks.delivery_tables import deliveries
from core.store.webhooks.endpoints import endpoints
from core.store.workflows.enrollments import enrollments

_AT_ONCE = 500
"""Ids in one statement."""

_WAITING = text("state = 'pending' AND contact_id <> ''")
"""As in the index by contact."""

_HANGS = ("lead", "activity", "note", "task")
"""Types of records that are the person's own where they name the person."""

_OF_LEADS = ("activity", "note", "task")
"""Types of records that are the person's own where they name nobody, but a lead of theirs."""


@dataclass(slots=True)
class Person:
    """Everything that is known of somebody who is erased, for as long as that takes."""

    ids: dict[Link, list[str]]
    """What is theirs, by kind."""
    known: set[tuple[str, str]] = field(default_factory=set)
    """Addresses, as `(channel, address)`, and ids that name nobody else."""
    words: set[str] = field(default_factory=set)
    """Texts that are theirs alone: addresses and numbers, as they were written."""
    names: set[str] = field(default_factory=set)
    """How they are called; others may be called so, too."""
    named_in: list[str] = field(default_factory=list)
    """Records that name the person and are not theirs, such as opportunities."""
    counts: dict[str, int] = field(default_factory=dict)


async def erase(tx: Transaction, contact_id: str, *, reason: str, actor: str) -> str:
    """Erase a contact whose enrollments have ended, with everything that went into them; return the erasure's id."""
    erasure_id = ids.mint("era", tx.now)
    person = await _learn(tx, contact_id)
    await _stop_messages(tx, person)
    await _bury(tx, person, erasure_id, actor)
    for place in PLACES:
        await _blank(tx, place, person)
    await suppressions.forget_person(tx, contact_id, sorted(person.known), actor=actor)
    for other in person.ids["contact"]:
        await suppressions.forget_person(tx, other, [], actor=actor)
    row = {
        "id": erasure_id,
        "record_id": contact_id,
        "reason": reason,
        "actor": actor,
        "record_count": len(person.ids["record"]),
        "event_count": person.counts.get("events", 0),
        "message_count": person.counts.get("outgoing_messages", 0),
        "search": erasing_search.begin(person.words, person.names, person.ids["record"], erasure_id, actor),
    }
    await erasures.add(tx, row)
    told = {"record_id": contact_id, "erasure_id": erasure_id, "actor": actor}
    event = Emit(names.derive("msg", tx.now, erasure_id), erasing_search.TOLD, told)
    await telling.emit(tx, [Emission(tx.org_id, event)])
    return erasure_id


async def _learn(tx: Transaction, contact_id: str) -> Person:
    """Find out what is the person's own, and by what they are mentioned elsewhere."""
    contacts = await merges.parts_of(tx, contact_id)
    c = records.c
    rows = list(await tx.all(select(records).where(c.id.in_(contacts))))
    hang = await tx.all(select(c.id, c.type).where(c.contact_id.in_(contacts)))
    own = [*contacts, *(row.id for row in hang if row.type in _HANGS)]
    own += await _of_leads(tx, [row.id for row in hang if row.type == "lead"])
    person = Person({"contact": contacts, "record": own})
    person.named_in = [row.id for row in hang if row.type not in _HANGS]
    e = enrollments.c
    person.ids["enrollment"] = await _ids(tx, select(e.id).where(e.contact_id.in_(contacts)))
    d = deliveries.c
    # What belongs to no enrollment has an empty id there, so that one is never asked for. Of what goes to endpoints in
    # order only what waits is, for it must not be sent: what was sent is found by its payload.
    waiting = and_(d.endpoint_id.in_(await _ids(tx, select(endpoints.c.id))), d.contact_id.in_(contacts), _WAITING)
    which = [waiting, *(d.enrollment_id.in_(some) for some in _portions(person.ids["enrollment"]))]
    theirs = {row.id: row.message_id for one in which for row in await tx.all(select(d.id, d.message_id).where(one))}
    person.ids["delivery"], person.ids["message"] = sorted(theirs), sorted(set(theirs.values()))
    m = merge_table.c
    person.ids["merge"] = await _ids(tx, select(m.id).where(or_(m.kept_id.in_(contacts), m.merged_id.in_(contacts))))
    await _addresses(tx, person, rows)
    return person


async def _of_leads(tx: Transaction, leads: Sequence[str]) -> list[str]:
    """Return what is about leads and names no contact: a lead's people are told by the lead."""
    c = records.c
    lead = json_text(JsonPath(c.fields, ("lead_id",)), tx.dialect)
    found: list[str] = []
    for some in _portions(leads):
        found += await _ids(tx, select(c.id).where(c.type.in_(_OF_LEADS), c.contact_id.is_(None), lead.in_(some)))
    return found


async def _ids(tx: Transaction, statement: Any) -> list[str]:
    return [row.id for row in await tx.all(statement)]


async def _addresses(tx: Transaction, person: Person, rows: Sequence[Row[Any]]) -> None:
    """Collect every address that the person has or had, and their names."""
    contacts = person.ids["contact"]
    told: list[tuple[str, Any]] = [(name, row.fields.get(name)) for row in rows for name in ("email", "phone")]
    for found in (await identifiers.of_records(tx, contacts)).values():
        told += [(kind, value) for kind, value in found if kind in CHANNELS]
        ids_told = {(channel_of(kind), value) for kind, value in found if kind not in CHANNELS}
        person.known |= {one for one in ids_told if one[0]}
    c = record_changes.c
    earlier = await tx.all(
        select(c.field, c.old_value, c.new_value).where(
            c.record_id.in_(contacts), c.field.in_(("email", "phone", "first_name", "last_name"))
        )
    )
    told += [(row.field, value) for row in earlier for value in (row.old_value, row.new_value)]
    o = outgoing_messages.c
    sent = await tx.all(select(o.channel, o.recipient).where(o.contact_id.in_(contacts), o.recipient != "").distinct())
    kinds = {channel: kind for kind, channel in CHANNELS.items()}
    addresses_told = {(kind, value) for kind, value in told if kind in CHANNELS and isinstance(value, str) and value}
    addresses_told |= {(kinds.get(row.channel, row.channel), row.recipient) for row in sent}
    others = await _of_others(tx, addresses_told, frozenset(person.ids["record"]))
    for kind, value in addresses_told:
        normal = _normal(kind, value)
        if normal not in others:
            person.words |= {value, normal[1]}
            person.known.add((CHANNELS.get(kind, kind), value))
    firsts, lasts = (
        {row.fields.get(name) for row in rows}
        | {value for row in earlier if row.field == name for value in (row.old_value, row.new_value)}
        for name in ("first_name", "last_name")
    )
    person.names = {f"{first} {last}" for first in firsts if first for last in lasts if last}


def _normal(kind: str, value: str) -> Identifier:
    found = identity.normalise(kind, value) if kind in CHANNELS else None
    return found or (kind, value.strip())


async def _of_others(tx: Transaction, told: Iterable[tuple[str, str]], own: Collection[str]) -> set[Identifier]:
    """Return which addresses somebody else has too, such as a switchboard's number or a mailbox that was handed on.

    They are no longer, or not alone, the person's: they stay where they are, and can be written to.
    """
    wanted = {_normal(kind, value) for kind, value in told if kind in CHANNELS}
    asked = sorted({one.text for _, value in wanted for one in words.asked(value)[:1]})
    w, c = record_search.record_words.c, records.c
    found: set[Identifier] = set()
    for some in _portions(asked):
        having = select(w.record_id.label("id")).where(w.word.in_(some), w.field.in_(tuple(CHANNELS))).distinct()
        ids_of_others = [one for one in await _ids(tx, having) if one not in own]
        for part in _portions(ids_of_others):
            for row in await tx.all(select(c.fields).where(c.id.in_(part), c.deleted_at.is_(None))):
                has = ((kind, row.fields.get(kind)) for kind in CHANNELS)
                found |= {_normal(kind, value) for kind, value in has if isinstance(value, str)} & wanted
    return found


async def _stop_messages(tx: Transaction, person: Person) -> None:
    """Let nothing be sent any more that is on its way to the person, or tells of them."""
    o, d = outgoing_messages.c, deliveries.c
    waiting = and_(o.contact_id.in_(person.ids["contact"]), o.state.in_(("pending", "sending")))
    ended = {"state": "skipped", "outcome": "erased", "due_at": None, "lease_token": None, "ended_at": tx.now}
    await tx.run(update(outgoing_messages).where(waiting).values(ended))
    dropped = {"state": "dropped", "last_outcome": "erased", "awaited": False, "due_at": None} | {
        "lease_until": None,
        "lease_token": None,
        "ended_at": tx.now,
    }
    for some in _portions(person.ids["delivery"]):
        await tx.run(update(deliveries).where(d.id.in_(some), d.state == "pending").values(dropped))


async def _blank(tx: Transaction, place: Place, person: Person) -> None:
    """Take out what the person's own rows of a table say."""
    table = metadata.tables.get(place.table)
    if table is None:
        return
    which = [table.c[name] == value for name, value in place.only.items()]
    for name, other in place.before.items():
        which.append(table.c[name].in_(await _ids(tx, select(metadata.tables[other].c.id))))
    for column, link in place.links.items():
        for some in _portions(person.ids.get(link, [])):
            touched = await erasing_search.blank(tx, table, place, and_(*which, table.c[column].in_(some)))
            person.counts[place.table] = person.counts.get(place.table, 0) + touched


async def _bury(tx: Transaction, person: Person, erasure_id: str, actor: str) -> None:
    """Leave a tombstone of each of the person's records; what only names them forgets the name."""
    c, cause = records.c, f"erasure:{erasure_id}"
    drafts = []
    for some in _portions(person.ids["record"]):
        for row in await tx.all(select(records).where(c.id.in_(some)).order_by(c.id).with_for_update()):
            draft = Draft(to_record(row))
            draft.patch(dict.fromkeys(row.fields), actor, cause)
            if row.deleted_at is None:
                draft.history.append((Change("deleted", None, True), actor, cause))
            draft.history.append((Change("erased", None, erasure_id), actor, cause))
            drafts.append(draft)
    for row in await tx.all(select(records).where(c.id.in_(person.named_in)).order_by(c.id).with_for_update()):
        draft = Draft(to_record(row))
        draft.patch({"contact_id": None}, actor, cause)
        drafts.append(draft)
    await save(tx, drafts)
    for some in _portions(person.ids["record"]):
        gone = {"deleted_at": tx.now, "freed": None, "contact_id": None, "company_id": None}
        await tx.run(update(records).where(c.id.in_(some)).values(gone))


def _portions(values: Sequence[str]) -> Iterable[Sequence[str]]:
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))
