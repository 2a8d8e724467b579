"""Handlers of ConnectionService for syncs: durable jobs that bring records here and in a system of record in step."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from core.domain.errors import Invalid, NoCredentials, NotFound, SyncUnderWay, Violation, WrongState
from core.domain.nearest import did_you_mean
from core.rpc.admission import reach
from core.rpc.admission.permission import spender
from core.rpc.admission.reach import Reach
from core.rpc.call import Call
from core.rpc.connections.system_messages import DIRECTIONS, item_message, sync_message
from core.rpc.connections.systems import system_of
from core.store.systems import connections, credentials, syncs
from core.store.systems.syncs import OUTCOMES, SyncState
from dripstone.v1 import system_pb2 as pb


async def start_sync(request: pb.StartSyncRequest, call: Call) -> pb.Sync:
    """Begin a sync; it goes on by itself. Raises SyncUnderWay where the connection has one already."""
    row = await system_of(call.tx, request.connection_id, lock=True)
    settings = connections.system(row)
    mapped = [mapping.type for mapping in settings.mappings]
    violations = [
        Violation(
            f"types[{number}]",
            "UNKNOWN_RECORD_TYPE",
            f"{name[:40]} is not mapped",
            did_you_mean(name, mapped, f"Mapped are {', '.join(mapped)}."),
        )
        for number, name in enumerate(request.types)
        if name not in mapped
    ]
    if request.direction not in (pb.SYNC_DIRECTION_PULL, pb.SYNC_DIRECTION_PUSH, pb.SYNC_DIRECTION_BOTH):
        violations.append(Violation("direction", "REQUIRED", "is required and missing", "Say PULL, PUSH or BOTH."))
    if violations:
        raise Invalid(*violations)
    if settings.system != "http" and not await credentials.which(call.tx, [row.id]):
        raise NoCredentials(connection_id=row.id)
    types = [name for name in mapped if not request.types or name in request.types]
    begun = await syncs.begin(
        call.tx,
        row.id,
        DIRECTIONS[request.direction],
        types,
        whole=request.full,
        preview=request.preview,
        actor=call.caller.principal_id,
        spender=spender(call).plain(),
    )
    if begun is None:
        there = await syncs.open_of(call.tx, row.id)
        raise SyncUnderWay(connection_id=row.id, sync_id="" if there is None else there.id)
    message = sync_message(begun)
    if request.validate_only:
        message.ClearField("id")  # there will be none of this id
    return message


async def _reach(_call: Call, _request: pb.StartSyncRequest) -> Reach:
    return Reach(None)  # nobody knows before what has changed there


reach.register("ConnectionService.StartSync", _reach)


async def cancel_sync(request: pb.CancelSyncRequest, call: Call) -> pb.Sync:
    """Stop a sync; what was done stays. Raises WrongState where it is over."""
    row = await _get(call, request.sync_id, lock=True)
    if SyncState(row.state).over:
        raise WrongState(kind="sync", id=row.id, state=row.state, action="cancel")
    return sync_message(await syncs.end(call.tx, row.id, SyncState.CANCELLED))


async def get_sync(request: pb.GetSyncRequest, call: Call) -> pb.Sync:
    """Return a sync with its progress."""
    return sync_message(await _get(call, request.sync_id))


async def list_syncs(request: pb.ListSyncsRequest, call: Call) -> pb.ListSyncsResponse:
    """Return a page of syncs, newest first."""
    rows, token = await syncs.listed(call.tx, request.connection_id, request.page_size, request.page_token)
    return pb.ListSyncsResponse(syncs=[sync_message(row) for row in rows], next_page_token=token)


async def list_sync_items(request: pb.ListSyncItemsRequest, call: Call) -> pb.ListSyncItemsResponse:
    """Return a page of what became of records; those that were in step already are only counted."""
    await _get(call, request.sync_id)
    if request.outcome and request.outcome not in OUTCOMES:
        hint = did_you_mean(request.outcome, OUTCOMES, f"It is one of {', '.join(OUTCOMES)}.")
        raise Invalid(Violation("outcome", "UNKNOWN_VALUE", "there is no such outcome", hint))
    rows, token = await syncs.items(call.tx, request.sync_id, request.outcome, request.page_size, request.page_token)
    return pb.ListSyncItemsResponse(items=[item_message(row) for row in rows], next_page_token=token)


async def _get(call: Call, sync_id: str, *, lock: bool = False) -> Row[Any]:
    row = await syncs.get(call.tx, sync_id, lock=lock)
    if row is None:
        raise NotFound(kind="sync", id=sync_id)
    return row
