"""Taking events in: each is deduplicated, tied to its person and stored, in one transaction for the whole batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core import ids
from core.domain import names
from core.domain.errors import Violation
from core.domain.nearest import did_you_mean
from core.domain.records import identity
from core.domain.records.fields import CLOSED_LEAD_STATUSES
from core.domain.records.ingestion import IncomingEvent, ReadEvent, read
from core.store import events, records
from core.store.events import NewEvent
from core.store.records import ContactCandidate, Resolved
from core.store.transaction import Transaction
from core.store.upserts import resolve


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one event."""

    status: str
    """`accepted`, `duplicate` or `rejected`."""
    event_id: str = ""
    """The stored event; for a duplicate, the first one."""
    contact_id: str = ""
    violations: tuple[Violation, ...] = ()
    left_out: tuple[str, ...] = ()
    """Fields that stayed with the event, because their value does not fit the contact's field."""


async def ingest(tx: Transaction, incoming: Sequence[IncomingEvent], *, actor: str, kind: str = "") -> list[Ingested]:
    """Take events in and answer for each, in order; a bad one stops no other.

    `kind` is the door they came through; a source of another kind is refused.
    """
    results: dict[int, Ingested] = {}
    ready: dict[int, ReadEvent] = {}
    known = await events.get_sources(tx, {event.source_id for event in incoming})
    for index, event in enumerate(incoming):
        found = read(event, tx.now)
        violations = found if isinstance(found, list) else []
        violations += await _source_violations(tx, event.source_id, known, kind)
        if isinstance(found, ReadEvent) and not violations:
            ready[index] = found
        else:
            results[index] = Ingested("rejected", violations=tuple(violations))
    event_ids = dict(zip(ready, _event_ids(tx, len(ready)), strict=True))
    first = await _first_events(tx, ready, event_ids)
    fresh = {index: event for index, event in ready.items() if index not in first}
    people = await _people(tx, fresh, event_ids, actor)
    await _open_leads(tx, fresh, people, event_ids, actor)
    await events.store(tx, [_new_event(event, event_ids[index], people.get(index)) for index, event in fresh.items()])
    for index, stored in fresh.items():
        contact_id = people[index].contact_id if index in people else ""
        results[index] = Ingested("accepted", event_ids[index], contact_id, left_out=stored.left_out)
    results |= await _duplicates(tx, first, results)
    return [results[index] for index in range(len(incoming))]


async def _source_violations(tx: Transaction, source_id: str, known: Mapping[str, Any], kind: str) -> list[Violation]:
    if not source_id.strip():
        return []  # its absence is told already
    source = known.get(source_id)
    if source is None:
        hint = did_you_mean(source_id, await events.source_ids(tx), "Create it with CreateSource.")
        return [Violation("source_id", "UNKNOWN_SOURCE", f"there is no source `{source_id[:100]}`", hint)]
    if kind and source.kind != kind:
        door = "/v2/event" if source.kind == "webhook" else "/v2/affiliate_event"
        message = f"source `{source_id}` is of the kind {source.kind}, these events come in as {kind}"
        return [Violation("source_id", "WRONG_SOURCE_KIND", message, f"Post events of this source to {door}.")]
    return []


def _event_ids(tx: Transaction, count: int) -> list[str]:
    """Return new ids in order: within a batch, later events sort after earlier ones."""
    return [
        names.compose("evt", tx.now, (index << 64) | int.from_bytes(ids.new_secret_bytes(8))) for index in range(count)
    ]


async def _first_events(
    tx: Transaction, ready: Mapping[int, ReadEvent], event_ids: Mapping[int, str]
) -> dict[int, str]:
    """Return which events came before, by position, with the id of the first one."""
    keyed = {index: (event.source_id, event.message_id) for index, event in ready.items() if event.message_id}
    wanted: dict[tuple[str, str], str] = {}
    for index, key in keyed.items():
        wanted.setdefault(key, event_ids[index])
    earlier = await events.claim_message_ids(tx, wanted)
    owners = {**wanted, **earlier}
    return {index: owners[key] for index, key in keyed.items() if owners[key] != event_ids[index]}


async def _people(
    tx: Transaction, fresh: Mapping[int, ReadEvent], event_ids: Mapping[int, str], actor: str
) -> dict[int, Resolved]:
    """Return the person behind each event that tells of one."""
    told = {
        index: event
        for index, event in fresh.items()
        if event.identifiers or identity.of_fields("contact", event.contact_fields)
    }
    candidates = [
        ContactCandidate(
            event.contact_fields,
            event.identifiers,
            observed=True,
            initial={"source": event.source_id},
            cause=f"event:{event_ids[index]}",
        )
        for index, event in told.items()
    ]
    found = await resolve(tx, "contact", candidates, actor=actor)
    return dict(zip(told, found, strict=True))


async def _open_leads(
    tx: Transaction,
    fresh: Mapping[int, ReadEvent],
    people: Mapping[int, Resolved],
    event_ids: Mapping[int, str],
    actor: str,
) -> None:
    """Give every contact of a lead event a lead, where it has none that is open.

    The contacts are locked: of two events at once, the second sees the first one's lead.
    """
    wanted: dict[str, int] = {}
    for index, event in fresh.items():
        if event.event_type == "lead" and index in people:
            wanted.setdefault(people[index].contact_id, index)
    standing = await records.leads_of(tx, wanted)
    is_open = {lead.contact_id for lead in standing if lead.fields.get("status") not in CLOSED_LEAD_STATUSES}
    missing = [(contact_id, index) for contact_id, index in wanted.items() if contact_id not in is_open]
    candidates = [
        ContactCandidate(
            {"contact_id": contact_id, "status": "new", "source": fresh[index].source_id},
            cause=f"event:{event_ids[index]}",
        )
        for contact_id, index in missing
    ]
    await resolve(tx, "lead", candidates, actor=actor)


def _new_event(event: ReadEvent, event_id: str, person: Resolved | None) -> NewEvent:
    return NewEvent(
        id=event_id,
        source_id=event.source_id,
        event_type=event.event_type,
        event_name=event.event_name,
        fields=event.fields,
        contact_id=None if person is None else person.contact_id or None,
        occurred_at=event.occurred_at,
        message_id=event.message_id,
        identity_conflict=() if person is None else person.conflicts,
    )


async def _duplicates(
    tx: Transaction, first: Mapping[int, str], results: Mapping[int, Ingested]
) -> dict[int, Ingested]:
    contacts = await events.contacts_of(tx, first.values())
    return {index: Ingested("duplicate", event_id, contacts.get(event_id) or "") for index, event_id in first.items()}
