"""What was known of leads at an instant, read for many at once: nothing that was observed later is in it.

A record is the present one with every later change undone. An event counts for whoever it was noted about then: what
merges have moved since is moved back. The reads of five hundred leads are a handful of statements.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, select

from core.domain.enrollment import RecordFacts
from core.domain.frozen import frozen
from core.domain.qualification.facts import LeadFacts, Origin
from core.domain.qualification.model import ScoringModel
from core.domain.records import changes as field_changes
from core.domain.records.changes import Change
from core.store.qualification import past_events
from core.store.records.record_rows import Record, record_changes, records, to_record
from core.store.transaction import Transaction

AT_ONCE = 500
"""Leads that are read together."""

_GONE = frozenset({"deleted", "merged_into"})
"""Under these names a record's history tells that it went; no field is called so."""


@frozen
class Wanted:
    """Whose facts are wanted, and as of when."""

    lead: Record | None
    contact: Record | None
    """The contact now; where the instant is past, the lead's own of then is read instead."""
    as_of: datetime
    past: bool = False
    """Whether there can be anything later than the instant that must be undone."""


@frozen
class Needs:
    """What the models at hand look at."""

    event_names: frozenset[str]
    window: timedelta
    origins: frozenset[str] | None = frozenset()
    """Fields whose origin is asked for, without the record's name; None for all of them."""

    @classmethod
    def of(cls, models: Iterable[ScoringModel], *, provenance: bool = False) -> Needs:
        """Return what models need; `provenance` asks where every field came from."""
        models = list(models)
        windows = [model.longest_window for model in models if model.event_names]
        fields = {path.partition(".")[2] for model in models if model.reads_ages for path in model.paths}
        return cls(
            frozenset().union(*(model.event_names for model in models)),
            max(windows, default=timedelta()),
            None if provenance or "custom" in fields else frozenset(fields),
        )


@dataclass(slots=True)
class _History:
    """The changes of records that are looked at, oldest first."""

    by_record: dict[str, list[Row[Any]]] = field(default_factory=dict)

    def then(self, record: Record, wanted: Wanted, gone: bool) -> RecordFacts:
        """Return a record as it was; one that was not there yet, or no longer, has no fields."""
        if not wanted.past:
            return record.facts
        if record.created_at > wanted.as_of:
            return RecordFacts(record.id, record.type, {})
        newer = [row for row in reversed(self.by_record.get(record.id, ())) if row.created_at > wanted.as_of]
        for row in newer:
            if row.field in _GONE:
                gone = row.old_value is not None
        if gone:
            return RecordFacts("", record.type, {})
        undone = [Change(row.field, row.old_value, None) for row in newer if row.field not in _GONE]
        return RecordFacts(
            record.id, record.type, field_changes.as_of(record.fields, undone) if undone else record.fields
        )

    def origins(self, facts: RecordFacts, wanted: Wanted) -> dict[str, Origin]:
        """Return who last set each field by then."""
        found: dict[str, Origin] = {}
        for row in self.by_record.get(facts.id, ()):
            if row.created_at <= wanted.as_of and row.field not in _GONE:
                found[f"{facts.type}.{row.field}"] = Origin(row.actor, row.created_at)
        return found


async def load(tx: Transaction, wanted: Sequence[Wanted], needs: Needs) -> list[LeadFacts]:
    """Return the facts of each, in order."""
    leads = [one.lead for one in wanted if one.lead is not None]
    history = await _history(tx, [lead.id for lead in leads], wanted, needs)
    lead_facts = [
        history.then(one.lead, one, False) if one.lead is not None else RecordFacts("", "lead", {}) for one in wanted
    ]
    contacts = await _contacts(tx, wanted, lead_facts)
    of_contacts = await _history(tx, [record.id for record, _ in contacts if record is not None], wanted, needs)
    contact_facts = [
        of_contacts.then(record, one, gone) if record is not None else RecordFacts("", "contact", {})
        for one, (record, gone) in zip(wanted, contacts, strict=True)
    ]
    asked = [(facts.id, one.as_of, one.past) for facts, one in zip(contact_facts, wanted, strict=True)]
    events = await past_events.of_contacts(tx, asked, needs.event_names, needs.window)
    tell = needs.origins is None or bool(needs.origins)
    return [
        LeadFacts(
            contact,
            lead,
            one.as_of,
            happened,
            {**of_contacts.origins(contact, one), **history.origins(lead, one)} if tell else {},
        )
        for one, contact, lead, happened in zip(wanted, contact_facts, lead_facts, events, strict=True)
    ]


