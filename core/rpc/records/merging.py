"""Handlers of RecordService for merges and conflicts of identity."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from core.domain.errors import NotFound, WrongState, invalid
from core.rpc import outcomes
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.rpc.listing import listed
from core.store.merging import identity_conflicts, merges, merging, missed_outcomes, unmerging
from core.store.merging.identity_conflicts import ConflictState
from dripstone.v1 import record_pb2 as pb

_FILTERED = {"state": "string", "kind": "string", "chosen_id": "string", "other_id": "string"}


async def merge_records(request: pb.MergeRecordsRequest, call: Call) -> pb.Merge:
    """Let one record go into another. Raises Invalid, NotFound, RecordMerged, EtagMismatch and TooManyIdentifiers."""
    row = await merging.merge(
        call.tx,
        request.kept_id,
        request.merged_id,
        actor=call.caller.principal_id,
        cause=call.cause,
        etags=(request.kept_etag, request.merged_etag),
    )
    return _merge(row)


async def undo_merge(request: pb.UndoMergeRequest, call: Call) -> pb.Merge:
    """Take a merge back and tell what could not be. Raises NotFound, WrongState, RecordMerged and PreviewStale."""
    row = await unmerging.undo(call.tx, request.merge_id, actor=call.caller.principal_id)
    await call.parts.engine.ended(call.tx, await missed_outcomes.of_contact(call.tx, row.merged_id))
    message = _merge(row)
    message.preview_etag = outcomes.settle(request, row.conflicts, "what cannot be taken back")
    return message


async def list_merges(request: pb.ListMergesRequest, call: Call) -> pb.ListMergesResponse:
    """Return a page of merges, newest first."""
    rows, token = await merges.page(call.tx, request.record_id, request.page_size, request.page_token)
    return pb.ListMergesResponse(merges=[_merge(row) for row in rows], next_page_token=token)


async def list_identity_conflicts(
    request: pb.ListIdentityConflictsRequest, call: Call
) -> pb.ListIdentityConflictsResponse:
    """Return a page of conflicts, newest first."""
    table = identity_conflicts.identity_conflicts
    rows, token = await listed(call.tx, request, select(table), table, _FILTERED)
    return pb.ListIdentityConflictsResponse(conflicts=[_conflict(row) for row in rows], next_page_token=token)


async def resolve_identity_conflict(request: pb.ResolveIdentityConflictRequest, call: Call) -> pb.IdentityConflict:
    """Settle a conflict, and every other one between the same two.

    Raises NotFound, WrongState and what a merge raises.
    """
    row = await _open(call, request.conflict_id)
    by = call.caller.principal_id
    match request.resolution:
        case pb.CONFLICT_RESOLUTION_MERGE:
            cause = f"conflict:{row.id}"
            # Nothing of a conflict is held here: a merge takes its locks in an order of its own.
            await merging.merge(call.tx, row.chosen_id, row.other_id, actor=by, cause=cause)
        case pb.CONFLICT_RESOLUTION_KEEP_APART:
            await identity_conflicts.keep_apart(call.tx, row.chosen_id, row.other_id, by)
        case _:
            hint = "Use CONFLICT_RESOLUTION_MERGE or CONFLICT_RESOLUTION_KEEP_APART."
            raise invalid("resolution", "UNKNOWN_VALUE", "does not say how the conflict is settled", hint)
    settled = await identity_conflicts.get(call.tx, row.id)
    assert settled is not None
    return _conflict(settled)


async def _open(call: Call, conflict_id: str) -> Row[Any]:
    row = await identity_conflicts.get(call.tx, conflict_id)
    if row is None:
        raise NotFound(kind="identity conflict", id=conflict_id)
    if row.state != ConflictState.OPEN:
        raise WrongState(kind="identity conflict", id=row.id, state=row.state, action="being settled again")
    return row


def _merge(row: Row[Any]) -> pb.Merge:
    return pb.Merge(
        id=row.id,
        kept_id=row.kept_id,
        merged_id=row.merged_id,
        actor=row.actor,
        cause=row.cause,
        create_time=to_timestamp(row.created_at),
        undo_time=None if row.undone_at is None else to_timestamp(row.undone_at),
        filled_fields=row.filled_fields,
        differing_fields=row.differing_fields,
        moved_counts=row.moved_counts,
        conflicts=row.conflicts,
    )


def _conflict(row: Row[Any]) -> pb.IdentityConflict:
    return pb.IdentityConflict(
        id=row.id,
        cause=row.cause,
        chosen_id=row.chosen_id,
        kind=row.kind,
        value=row.value,
        other_id=row.other_id,
        state=row.state,
        create_time=to_timestamp(row.created_at),
        seen_time=to_timestamp(row.seen_at),
        seen_count=row.seen_count,
        merge_id=row.merge_id,
    )
