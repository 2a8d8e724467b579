"""Handlers of RecordService that delete records, and bring them back."""

from __future__ import annotations

from collections.abc import Sequence

from core.engine import leaving
from core.rpc.call import Call
from core.rpc.records.records import cause_of, messages
from core.store.records import deleting
from dripstone.v1 import record_pb2 as pb


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
    await leaving.end_enrollments(call.tx, call.parts.engine, contact_ids, call.caller.principal_id, reason)
