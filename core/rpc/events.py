"""Handlers of EventService: events come in one by one, in batches, or as form tools post them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from core.domain import filters, names
from core.domain.errors import AlreadyExists, Invalid, Violation, invalid
from core.domain.filters import Kind
from core.domain.records.ingestion import IncomingEvent
from core.rpc import shape
from core.rpc.call import Call
from core.rpc.convert import from_struct, to_struct, to_timestamp
from core.store import events
from core.store.ingestion import Ingested, ingest
from dripstone.v1 import event_pb2 as pb

_FILTERED: dict[str, Kind] = {name: "string" for name in ("contact_id", "event_name", "event_type", "source_id")}
_STATUSES = {
    "accepted": pb.INGEST_STATUS_ACCEPTED,
    "duplicate": pb.INGEST_STATUS_DUPLICATE,
    "rejected": pb.INGEST_STATUS_REJECTED,
}
_KINDS = {"webhook": pb.SOURCE_KIND_WEBHOOK, "affiliate": pb.SOURCE_KIND_AFFILIATE}
_KIND_NAMES = {number: name for name, number in _KINDS.items()}


async def ingest_event(request: pb.IngestEventRequest, call: Call) -> pb.IngestResult:
    """Take one event.

    Raises Invalid when it is refused.
    """
    return _result(0, await _ingest_one(request.event, call))


async def ingest_events(request: pb.IngestEventsRequest, call: Call) -> pb.IngestEventsResponse:
    """Take up to 1,000 events, item by item: a bad one stops no other."""
    results = {
        index: Ingested("rejected", violations=found)
        for index, event in enumerate(request.events)
        if (found := shape.problems(event))
    }
    fit = [index for index in range(len(request.events)) if index not in results]
    taken = await ingest(call.tx, [_incoming(request.events[index]) for index in fit], actor=_actor(call))
    results |= dict(zip(fit, taken, strict=True))
    return pb.IngestEventsResponse(
        results=[_result(index, results[index]) for index in range(len(request.events))],
        accepted_count=sum(result.status == "accepted" for result in results.values()),
    )


async def capture_event(request: pb.CaptureEventRequest, call: Call) -> pb.CaptureEventResponse:
    """Take one event of a webhook capture; a duplicate is ok as well."""
    await _ingest_one(request.event, call, "webhook")
    return pb.CaptureEventResponse(data="ok")


async def capture_affiliate_event(request: pb.CaptureEventRequest, call: Call) -> pb.CaptureEventResponse:
    """Take one event of an affiliate capture; a duplicate is ok as well."""
    await _ingest_one(request.event, call, "affiliate")
    return pb.CaptureEventResponse(data="ok")


async def list_events(request: pb.ListEventsRequest, call: Call) -> pb.ListEventsResponse:
    """Return a page of events, newest first."""
    where = filters.parse(request.filter, _FILTERED)
    rows, token = await events.page(
        call.tx, request.page_size, request.page_token, filter_text=request.filter, where=where
    )
    found = [
        pb.Event(
            id=row.id,
            event_type=row.event_type,
            event_name=row.event_name,
            source_id=row.source_id,
            fields=to_struct(row.fields),
            contact_id=row.contact_id or "",
            occur_time=to_timestamp(row.occurred_at),
            receive_time=to_timestamp(row.received_at),
            message_id=row.message_id,
        )
        for row in rows
    ]
    return pb.ListEventsResponse(events=found, next_page_token=token)


async def create_source(request: pb.CreateSourceRequest, call: Call) -> pb.Source:
    """Create a source of events. Raises AlreadyExists for an id that is taken."""
    if request.source_id and not names.is_slug(request.source_id):
        raise invalid(
            "source_id",
            "BAD_ID",
            "is no id: lower-case letters, digits, hyphens and underscores, at most 63",
            "Choose one like website-form, or leave it out to have one made.",
        )
    row = await events.create_source(call.tx, request.source_id, request.display_name, _KIND_NAMES[request.kind])
    if row is None:
        raise AlreadyExists(kind="source", id=request.source_id)
    return _source(row)


async def list_sources(request: pb.ListSourcesRequest, call: Call) -> pb.ListSourcesResponse:
    """Return a page of sources, newest first."""
    rows, token = await events.sources_page(call.tx, request.page_size, request.page_token)
    return pb.ListSourcesResponse(sources=[_source(row) for row in rows], next_page_token=token)


def _actor(call: Call) -> str:
    return call.caller.principal_id


async def _ingest_one(event: pb.EventInput, call: Call, kind: str = "") -> Ingested:
    result: Ingested = (await ingest(call.tx, [_incoming(event)], actor=_actor(call), kind=kind))[0]
    if result.violations:
        raise Invalid(*_below("event", result.violations))
    return result


def _below(path: str, violations: Sequence[Violation]) -> list[Violation]:
    return [replace(violation, field=f"{path}.{violation.field}") for violation in violations]


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


def _result(index: int, result: Ingested) -> pb.IngestResult:
    message = pb.IngestResult(
        index=index, status=_STATUSES[result.status], event_id=result.event_id, contact_id=result.contact_id
    )
    if result.violations:
        first = result.violations[0]
        message.reason, message.field = first.reason, first.field
        message.message = f"{first.message}. {first.hint}".strip()
    elif result.left_out:
        message.reason, message.field = "FIELD_NOT_APPLIED", f"fields.{result.left_out[0]}"
        shown = ", ".join(f"fields.{name}" for name in result.left_out)
        message.message = f"kept with the event but not set on the contact, whose fields have other types: {shown}"
    return message


def _source(row: Any) -> pb.Source:
    return pb.Source(
        id=row.id, display_name=row.display_name, kind=_KINDS[row.kind], create_time=to_timestamp(row.created_at)
    )
