"""Changes of records as events of the core's own, where workflows of the organization listen to them.

A change becomes `$record.contact`, `$record.opportunity` and the like, of the contact it concerns: the one that the
record refers to, an opportunity that names nobody by its lead. What refers to none is told to nobody. What a company
changes concerns each of its contacts: the matcher spreads it, page by page. Merges tell nothing: what they change was
told when it was first written.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select

from core import ids
from core.domain import names
from core.domain.enrollment import EventFacts, Facts
from core.domain.frozen import copied, frozen
from core.domain.records.changes import Change, value_at
from core.domain.records.lateness import HISTORY
from core.domain.workflow import firing
from core.domain.workflow.record_changes import CONTACT, LISTS, OF_CONTACT, RECORD, ChangedRecord, record_event
from core.store.events import events
from core.store.events.events import NewEvent
from core.store.metadata import dump_json
from core.store.records.record_rows import Draft, Record, Written, record_changes
from core.store.transaction import EVERY_ORGANIZATION, Transaction, values_by_column
from core.store.workflows import listeners

_BY_WORKFLOW = "workflow:"
_BY_ENROLLMENT = "enrollment:"
_TOLD_AT_ONCE = 2_000
"""Contacts that one page of spreading concerns."""

_HOPS_SQLITE = (
    "SELECT e.org_id, e.id, max(coalesce(e.data ->> 'hops', 0), coalesce(e.data ->> 'led', 0)) "
    "FROM json_each($1) w CROSS JOIN enrollments e "
    "ON e.org_id = (w.value ->> 0) AND e.id = (w.value ->> 1)"
)
_HOPS_POSTGRESQL = (
    "SELECT e.org_id, e.id, greatest((e.data ->> 'hops')::int, (e.data ->> 'led')::int, 0) "
    "FROM unnest($1::text[], $2::text[]) AS w(org_id, id) JOIN enrollments e USING (org_id, id)"
)
_OF_COMPANY = (
    "SELECT id FROM records WHERE org_id = $1 AND company_id = $2 AND type = 'contact' AND id > $3 "
    "AND deleted_at IS NULL ORDER BY id LIMIT $4"
)


_CONTACTS_SQLITE = (
    "SELECT r.org_id, r.id, r.contact_id FROM json_each($1) w CROSS JOIN records r "
    "ON r.org_id = (w.value ->> 0) AND r.id = (w.value ->> 1) WHERE r.deleted_at IS NULL"
)
_CONTACTS_POSTGRESQL = (
    "SELECT r.org_id, r.id, r.contact_id FROM unnest($1::text[], $2::text[]) AS w(org_id, id) "
    "JOIN records r USING (org_id, id) WHERE r.deleted_at IS NULL"
)


@frozen
class ListsChanged:
    """A contact whose lists changed."""

    org_id: str
    contact_id: str
    before: frozenset[str]
    after: frozenset[str]
    actor: str
    cause: str = ""
    """`enrollment:<id>/<rev>` where an enrollment did it."""


@frozen
class _Told:
    """One change of one author, on its way to becoming an event."""

    org_id: str
    contact_id: str | None
    change: ChangedRecord
    by: str = CONTACT
    """The field that refers to the contact."""
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Of the record, where they may refer to others."""

    @property
    def name(self) -> str:
        return record_event(self.change.record_type, self.by)

    @property
    def lead_id(self) -> str:
        """Return the lead whose contact an opportunity concerns that names none."""
        return str(self.fields.get("lead_id") or "") if self.by == CONTACT else ""

    @property
    def enrollment(self) -> tuple[str, str] | None:
        """Return the enrollment that made the change, by organization and id."""
        cause = self.change.cause
        return (
            (self.org_id, cause[len(_BY_ENROLLMENT) :].partition("/")[0]) if cause.startswith(_BY_ENROLLMENT) else None
        )


async def note(tx: Transaction, written: Iterable[Written]) -> None:
    """Write events for records that somebody created or changed, where a workflow listens; history tells nothing."""
    told = [item for item in written if not item.cause.startswith(f"{HISTORY}:")]
    await _note(tx, [_told(item.record, item.created, item.changes, item.actor, item.cause) for item in told])


