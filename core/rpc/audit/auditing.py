"""Handlers of AuditService for the log itself: reading it, taking it out, checking its chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from sqlalchemy import Row

from core.domain.control import audit as chain
from core.domain.control.audit import Seal
from core.domain.errors import NotFound, invalid
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.rpc.listing import listed
from core.store.control import audit as store
from core.store.control.audit_chain import day_before
from core.store.transaction import Transaction
from dripstone.v1 import audit_pb2 as pb

CHECKED_AT_ONCE = 50_000
"""Entries that one call checks."""

_TOGETHER = 500
"""Entries in memory at once."""


async def list_audit_entries(request: pb.ListAuditEntriesRequest, call: Call) -> pb.ListAuditEntriesResponse:
    """Return a page of entries, newest first; those of the last second may have no place in the chain yet."""
    rows, token = await listed(call.tx, request, store.listing(), store.audit_entries, store.FILTERED)
    return pb.ListAuditEntriesResponse(entries=[_message(row) for row in rows], next_page_token=token)


async def get_audit_entry(request: pb.GetAuditEntryRequest, call: Call) -> pb.AuditEntry:
    """Return one entry."""
    row = await store.get(call.tx, request.entry_id)
    if row is None:
        raise NotFound(kind="audit entry", id=request.entry_id)
    return _message(row)


async def get_audit_head(request: pb.GetAuditHeadRequest, call: Call) -> pb.AuditHead:
    """Return the end of the chain."""
    head = await store.head(call.tx)
    count = await store.unsealed_count(call.tx)
    if head is None:
        return pb.AuditHead(unsealed_count=count)
    sealed = to_timestamp(head.sealed_at) if head.sequence else None
    return pb.AuditHead(sequence=head.sequence, hash=head.hash, create_time=sealed, unsealed_count=count)


async def export_audit(request: pb.ExportAuditRequest, call: Call) -> AsyncIterator[pb.ExportAuditResponse]:
    """Stream what is sealed, in the order of the chain; each part is read in a transaction of its own."""
    _not_negative("after_sequence", request.after_sequence)
    after, since_day = request.after_sequence, 0
    while True:
        async with call.parts.database.read(call.caller.org_id) as tx:
            rows = await store.after(tx, after, _TOGETHER, since_day=since_day)
        if not rows:
            return
        after, since_day = rows[-1].sequence, day_before(rows[-1])
        lines = "".join(_line(row) + "\n" for row in rows)
        yield pb.ExportAuditResponse(content=lines.encode(), sequence=after, content_type="application/x-ndjson")
        if len(rows) < _TOGETHER:
            return


async def get_audit_verification(request: pb.GetAuditVerificationRequest, call: Call) -> pb.AuditVerification:
    """Check the chain from an entry on, up to the head or to as many as one call checks."""
    _not_negative("from_sequence", request.from_sequence)
    head = await store.head(call.tx)
    if head is None:
        return pb.AuditVerification(intact=True)
    last = Seal(head.anchor_sequence, head.anchor_hash)
    if request.from_sequence - 1 > last.sequence:
        last = await _believed(call.tx, request.from_sequence - 1)
    checked, since_day = 0, 0
    while checked < CHECKED_AT_ONCE and last.sequence < head.sequence:
        rows = await store.after(call.tx, last.sequence, _TOGETHER, since_day=since_day)
        for row in rows:
            if problem := _problem(row, last):
                broken = min(row.sequence, last.sequence + 1)
                return pb.AuditVerification(checked_count=checked, broken_sequence=broken, problem=problem)
            checked, last = checked + 1, Seal(row.sequence, row.hash)
        if not rows:
            problem = f"the head is entry {head.sequence}, but entry {last.sequence + 1} is missing"
            return pb.AuditVerification(checked_count=checked, broken_sequence=last.sequence + 1, problem=problem)
        since_day = day_before(rows[-1])
    if last.sequence == head.sequence and last.hash != head.hash:
        problem = f"entry {last.sequence} has another hash than the head"
        return pb.AuditVerification(checked_count=checked, broken_sequence=last.sequence, problem=problem)
    more = last.sequence + 1 if last.sequence < head.sequence else 0
    return pb.AuditVerification(intact=True, checked_count=checked, next_sequence=more)


async def _believed(tx: Transaction, sequence: int) -> Seal:
    """Return the place of an entry as it is stored. Raises Invalid where there is none."""
    rows: Sequence[Row[Any]] = await store.after(tx, sequence - 1, 1)
    if not rows or rows[0].sequence != sequence:
        message, hint = f"there is no entry {sequence} before it", "GetAuditHead tells the last entry."
        raise invalid("from_sequence", "OUT_OF_RANGE", message, hint)
    return Seal(sequence, rows[0].hash)


def _problem(row: Row[Any], before: Seal) -> str:
    """Return what is wrong with an entry that should follow another one; empty where it does."""
    if row.sequence != before.sequence + 1:
        return f"entry {before.sequence + 1} is missing or there is another entry {row.sequence}"
    if row.previous_hash != before.hash:
        return f"entry {row.sequence} does not follow the entry before it"
    if chain.seal(store.entry_of(row), before).hash != row.hash:
        return f"entry {row.sequence} is not what its hash was made of"
    return ""


def _not_negative(field: str, number: int) -> None:
    if number < 0:
        raise invalid(field, "NEGATIVE", "must not be negative", "Leave it out to begin at the beginning.")


def _line(row: Row[Any]) -> str:
    return chain.line(store.entry_of(row), row.sequence, row.previous_hash, row.hash)


def _message(row: Row[Any]) -> pb.AuditEntry:
    return pb.AuditEntry(
        id=row.id,
        sequence=row.sequence or 0,
        principal_id=row.principal_id,
        principal_kind=row.principal_kind,
        on_behalf_of=row.on_behalf_of,
        method=row.method,
        surface=row.surface,
        request_id=row.request_id,
        subject_id=row.subject_id,
        summary=row.summary,
        reason=row.reason,
        request_digest=row.request_digest,
        before_digest=row.before_digest,
        after_digest=row.after_digest,
        previous_hash=row.previous_hash,
        hash=row.hash,
        create_time=to_timestamp(row.create_time),
    )
