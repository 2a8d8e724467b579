"""Taking events in: each is deduplicated, tied to its person and stored, in one transaction for the whole batch."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

from core import ids
from core.domain import names
from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.inbound.fitting import misfit
from core.domain.messaging import reports
from core.domain.nearest import did_you_mean
from core.domain.records import identity
from core.domain.records.fields import CLOSED_LEAD_STATUSES
from core.domain.records.ingestion import IncomingEvent, ReadEvent, read
from core.domain.records.lateness import EVENT, HISTORY
from core.store.erasing.erased_people import REFUSED
from core.store.events import events, sources
from core.store.events.events import NewEvent
from core.store.events.sources import Door
from core.store.messages import message_reports
from core.store.messages.message_reports import Heard
from core.store.records import records
from core.store.records.records import ContactCandidate, Resolved
from core.store.records.upserts import resolve
from core.store.transaction import Transaction

_DOORS = {"webhook": "/v2/event", "affiliate": "/v2/affiliate_event"}

_CREATE = "Create it with CreateSource."
_MOST_GUESSED = 10
"""Unknown sources of one batch for which the nearest there are is looked for: that takes a while for each."""


@frozen
class Ingested:
    """What became of one event."""

    status: str
    """`accepted`, `duplicate`, `rejected`, or `quarantined`: then nothing is stored, and the caller keeps it apart."""
    event_id: str = ""
    """The stored event; for a duplicate, the first one."""
    contact_id: str = ""
    violations: tuple[Violation, ...] = ()
    left_out: tuple[str, ...] = ()
    """Fields that stayed with the event, because their value does not fit the contact's field."""
    history: bool = False
    """It happened so long ago that it starts and wakes nothing."""


async def ingest(tx: Transaction, incoming: Sequence[IncomingEvent], *, actor: str, kind: str = "") -> list[Ingested]:
    """Take events in and answer for each, in order; a bad one stops no other.

    `kind` is the door they came through; a source of another kind is refused.
    """
    results: dict[int, Ingested] = {}
    ready: dict[int, ReadEvent] = {}
    misfits: dict[int, tuple[ReadEvent, Violation]] = {}
    known = await sources.doors(tx, {event.source_id for event in incoming})
    hints = await _hints(tx, (event.source_id for event in incoming if event.source_id not in known))
    for index, event in enumerate(incoming):
        if (source := known.get(event.source_id)) is not None and source.schema:
            await asyncio.sleep(0)  # a check may take its time; others are served in between
        found = read(event, tx.now)
        violations = found if isinstance(found, list) else []
        violations += _source_violations(event.source_id, known, hints, kind)
        if not isinstance(found, ReadEvent) or violations:
            results[index] = Ingested("rejected", violations=tuple(violations))
        elif wrong := misfit(known[found.source_id].schema, found.fields):
            misfits[index] = (found, wrong)
        else:
            ready[index] = found
    event_ids = dict(zip(ready, _event_ids(tx, len(ready)), strict=True))
    first = await _first_events(tx, ready, event_ids)
    for index, (_, wrong) in misfits.items():
        results[index] = Ingested("quarantined", violations=(wrong,))
    first |= await _seen_before(tx, {index: event for index, (event, _) in misfits.items()})
    fresh = {index: event for index, event in ready.items() if index not in first}
    people = await _people(tx, fresh, event_ids, actor)
    await _open_leads(tx, fresh, people, event_ids, actor)
    await events.store(
        tx, [_new_event(event, event_ids[index], people.get(index), actor) for index, event in fresh.items()]
    )
    await message_reports.heed(tx, _heard(fresh, event_ids, people))
    for index, stored in fresh.items():
        contact_id = people[index].contact_id if index in people else ""
        results[index] = Ingested(
            "accepted", event_ids[index], contact_id, left_out=stored.left_out, history=stored.history
        )
    results |= await _duplicates(tx, first, results)
    return [results[index] for index in range(len(incoming))]


async def _hints(tx: Transaction, unknown: Iterable[str]) -> dict[str, str]:
    """Return what to do about sources that are not there; for the first of them, which may have been meant."""
    named = [one for one in dict.fromkeys(unknown) if one.strip()][:_MOST_GUESSED]
    ids = await sources.newest_ids(tx) if named else []
    return {one: did_you_mean(one, ids, _CREATE) for one in named}