async def _contacts(
    tx: Transaction, wanted: Sequence[Wanted], leads: Sequence[RecordFacts]
) -> list[tuple[Record | None, bool]]:
    """Return whose lead each was, and whether that contact is gone now; the rows of those that went are still there."""
    names = [
        str(facts.fields.get("contact_id") or "") if one.past and one.lead is not None else ""
        for one, facts in zip(wanted, leads, strict=True)
    ]
    given = {one.contact.id: (one.contact, False) for one in wanted if one.contact is not None}
    unread = sorted({name for name in names if name and name not in given})
    for start in range(0, len(unread), 1000):
        rows = await tx.all(select(records).where(records.c.id.in_(unread[start : start + 1000])))
        given |= {row.id: (to_record(row), row.deleted_at is not None) for row in rows}
    found: list[tuple[Record | None, bool]] = []
    for one, name in zip(wanted, names, strict=True):
        if one.past and one.lead is not None and one.lead.created_at <= one.as_of:
            found.append(given.get(name, (None, False)))
        else:
            found.append((one.contact, False))
    return found


async def _history(tx: Transaction, ids: Sequence[str], wanted: Sequence[Wanted], needs: Needs) -> _History:
    """Return what the facts need of the history of these records."""
    history = _History()
    past = [one.as_of for one in wanted if one.past]
    origins = needs.origins is None or bool(needs.origins)
    if not past and not origins:
        return history
    c = record_changes.c
    statement = select(c.record_id, c.field, c.old_value, c.actor, c.created_at)
    if not origins:
        statement = statement.where(c.created_at > min(past))
    elif not past and needs.origins is not None:
        statement = statement.where(c.field.in_(sorted(needs.origins)))
    unique = sorted(set(ids))
    for start in range(0, len(unique), 1000):
        some = statement.where(c.record_id.in_(unique[start : start + 1000])).order_by(c.record_id, c.id)
        for row in await tx.all(some):
            history.by_record.setdefault(row.record_id, []).append(row)
    return history


async def newest_lead_then(tx: Transaction, contact_id: str, as_of: datetime) -> Record | None:
    """Return the newest lead that a contact had at an instant, whosever it is now, or None."""
    circle = sorted(await past_events.circle(tx, contact_id, as_of))
    c = records.c
    which = (c.type == "lead", c.contact_id.in_(circle), c.created_at <= as_of)
    rows = await tx.all(select(records).where(*which).order_by(c.id.desc()).limit(AT_ONCE))
    wanted = [Wanted(to_record(row), None, as_of, past=True) for row in rows]
    history = await _history(tx, [row.id for row in rows], wanted, Needs(frozenset(), timedelta()))
    for row, one in zip(rows, wanted, strict=True):
        assert one.lead is not None
        then = history.then(one.lead, one, row.deleted_at is not None)
        if then.id and then.fields.get("contact_id") == contact_id:
            return one.lead
    return None


async def leads_with_contacts(tx: Transaction, lead_rows: Iterable[Record]) -> list[tuple[Record, Record | None]]:
    """Return leads with their contacts, as both are now."""
    leads = list(lead_rows)
    ids = sorted({lead.contact_id for lead in leads if lead.contact_id})
    contacts: dict[str, Record] = {}
    for start in range(0, len(ids), 1000):
        statement = select(records).where(records.c.id.in_(ids[start : start + 1000]), records.c.deleted_at.is_(None))
        contacts |= {row.id: to_record(row) for row in await tx.all(statement)}
    return [(lead, contacts.get(lead.contact_id or "")) for lead in leads]


async def last_set(tx: Transaction, keys: Collection[str], path: str) -> Mapping[str, datetime]:
    """Return when a field of these records was set last, by record."""
    c = record_changes.c
    found: dict[str, datetime] = {}
    unique = sorted(set(keys))
    for start in range(0, len(unique), 1000):
        statement = select(c.record_id, c.created_at).where(
            c.record_id.in_(unique[start : start + 1000]), c.field == path
        )
        for row in await tx.all(statement.order_by(c.record_id, c.id)):
            found[row.record_id] = row.created_at
    return found