async def note_drafts(tx: Transaction, drafts: Iterable[Draft]) -> None:
    """Write events for saved drafts, one for each author: a workflow must not hide the change of another."""
    changed = [draft for draft in drafts if draft.created or draft.history]
    if not changed:
        return
    heard = await listeners.to_records(tx, {draft.record.org_id for draft in changed})
    told = []
    for draft in changed:
        if not _is_heard(draft.record.org_id, record_event(draft.record.type), heard):
            continue
        authors: dict[tuple[str, str], list[Change]] = {}
        for change, actor, cause in draft.history:
            authors.setdefault((actor, cause), []).append(change)
        for (actor, cause), changes in authors.items():
            told.append(_told(draft.record, draft.created, changes, actor, cause))
    await _note(tx, told)


async def note_lists(tx: Transaction, changed: Iterable[ListsChanged]) -> None:
    """Write events for contacts whose lists changed, where a workflow listens to contacts."""
    told = []
    for one in changed:
        if one.before != one.after:
            change = Change(LISTS, sorted(one.before), sorted(one.after))
            workflow = one.actor.removeprefix(_BY_WORKFLOW) if one.actor.startswith(_BY_WORKFLOW) else ""
            seen = ChangedRecord("contact", one.contact_id, False, (change,), one.actor, one.cause, workflow)
            told.append(_Told(one.org_id, one.contact_id, seen))
    await _note(tx, told)


async def listened(tx: Transaction, orgs: Iterable[str]) -> frozenset[str]:
    """Return the organizations in which a workflow listens to contacts: elsewhere nobody need say what changed."""
    found = await listeners.to_records(tx, orgs)
    return frozenset(org for org, name in found if name == record_event("contact"))


def _told(record: Record, created: bool, changes: Sequence[Change], actor: str, cause: str) -> _Told:
    contact = record.id if record.type == "contact" else record.contact_id
    workflow = actor.removeprefix(_BY_WORKFLOW) if actor.startswith(_BY_WORKFLOW) else ""
    change = ChangedRecord(record.type, record.id, created, tuple(changes), actor, cause, workflow, record.rev)
    return _Told(record.org_id, contact, change, CONTACT, record.fields)


def _by(told: _Told, heard: Collection[listeners.EventKey]) -> list[_Told]:
    """Return a change for each way in which somebody listens to it: by the fields that refer to a contact.

    It is told to the contact that the field referred to before as well.
    """
    if told.change.record_type in OF_CONTACT:
        return [told] if (told.org_id, told.name) in heard else []
    ways = [name for org, name in heard if org == told.org_id and name.partition(":")[0] == told.name]
    found = []
    for path in sorted(name.partition(":")[2] or CONTACT for name in ways):
        now = value_at(told.fields, path)
        found.append(copied(told, by=path, contact_id=str(now) if now else None))
        before = next((one.old for one in told.change.changes if one.field == path), None)
        if before:
            found.append(copied(found[-1], contact_id=str(before), change=replace(told.change, left=True)))
    return found


def _is_heard(org: str, event: str, heard: Collection[listeners.EventKey]) -> bool:
    return bool(event) and any(one == org and name.partition(":")[0] == event for one, name in heard)


async def _note(tx: Transaction, told: Sequence[_Told]) -> None:
    told = [one for one in told if one.name and (one.change.created or one.change.changes)]
    if not told:
        return
    heard = await listeners.to_records(tx, {one.org_id for one in told})
    told = await _concerning(tx, [way for one in told for way in _by(one, heard)])
    if not told:
        return
    hops = await _hops(tx, {one.enrollment for one in told if one.enrollment is not None})
    new = []
    for one in told:
        led = hops.get(one.enrollment, 0) + 1 if one.enrollment is not None else 0
        new.append((one.org_id, _event(tx, one.contact_id, one.change, led, tx.now, one.name)))
    await events.store_many(tx, new)


