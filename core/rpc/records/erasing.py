"""Handlers of RecordService for erasing people: what is theirs goes, a tombstone and hashed addresses stay."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from core.domain.enrollment import Cancelled, State
from core.domain.errors import NotFound, RecordErased, invalid
from core.engine.driver import Move
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.erasing import erasing, erasing_search, erasures
from core.store.merging import merges, merging
from core.store.records.record_rows import records
from core.store.workflows.enrollments import enrollments, to_domain
from dripstone.v1 import record_pb2 as pb


async def erase_contact(request: pb.EraseContactRequest, call: Call) -> pb.Erasure:
    """Erase a person. Raises NotFound, RecordMerged, RecordErased, and Invalid for another type of record."""
    contact_id, tx = request.record_id, call.tx
    if await erasures.is_erased(tx, contact_id):
        raise RecordErased(id=contact_id)
    record = await tx.first(select(records.c.type).where(records.c.id == contact_id))
    if record is None:
        raise NotFound(kind="record", id=contact_id)
    if (gone := await merges.kept_by(tx, contact_id)) is not None:
        raise gone
    if record.type != "contact":
        hint = "Delete other records with DeleteRecord."
        raise invalid("record_id", "OTHER_TYPE", f"is a {record.type}, and people are contacts", hint)
    await _end_enrollments(call, contact_id)
    erasure_id = await erasing.erase(tx, contact_id, reason=request.reason, actor=call.caller.principal_id)
    await erasing_search.search(tx, erasure_id, most=erasing_search.SLICES_WITHIN_THE_CALL)
    erasure = await erasures.get(tx, erasure_id)
    assert erasure is not None
    return _message(erasure)


async def _end_enrollments(call: Call, contact_id: str) -> None:
    """End what the person is enrolled in; locks are taken in the order in which the engine takes them."""
    await merging.lock_work(call.tx, contact_id)
    c = enrollments.c
    running = (State.ACTIVE.value, State.AWAITING_APPROVAL.value)
    rows = await call.tx.all(
        select(enrollments).where(c.contact_id == contact_id, c.state.in_(running)).order_by(c.id).with_for_update()
    )
    stimulus = Cancelled(call.caller.principal_id, "The person was erased.")
    await call.parts.engine.move(call.tx, [Move(to_domain(row), stimulus) for row in rows])


async def list_erasures(request: pb.ListErasuresRequest, call: Call) -> pb.ListErasuresResponse:
    """Return a page of erasures, newest first."""
    rows, token = await erasures.page(call.tx, request.page_size, request.page_token)
    return pb.ListErasuresResponse(erasures=[_message(row) for row in rows], next_page_token=token)


def _message(row: Row[Any]) -> pb.Erasure:
    return pb.Erasure(
        id=row.id,
        record_id=row.record_id,
        reason=row.reason,
        actor=row.actor,
        record_count=row.record_count,
        event_count=row.event_count,
        message_count=row.message_count,
        create_time=to_timestamp(row.created_at),
        complete=row.search is None,
    )
