"""Handlers of RecordService for records that are probably one and the same."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from core.domain.errors import NotFound, invalid
from core.domain.nearest import did_you_mean
from core.domain.records.duplicates import COMPARED, LEAST_LIKENESS, USUAL_LIKENESS
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.merging import duplicates
from core.store.records import records
from core.store.transaction import Transaction
from dripstone.v1 import duplicate_pb2 as pb


async def list_duplicates(request: pb.ListDuplicatesRequest, call: Call) -> pb.ListDuplicatesResponse:
    """Return a page of pairs, likeliest first; those of one record are looked for at once. Raises Invalid, NotFound."""
    if request.type not in COMPARED:
        hint = did_you_mean(request.type, COMPARED, f"Use one of {', '.join(COMPARED)}.")
        raise invalid("type", "UNKNOWN_VALUE", "is no type whose records are compared", hint)
    least = request.min_likeness or USUAL_LIKENESS
    if not LEAST_LIKENESS <= least <= 1:
        message = f"must be between {LEAST_LIKENESS} and 1"
        raise invalid("min_likeness", "OUT_OF_RANGE", message, f"Leave it out for {USUAL_LIKENESS}.")
    if request.record_id and await records.get(call.tx, request.record_id) is None:
        raise NotFound(kind="record", id=request.record_id)
    if not request.record_id or request.page_token:
        return await _page(call.tx, request, least)
    async with call.parts.database.write(call.caller.org_id) as tx:
        await duplicates.refresh(tx, [request.record_id])
        return await _page(tx, request, least)


async def _page(tx: Transaction, request: pb.ListDuplicatesRequest, least: float) -> pb.ListDuplicatesResponse:
    rows, token = await duplicates.page(
        tx, request.type, request.record_id, round(least * 1000), request.page_size, request.page_token
    )
    return pb.ListDuplicatesResponse(duplicates=map(_message, rows), next_page_token=token)


async def dismiss_duplicate(request: pb.DismissDuplicateRequest, call: Call) -> pb.DuplicatePair:
    """Note that a pair are two. Raises NotFound."""
    if await duplicates.get(call.tx, request.duplicate_id, lock=True) is None:
        raise NotFound(kind="pair of duplicates", id=request.duplicate_id)
    await duplicates.dismiss(call.tx, request.duplicate_id, call.caller.principal_id)
    pair = await duplicates.get(call.tx, request.duplicate_id)
    assert pair is not None
    return _message(pair)


def _message(row: Row[Any]) -> pb.DuplicatePair:
    return pb.DuplicatePair(
        id=row.id,
        type=row.record_type,
        first_id=row.first_id,
        second_id=row.second_id,
        likeness=row.likeness / 1000,
        reasons=[
            pb.DuplicateReason(field=field, first_value=first, second_value=second, likeness=likeness)
            for field, first, second, likeness in row.reasons
        ],
        dismissed=bool(row.dismissed_by),
        create_time=to_timestamp(row.created_at),
    )