async def _concerning(tx: Transaction, told: Sequence[_Told]) -> Sequence[_Told]:
    """Return what concerns a contact, and what concerns those of a company."""
    leads = sorted({(one.org_id, one.lead_id) for one in told if one.contact_id is None and one.lead_id})
    if leads and tx.dialect == "postgresql":
        rows = await tx.fetch(_CONTACTS_POSTGRESQL, *values_by_column(leads))
    else:
        rows = await tx.fetch(_CONTACTS_SQLITE, dump_json(leads)) if leads else ()
    of_lead = {(row[0], row[1]): row[2] for row in rows}
    whose = [one if one.contact_id else copied(one, contact_id=of_lead.get((one.org_id, one.lead_id))) for one in told]
    return [one for one in whose if one.contact_id or one.change.record_type == "company"]


async def _hops(tx: Transaction, enrollments: Iterable[tuple[str, str]]) -> Mapping[tuple[str, str] | None, int]:
    wanted = sorted(enrollments)
    if not wanted:
        return {}
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_HOPS_POSTGRESQL, *values_by_column(wanted))
    else:
        rows = await tx.fetch(_HOPS_SQLITE, dump_json(wanted))
    return {(row[0], row[1]): row[2] for row in rows}


def _event(
    tx: Transaction, contact_id: str | None, change: ChangedRecord, hops: int, occurred_at: datetime, name: str = ""
) -> NewEvent:
    chance = int.from_bytes(ids.new_secret_bytes(8)) >> 4  # of one instant, the later change sorts after the earlier
    return NewEvent(
        id=names.compose("evt", tx.now, (change.rev << 60) | chance),
        source_id="",
        event_type=RECORD,
        event_name=name or record_event(change.record_type),
        fields=change.to_fields(),
        contact_id=contact_id,
        occurred_at=occurred_at,
        message_id="",
        hops=hops,
        actor=change.cause.partition("/")[0] if change.cause.startswith("enrollment:") else change.actor,
    )


async def spread(tx: Transaction, org: str, event: EventFacts) -> None:
    """Write the event of a company's change for some of its contacts, and for the rest an event that goes on.

    For a loop's transaction.
    """
    assert tx.org_id == EVERY_ORGANIZATION
    change = ChangedRecord.of(event)
    after = str(event.fields.get("after", ""))
    rows = await tx.fetch(_OF_COMPANY, org, change.record_id, after, _TOLD_AT_ONCE)
    new = [(org, _event(tx, row[0], change, event.hops, event.occurred_at)) for row in rows]
    if len(rows) == _TOLD_AT_ONCE:
        further = _event(tx, None, change, event.hops, event.occurred_at)
        new.append((org, replace(further, fields={**further.fields, "after": rows[-1][0]})))
    await events.store_many(tx, new)


async def as_they_were(tx: Transaction, told: Sequence[tuple[str, EventFacts, Facts]]) -> dict[str, Facts]:
    """Return what was known right after each change, by its event's id, from what is known now.

    Each is told with its organization. Left out are those since which nothing more changed. Works in a loop's
    transaction too.
    """
    records_of = {
        (org, record.id)
        for org, _, facts in told
        for record in (facts.contact, facts.lead, facts.company, *facts.records.values())
        if record is not None
    }
    if not records_of:
        return {}
    first = names.compose("chg", min(event.occurred_at for _, event, _ in told), 0)
    table = record_changes
    rows = await tx.all(
        select(table)
        .where(
            table.c.org_id.in_(sorted({org for org, _ in records_of})),
            table.c.record_id.in_(sorted({record_id for _, record_id in records_of})),
            table.c.id >= first,
        )
        .order_by(table.c.id.desc())
    )
    found = {}
    for org, event, facts in told:
        change = ChangedRecord.of(event)
        own = names.compose("chg", event.occurred_at, (change.rev + 1) << 60)
        later: dict[str, list[Change]] = {}
        for row in rows:
            own_change = row.record_id == change.record_id
            if row.org_id == org and (row.id >= own if own_change else row.created_at > event.occurred_at):
                later.setdefault(row.record_id, []).append(Change(row.field, row.old_value, row.new_value))
        if later:
            found[event.id] = firing.facts_without(facts, later)
    return found
