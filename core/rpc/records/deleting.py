"""Handlers of RecordService that delete records, and bring them back."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select

from core.domain.enrollment import Cancelled
from core.engine.driver import Move
from core.rpc.call import Call
from core.rpc.records.records import cause_of, messages
from core.store.records import deleting
from core.store.workflows.enrollments import enrollments, to_domain
from dripstone.v1 import record_pb2 as pb

_RUNNING = ("active", "awaiting_approval")
_AT_ONCE = 200


async def delete_record(request: pb.DeleteRecordRequest, call: Call) -> pb.Record:
    """Delete a record, a contact with its leads. Raises NotFound, RecordMerged and EtagMismatch."""
    record = await deleting.find(call.tx, request.record_id, expected_etag=request.etag)
    if record.type == "contact":
        await end_enrollments(call, [record.id], "The contact was deleted.")
    cause = cause_of(call, request.reason)
    written = await deleting.delete(call.tx, [record], actor=call.caller.principal_id, cause=cause)
    return (await messages(call.tx, [written[0].record]))[0]


async def restore_record(request: pb.RestoreRecordRequest, call: Call) -> pb.Record:
    """Bring a deleted record back, a contact with its leads; enrollments stay over.

    Raises NotFound, RecordMerged, RecordErased, WrongState, EmailTaken and ValueTaken.
    """
    cause = cause_of(call, request.reason)
    written = await deleting.restore(call.tx, request.record_id, actor=call.caller.principal_id, cause=cause)
    return (await messages(call.tx, [written[0].record]))[0]


async def end_enrollments(call: Call, contact_ids: Sequence[str], reason: str) -> None:
    """End what runs for contacts that go; their work is held."""
    c = enrollments.c
    for start in range(0, len(contact_ids), _AT_ONCE):
        some = contact_ids[start : start + _AT_ONCE]
        which = (c.contact_id.in_(some), c.state.in_(_RUNNING))
        rows = await call.tx.all(select(enrollments).where(*which).order_by(c.id).with_for_update())
        stimulus = Cancelled(call.caller.principal_id, reason)
        if rows:
            await call.parts.engine.move(call.tx, [Move(to_domain(row), stimulus) for row in rows])
