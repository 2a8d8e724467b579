"""Handlers of EventService: events come in one by one, in batches, or as form tools post them."""

from __future__ import annotations

from core.domain import filters
from core.domain.filters import Kind
from core.rpc.call import Call
from core.rpc.convert import to_struct, to_timestamp
from core.rpc.events import ingesting
from core.store.events import events
from dripstone.v1 import event_pb2 as pb

_FILTERED: dict[str, Kind] = {name: "string" for name in ("contact_id", "event_name", "event_type", "source_id")}


async def ingest_event(request: pb.IngestEventRequest, call: Call) -> pb.IngestResult:
    """Take one event.

    Raises Invalid when it is refused.
    """
    return await ingesting.take_one(call.tx, request.event, actor=call.caller.principal_id)


async def ingest_events(request: pb.IngestEventsRequest, call: Call) -> pb.IngestEventsResponse:
    """Take up to 1,000 events, item by item: a bad one stops no other."""
    results = await ingesting.take(call.tx, request.events, actor=call.caller.principal_id)
    accepted = sum(result.status == pb.INGEST_STATUS_ACCEPTED for result in results)
    return pb.IngestEventsResponse(results=results, accepted_count=accepted)


async def capture_event(request: pb.CaptureEventRequest, call: Call) -> pb.CaptureEventResponse:
    """Take one event of a webhook capture; a duplicate is ok as well, and so is what waits in quarantine."""
    await ingesting.take_one(call.tx, request.event, actor=call.caller.principal_id, kind="webhook")
    return pb.CaptureEventResponse(data="ok")


async def capture_affiliate_event(request: pb.CaptureEventRequest, call: Call) -> pb.CaptureEventResponse:
    """Take one event of an affiliate capture; a duplicate is ok as well, and so is what waits in quarantine."""
    await ingesting.take_one(call.tx, request.event, actor=call.caller.principal_id, kind="affiliate")
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
