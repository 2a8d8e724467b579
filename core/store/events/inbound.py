"""Taking in what came to an inbound URL, and once more what did not fit before: mapped, ingested, or kept apart."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.inbound import bodies, mapping
from core.domain.inbound.bodies import Message
from core.domain.inbound.mapping import Mapped, MappingRules
from core.domain.inbound.request import Arrived
from core.domain.inbound.settings import rules_of, verifier_of
from core.store.events import events, quarantine, sources
from core.store.events.ingestion import ingest
from core.store.events.quarantine import Form, Misfit
from core.store.transaction import Transaction


@frozen
class Taken:
    """What became of one message."""

    status: str
    """`accepted`, `duplicate`, `ignored` because the mapping does not want it, or `quarantined`."""
    event_id: str = ""
    """The event; for a duplicate, the first one."""
    contact_id: str = ""
    quarantined_id: str = ""
    fault: Violation | None = None
    """Why it did not fit."""


Read = Sequence[tuple[Message, Mapped]]
"""The messages of a request, and what the mapping makes of each."""


async def read(source: Row[Any], arrived: Arrived) -> Read:
    """Return what is in a request that is verified; it takes a while, so no transaction should be open meanwhile.

    A mapping may take milliseconds for each of a thousand messages: others are served in between.
    """
    rules, kind = rules_of(source.mapping), verifier_of(source.verifier).kind
    found = []
    for message in bodies.read(arrived):
        found.append((message, mapping.apply(rules, kind, message, source.id)))
        await asyncio.sleep(0)
    return found


async def take(tx: Transaction, source: Row[Any], messages: Read) -> list[Taken]:
    """Take in every message of a request, and answer for each in order."""
    actor = f"source:{source.id}"
    results = await _judge(tx, [(source.id, mapped) for _, mapped in messages], actor)
    apart = [index for index, result in enumerate(results) if result.fault is not None]
    misfits = [_misfit(source.id, *messages[index], results[index]) for index in apart]
    for index, row_id in zip(apart, await quarantine.keep(tx, misfits) if misfits else (), strict=True):
        results[index] = Taken("quarantined", quarantined_id=row_id, fault=results[index].fault)
    fitting = {
        mapped.message_id: result.event_id
        for (_, mapped), result in zip(messages, results, strict=True)
        if mapped.message_id and result.event_id
    }
    await quarantine.came_after_all(tx, source.id, fitting, actor)
    await sources.note_use(tx, source)
    return results


async def redrive(tx: Transaction, rows: Sequence[Row[Any]], actor: str) -> list[Taken]:
    """Take in again what waits, with the present mapping and schema of its source; note and return what became of each.

    The rows are held by this transaction. Under its deduplication key nothing is taken in twice.
    """
    known = await sources.by_id(tx, {row.source_id for row in rows})
    mapped = []
    for row in rows:
        mapped.append((row.source_id, _again(row, known)))
        await asyncio.sleep(0)
    results = await _judge(tx, mapped, actor)
    became, unwanted = {}, []
    for index, (row, result) in enumerate(zip(rows, results, strict=True)):
        if result.event_id:
            became[row.id] = result.event_id
        elif result.status == "ignored":
            unwanted.append(row.id)
        elif result.fault is not None:
            fault = result.fault
            await quarantine.misfit_again(tx, row.id, fault.reason, fault.field, told(fault))
            results[index] = Taken("quarantined", quarantined_id=row.id, fault=fault)
    await quarantine.redriven(tx, became, actor)
    await quarantine.discard(tx, unwanted, actor)
    return results


def told(fault: Violation) -> str:
    """Return what was wrong and the way out, as one text."""
    return f"{fault.message}. {fault.hint}".strip()


async def _judge(tx: Transaction, mapped: Sequence[tuple[str, Mapped]], actor: str) -> list[Taken]:
    """Ingest what became an event and say of the rest why it did not; nothing is kept apart yet."""
    events_of = {index: one.event for index, (_, one) in enumerate(mapped) if one.event is not None}
    ingested = await ingest(tx, list(events_of.values()), actor=actor) if events_of else []
    results: dict[int, Taken] = {}
    faults = {index: one.fault for index, (_, one) in enumerate(mapped) if one.fault is not None}
    for index, result in zip(events_of, ingested, strict=True):
        if result.event_id:
            results[index] = Taken(result.status, result.event_id, result.contact_id)
        else:
            faults[index] = result.violations[0]
    keys = {index: (mapped[index][0], mapped[index][1].message_id) for index in faults if mapped[index][1].message_id}
    earlier = await events.first_events(tx, keys.values())
    for index, fault in faults.items():
        first = earlier.get(keys[index]) if index in keys else None
        results[index] = Taken("duplicate", first) if first else Taken("quarantined", fault=fault)
    return [results.get(index, Taken("ignored")) for index in range(len(mapped))]


def _misfit(source_id: str, message: Message, mapped: Mapped, result: Taken) -> Misfit:
    assert result.fault is not None
    return Misfit(
        source_id=source_id,
        body=message.kept.body,
        reason=result.fault.reason,
        field=result.fault.field,
        message=told(result.fault),
        message_id=mapped.message_id,
        form=Form.INBOUND,
        headers=message.kept.headers,
        query=message.kept.query,
    )


def _again(row: Row[Any], known: Mapping[str, Row[Any]]) -> Mapped:
    """Return what a row is by now, under the deduplication key that it has or else under its own id."""
    if not quarantine.is_whole(row):
        hint = "Have the other system send it again, or send the event with IngestEvent."
        why = f"only the first {quarantine.LARGEST_KEPT // 1024} KiB of it were kept"
        return Mapped(fault=Violation("body", "BODY_NOT_KEPT", why, hint), message_id=row.message_id)
    if row.form == Form.EVENT:
        event = quarantine.event_of(row.body)
        return mapping.renamed(Mapped(event), row.message_id or row.id)
    source = known.get(row.source_id)
    rules = MappingRules() if source is None else rules_of(source.mapping)
    kind = verifier_of(None if source is None else source.verifier).kind
    (message, *_) = bodies.read(Arrived(row.body, row.headers, row.query))
    mapped = mapping.apply(rules, kind, message, row.source_id)
    return mapping.renamed(mapped, row.message_id or mapped.message_id or row.id)
