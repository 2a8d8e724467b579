"""Handlers of EventService for what came in and did not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from core.domain.errors import Invalid, NotFound, Violation, invalid
from core.rpc.admission import reach
from core.rpc.admission.reach import Reach
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.rpc.listing import listed
from core.store.events import inbound, sources
from core.store.events import quarantine as store
from core.store.events.inbound import Taken
from core.store.events.quarantine import QuarantineState
from dripstone.v1 import event_pb2 as pb

_FILTERED = {name: "string" for name in ("source_id", "state", "reason")}
_TOGETHER = 100
"""How many bodies are in memory at once."""
_STATUSES = {
    "accepted": pb.INGEST_STATUS_ACCEPTED,
    "duplicate": pb.INGEST_STATUS_DUPLICATE,
    "ignored": pb.INGEST_STATUS_REJECTED,
    "quarantined": pb.INGEST_STATUS_QUARANTINED,
}


async def list_quarantined(request: pb.ListQuarantinedRequest, call: Call) -> pb.ListQuarantinedResponse:
    """Return a page of what is quarantined, newest first, without bodies."""
    rows, token = await listed(call.tx, request, store.listing(), store.quarantine, _FILTERED)
    return pb.ListQuarantinedResponse(quarantined=[_message(row) for row in rows], next_page_token=token)


async def get_quarantined(request: pb.GetQuarantinedRequest, call: Call) -> pb.QuarantinedEvent:
    """Return one with its body."""
    row = await store.get(call.tx, request.quarantined_id)
    if row is None:
        raise NotFound(kind="quarantined event", id=request.quarantined_id)
    message = _message(row)
    message.body = row.body.decode(errors="replace")
    return message


async def redrive_quarantined(request: pb.RedriveQuarantinedRequest, call: Call) -> pb.RedriveQuarantinedResponse:
    """Take what waits in again, with the present mapping and schema of its source."""
    if bool(request.quarantined_ids) == bool(request.source_id):
        hint = "Send quarantined_ids, or source_id for all that wait of it."
        raise invalid("quarantined_ids", "CONFLICT", "say which, in one way", hint)
    wanted = list(dict.fromkeys(request.quarantined_ids))
    if request.source_id:
        if await sources.get(call.tx, request.source_id) is None:
            raise NotFound(kind="source", id=request.source_id)
        wanted = await store.oldest_waiting(call.tx, request.source_id)
    results: list[pb.IngestResult] = []
    for start in range(0, len(wanted), _TOGETHER):
        results += await _redrive(call, wanted[start : start + _TOGETHER], start)
    accepted = sum(result.status == pb.INGEST_STATUS_ACCEPTED for result in results)
    return pb.RedriveQuarantinedResponse(results=results, accepted_count=accepted)


async def _reach(call: Call, request: pb.RedriveQuarantinedRequest) -> Reach | None:
    return Reach.of(await store.oldest_waiting(call.tx, request.source_id)) if request.source_id else None


reach.register("EventService.RedriveQuarantined", _reach)


async def _redrive(call: Call, wanted: Sequence[str], start: int) -> list[pb.IngestResult]:
    rows = await store.hold(call.tx, wanted, whole=True)
    waiting = [rows[row_id] for row_id in wanted if row_id in rows and rows[row_id].state == QuarantineState.WAITING]
    taken = await inbound.redrive(call.tx, waiting, call.caller.principal_id)
    became = dict(zip((row.id for row in waiting), taken, strict=True))
    return [
        _redriven(index, row_id, became[row_id]) if row_id in became else _refused(index, row_id, rows.get(row_id))
        for index, row_id in enumerate(wanted, start)
    ]


async def discard_quarantined(request: pb.DiscardQuarantinedRequest, call: Call) -> pb.DiscardQuarantinedResponse:
    """Put aside for good what waits; what was redriven or discarded before stays as it is."""
    rows = await store.hold(call.tx, request.quarantined_ids)
    unknown = [
        Violation(f"quarantined_ids[{index}]", "NOT_FOUND", f"there is no {row_id[:100]}", "List what is quarantined.")
        for index, row_id in enumerate(request.quarantined_ids)
        if row_id not in rows
    ]
    if unknown:
        raise Invalid(*unknown)
    count = await store.discard(call.tx, sorted(rows), call.caller.principal_id)
    return pb.DiscardQuarantinedResponse(discarded_count=count)


def _redriven(index: int, row_id: str, taken: Taken) -> pb.IngestResult:
    result = pb.IngestResult(
        index=index,
        quarantined_id=row_id,
        status=_STATUSES[taken.status],
        event_id=taken.event_id,
        contact_id=taken.contact_id,
    )
    if taken.fault is not None:
        result.reason, result.field = taken.fault.reason, taken.fault.field
        result.message = inbound.told(taken.fault)
    elif taken.status == "ignored":
        result.reason, result.field = "LEFT_OUT", "mapping.when"
        result.message = "the mapping does not want it any more; it is discarded"
    return result


def _refused(index: int, row_id: str, row: Row[Any] | None) -> pb.IngestResult:
    """Return the result of what does not wait; what was redriven before is the same event still."""
    result = pb.IngestResult(index=index, quarantined_id=row_id, status=pb.INGEST_STATUS_REJECTED)
    if row is None:
        result.reason, result.message = "NOT_FOUND", "nothing of this id is quarantined"
    elif row.state == QuarantineState.REDRIVEN:
        result.status, result.event_id = pb.INGEST_STATUS_DUPLICATE, row.event_id
        result.reason, result.message = "ALREADY_REDRIVEN", "it was redriven before"
    else:
        result.reason, result.message = "ALREADY_DISCARDED", "it was put aside for good"
    return result


def _message(row: Row[Any]) -> pb.QuarantinedEvent:
    return pb.QuarantinedEvent(
        id=row.id,
        source_id=row.source_id,
        reason=row.reason,
        field=row.field,
        message=row.message,
        state=row.state,
        receive_time=to_timestamp(row.received_at),
        event_id=row.event_id,
    )
