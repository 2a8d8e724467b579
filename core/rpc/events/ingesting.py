"""Between the events of the contract and the store that takes them in: what every way in has in common."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from core.domain.errors import Invalid, QuarantineFull, Violation
from core.domain.records.ingestion import IncomingEvent
from core.domain.records.lateness import LATEST_TRIGGER
from core.rpc.admission import shape
from core.rpc.convert import from_struct
from core.store.events import quarantine
from core.store.events.ingestion import Ingested, ingest
from core.store.events.quarantine import Misfit
from core.store.transaction import Transaction
from dripstone.v1 import event_pb2 as pb

_Keep = Callable[[Transaction, Sequence[Misfit]], Awaitable[list[str]]]
_STATUSES = {
    "accepted": pb.INGEST_STATUS_ACCEPTED,
    "duplicate": pb.INGEST_STATUS_DUPLICATE,
    "rejected": pb.INGEST_STATUS_REJECTED,
    "quarantined": pb.INGEST_STATUS_QUARANTINED,
}


async def take(tx: Transaction, events: Sequence[pb.EventInput], *, actor: str) -> list[pb.IngestResult]:
    """Take events in, each judged by itself, and answer for each in order."""
    results = {
        index: Ingested("rejected", violations=found)
        for index, event in enumerate(events)
        if (found := shape.problems(event))
    }
    fit = [index for index in range(len(events)) if index not in results]
    incoming = [_incoming(events[index]) for index in fit]
    results |= zip(fit, await ingest(tx, incoming, actor=actor), strict=True)
    kept = await _keep_apart(tx, dict(zip(fit, incoming, strict=True)), results, keep=quarantine.keep_some)
    for index in (index for index, row_id in kept.items() if not row_id):
        results[index] = Ingested("rejected", violations=(_no_room(results[index].violations[0]),))
    return [_result(index, results[index], kept.get(index, "")) for index in range(len(events))]


async def take_one(tx: Transaction, event: pb.EventInput, *, actor: str, kind: str = "") -> pb.IngestResult:
    """Take one event in, through the door of a kind of sources. Raises Invalid when it is refused."""
    incoming = _incoming(event)
    (result,) = await ingest(tx, [incoming], actor=actor, kind=kind)
    if result.status == "rejected":
        raise Invalid(*(replace(one, field=f"event.{one.field}") for one in result.violations))
    kept = await _keep_apart(tx, {0: incoming}, {0: result})
    return _result(0, result, kept.get(0, ""))


async def _keep_apart(
    tx: Transaction, incoming: dict[int, IncomingEvent], results: dict[int, Ingested], keep: _Keep = quarantine.keep
) -> dict[int, str]:
    """Put into quarantine what did not fit, and return under which ids."""
    apart = [index for index, result in results.items() if result.status == "quarantined"]
    if not apart:
        return {}
    misfits = [_misfit(_as_it_came(incoming[index], tx), results[index].violations[0]) for index in apart]
    return dict(zip(apart, await keep(tx, misfits), strict=True))


def _no_room(wrong: Violation) -> Violation:
    """Return why something that does not fit is not kept apart either: its sender keeps it, and the rest goes on."""
    message = f"{wrong.message}, and {quarantine.MOST_WAITING} events of its source wait in quarantine already"
    return Violation(wrong.field, QuarantineFull.reason, message, QuarantineFull.hint)


def _as_it_came(event: IncomingEvent, tx: Transaction) -> IncomingEvent:
    """Return an event that happens no later for being redriven later."""
    return event if event.created_at.strip() else replace(event, created_at=tx.now.isoformat())


def _misfit(event: IncomingEvent, wrong: Violation) -> Misfit:
    return Misfit(
        source_id=event.source_id,
        body=quarantine.event_body(event),
        reason=wrong.reason,
        field=wrong.field,
        message=_told(wrong),
        message_id=event.message_id,
    )


def _incoming(event: pb.EventInput) -> IncomingEvent:
    return IncomingEvent(
        event_type=event.event_type,
        event_name=event.event_name,
        source_id=event.source_id,
        fields=from_struct(event.fields) if event.HasField("fields") else None,
        event_id=event.event_id,
        person_id=event.person_id,
        ga_client_id=event.ga_client_id,
        created_at=event.created_at,
        message_id=event.message_id,
    )


def _result(index: int, result: Ingested, quarantined_id: str) -> pb.IngestResult:
    about: dict[str, Any] = {"event_id": result.event_id, "contact_id": result.contact_id}
    return pb.IngestResult(
        index=index, status=_STATUSES[result.status], quarantined_id=quarantined_id, **about, **_remark(result)
    )


def _remark(result: Ingested) -> dict[str, str]:
    """Return what there is to say about a result beside its status."""
    if result.violations:
        first = result.violations[0]
        return {"reason": first.reason, "field": first.field, "message": _told(first)}
    if result.history:
        days = LATEST_TRIGGER.days
        message = f"kept as history: it happened more than {days} days before it came, so it starts and wakes nothing"
        return {"reason": "HISTORY", "field": "created_at", "message": message}
    if result.left_out:
        shown = ", ".join(f"fields.{name}" for name in result.left_out)
        message = f"kept with the event but not set on the contact, whose fields have other types: {shown}"
        return {"reason": "FIELD_NOT_APPLIED", "field": f"fields.{result.left_out[0]}", "message": message}
    return {}


def _told(violation: Violation) -> str:
    return f"{violation.message}. {violation.hint}".strip()