def _source_violations(
    source_id: str, known: Mapping[str, Door], hints: Mapping[str, str], kind: str
) -> list[Violation]:
    if not source_id.strip():
        return []  # its absence is told already
    source = known.get(source_id)
    if source is None:
        hint = hints.get(source_id, _CREATE)
        return [Violation("source_id", "UNKNOWN_SOURCE", f"there is no source `{source_id[:100]}`", hint)]
    if kind and source.kind != kind:
        door = _DOORS.get(source.kind, "its inbound URL")
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


async def _seen_before(tx: Transaction, misfits: Mapping[int, ReadEvent]) -> dict[int, str]:
    """Return which of these came before, when they still fitted, with the id of the event that they became."""
    keyed = {index: (event.source_id, event.message_id) for index, event in misfits.items() if event.message_id}
    earlier = await events.first_events(tx, keyed.values())
    return {index: earlier[key] for index, key in keyed.items() if key in earlier}


async def _people(
    tx: Transaction, fresh: Mapping[int, ReadEvent], event_ids: Mapping[int, str], actor: str
) -> dict[int, Resolved]:
    """Return the person behind each event that tells of one."""
    told = {
        index: event
        for index, event in fresh.items()
        if event.identifiers or identity.of_fields("contact", event.contact_fields)
    }
    people: dict[int, Resolved] = {}
    for history in (True, False):  # apart, because workflows are told of what the one changes and not of the other
        some = {index: event for index, event in told.items() if event.history is history}
        if some:
            candidates = [_candidate(event, event_ids[index]) for index, event in some.items()]
            people |= zip(some, await resolve(tx, "contact", candidates, actor=actor), strict=True)
    return people


def _candidate(event: ReadEvent, event_id: str) -> ContactCandidate:
    """Return the person that an event tells of; a report of a message is no reason to know somebody new."""
    return ContactCandidate(
        event.contact_fields,
        event.identifiers,
        observed=True,
        known=event.event_name in reports.EVENTS,
        initial={"source": event.source_id},
        cause=f"{HISTORY if event.history else EVENT}:{event_id}",
        as_of=event.occurred_at if event.late and not event.history else None,
        fills=event.history,
    )


async def _open_leads(
    tx: Transaction,
    fresh: Mapping[int, ReadEvent],
    people: Mapping[int, Resolved],
    event_ids: Mapping[int, str],
    actor: str,
) -> None:
    """Give every contact of a lead event a lead, where it has none that is open; history opens none.

    The contacts are locked: of two events at once, the second sees the first one's lead.
    """
    wanted: dict[str, int] = {}
    for index, event in fresh.items():
        if event.event_type == "lead" and index in people and people[index].contact_id and not event.history:
            wanted.setdefault(people[index].contact_id, index)
    if not wanted:
        return
    standing = await records.leads_of(tx, wanted)
    is_open = {lead.contact_id for lead in standing if lead.fields.get("status") not in CLOSED_LEAD_STATUSES}
    missing = [(contact_id, index) for contact_id, index in wanted.items() if contact_id not in is_open]
    candidates = [
        ContactCandidate(
            {"contact_id": contact_id, "status": "new", "source": fresh[index].source_id},
            cause=f"{EVENT}:{event_ids[index]}",
        )
        for contact_id, index in missing
    ]
    await resolve(tx, "lead", candidates, actor=actor)


def _new_event(event: ReadEvent, event_id: str, person: Resolved | None, actor: str) -> NewEvent:
    # That something happened is kept, and not to whom.
    gone = person is not None and person.violation is not None and person.violation.reason == REFUSED.reason
    return NewEvent(
        id=event_id,
        source_id=event.source_id,
        event_type=event.event_type,
        event_name=event.event_name,
        fields={} if gone else event.fields,
        contact_id=None if person is None else person.contact_id or None,
        occurred_at=event.occurred_at,
        message_id=event.message_id,
        history=event.history,
        identity_conflict=() if person is None else person.conflicts,
        actor=actor,
    )


def _heard(fresh: Mapping[int, ReadEvent], event_ids: Mapping[int, str], people: Mapping[int, Resolved]) -> list[Heard]:
    """Return the new events as what listens to reports of messages takes them."""
    return [
        Heard(
            event_id=event_ids[index],
            name=event.event_name,
            fields=event.fields,
            source_id=event.source_id,
            contact_id=people[index].contact_id if index in people else "",
            occurred_at=event.occurred_at,
        )
        for index, event in fresh.items()
    ]


async def _duplicates(
    tx: Transaction, first: Mapping[int, str], results: Mapping[int, Ingested]
) -> dict[int, Ingested]:
    contacts = await events.contacts_of(tx, first.values())
    return {index: Ingested("duplicate", event_id, contacts.get(event_id) or "") for index, event_id in first.items()}
