"""Handlers of RecordService for the feed of changes, and for taking changes back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from core.domain.control.plan import Item, Risk, Weighed
from core.domain.errors import NotFound, TooMuchToRevert, invalid
from core.rpc.admission import reach
from core.rpc.admission.reach import Reach
from core.rpc.approvals import plan_kinds
from core.rpc.call import Call
from core.rpc.convert import to_timestamp, to_value
from core.rpc.records.caused import meant
from core.rpc.records.deleting import end_enrollments
from core.rpc.records.records import cause_of, change_message
from core.store.merging.merging import lock_work
from core.store.records import change_feed, reverting
from core.store.records import record_schema as schemas
from core.store.records.record_rows import Written
from core.store.records.reverting import MOST_RECORDS, Named, Reverting
from dripstone.v1 import record_pb2 as pb

_SHOWN = 1_000
"""Changes and conflicts of one answer."""
_MANY = 100
"""Records from which on a person may want to look first."""


async def list_change_events(request: pb.ListChangeEventsRequest, call: Call) -> pb.ListChangeEventsResponse:
    """Return the changes after a place, oldest first. Raises NoSuchCall, and Invalid for a token of another list."""
    rows, token = await change_feed.page(
        call.tx,
        request.page_size,
        request.page_token,
        record_type=request.record_type,
        record_id=request.record_id,
        cause=await meant(call, request.cause),
    )
    return pb.ListChangeEventsResponse(changes=[change_message(row) for row in rows], next_page_token=token)


async def revert_changes(request: pb.RevertChangesRequest, call: Call) -> pb.RevertChangesResponse:
    """Take changes back, or plan it, or carry such a plan out.

    Raises Invalid, NotFound, TooMuchToRevert, and what carrying a plan out raises.
    """
    given = [bool(request.change_ids), bool(request.cause), bool(request.plan_id)]
    if sum(given) != 1:
        hint = "Send change_ids, a cause, or the plan_id of a preview."
        raise invalid("change_ids", "REQUIRED", "exactly one of change_ids, cause and plan_id must be given", hint)
    if request.plan_id:
        return await _carry_out(request, call)
    named = Named(frozenset(request.change_ids), await meant(call, request.cause))
    record_ids = await _records(call, named)
    if request.preview and len(record_ids) > MOST_RECORDS:
        raise TooMuchToRevert(limit=f"{MOST_RECORDS:,} records", cause=request.cause or "these changes")
    if request.preview:
        weighed = await _weighed(call, named, record_ids)
        body = {"change_ids": sorted(named.change_ids), "cause": named.cause, "reason": request.reason}
        row = await plan_kinds.keep(call, "revert", weighed, body)
        return _answer(call, weighed.found, plan_id=row.id)
    await _hold_work(call, record_ids[:MOST_RECORDS])
    found = await reverting.look(call.tx, named, record_ids[:MOST_RECORDS])
    done = await _write(call, found, cause_of(call, request.reason))
    more = len(record_ids) > MOST_RECORDS and bool(done)
    return _answer(call, found, done, applied=True, more=more, cause=cause_of(call, request.reason))


async def _records(call: Call, named: Named) -> list[str]:
    """Return the records concerned. Raises NotFound for single changes that there are not."""
    missing = await change_feed.missing(call.tx, named.change_ids)
    if missing:
        raise NotFound(kind="change", id=missing[0])
    return await reverting.records_of(call.tx, named)


async def _carry_out(request: pb.RevertChangesRequest, call: Call) -> pb.RevertChangesResponse:
    row = await plan_kinds.held(call, request.plan_id, "revert")
    done = await plan_kinds.carry_out(call, row)
    call.tx.answer_is_final = done.applied  # asked again under its key after the approval, it is carried out
    cause = plan_kinds.cause(row.id)
    written: list[Written] = done.result or []
    return _answer(
        call,
        done.weighed.found,
        written,
        plan_id=row.id,
        applied=done.applied,
        approval_id=done.approval_id,
        cause=cause,
    )


async def _weigh(call: Call, row: Row[Any]) -> Weighed:
    named = Named(frozenset(row.body["change_ids"]), row.body["cause"])
    record_ids = (await reverting.records_of(call.tx, named))[:MOST_RECORDS]
    await _hold_work(call, record_ids)
    return await _weighed(call, named, record_ids)


async def _hold_work(call: Call, record_ids: Sequence[str]) -> None:
    """Hold what loops do for contacts that may go: before their records, which is the order of the loops."""
    contacts = [one for one in record_ids if one.startswith("cnt_")]
    if contacts:
        await lock_work(call.tx, *contacts)


async def _weighed(call: Call, named: Named, record_ids: Sequence[str]) -> Weighed:
    found = await reverting.look(call.tx, named, record_ids)
    schema = await schemas.of(call.tx)
    items = []
    for one in found:
        stays = [[stay.change.id, stay.reason] for stay in one.way.stays]
        changes = tuple(one.way.changes(one.record.fields))
        why = "" if changes else ", ".join(sorted({stay.reason for stay in one.way.stays})) or "NOTHING_TO_DO"
        title = schema.of(one.record.type).title(one.record.fields)
        items.append(Item(one.record.id, title, changes, why, read=[one.record.etag, stays]))
    number = sum(len(taken) for one in found for taken in one.way.taken_back.values())
    what = f"everything of {named.cause}" if named.cause else "single changes"
    return Weighed(
        title=f"Take back {number:,} changes of {len(found):,} records: {what}"[:200],
        items=items,
        read={"change_ids": sorted(named.change_ids), "cause": named.cause},
        risk=Risk.MEDIUM if len(found) > _MANY else Risk.LOW,
        found=found,
    )


async def _apply(call: Call, row: Row[Any], weighed: Weighed) -> list[Written]:
    return await _write(call, weighed.found, plan_kinds.cause(row.id))


async def _reach(call: Call, request: pb.RevertChangesRequest) -> Reach | None:
    """Return what of a cause, or of single changes, would be taken back now."""
    if request.plan_id:
        return None
    named = Named(frozenset(request.change_ids), await meant(call, request.cause))
    return Reach.of([await reverting.extent(call.tx, named)], len(await reverting.records_of(call.tx, named)))


reach.register("RecordService.RevertChanges", _reach)
plan_kinds.register(
    plan_kinds.PlanKind("revert", "records:write", _weigh, _apply, method="RecordService.RevertChanges")
)


async def _write(call: Call, found: Sequence[Reverting], cause: str) -> list[Written]:
    going = [one.record.id for one in found if one.way.deleted and one.record.type == "contact"]
    await end_enrollments(call, going, "The contact was deleted, for what made it was taken back.")
    return await reverting.carry_out(call.tx, found, actor=call.caller.principal_id, cause=cause)


def _answer(
    call: Call,
    found: Sequence[Reverting],
    done: Sequence[Written] = (),
    *,
    plan_id: str = "",
    applied: bool = False,
    more: bool = False,
    approval_id: str = "",
    cause: str = "",
) -> pb.RevertChangesResponse:
    """Return what was taken back, or what would be."""
    changes = _done(done, call, cause) if applied else _planned(found)
    stays = reverting.conflicts_of(found)
    conflicts = [
        pb.RevertConflict(**{**one, "current_value": to_value(one["current_value"])}) for one in stays[:_SHOWN]
    ]
    return pb.RevertChangesResponse(
        changes=changes[:_SHOWN],
        conflicts=conflicts,
        plan_id=plan_id,
        applied=applied,
        change_count=len(changes),
        conflict_count=len(stays),
        more=more,
        approval_id=approval_id,
        authors=_authors(call, found),
    )


def _authors(call: Call, found: Sequence[Reverting]) -> list[pb.ChangeAuthor]:
    """Return whose changes are taken back: nobody should take back another's work without knowing."""
    counts = Counter(change.actor for one in found for change in one.taken_back)
    me = call.caller.principal_id
    return [pb.ChangeAuthor(actor=who, change_count=count, is_caller=who == me) for who, count in counts.most_common()]


def _done(done: Sequence[Written], call: Call, cause: str) -> list[pb.RecordChange]:
    return [
        pb.RecordChange(
            id=change_id,
            record_id=item.record.id,
            record_type=item.record.type,
            field=change.field,
            old_value=to_value(change.old),
            new_value=to_value(change.new),
            actor=call.caller.principal_id,
            cause=cause,
            create_time=to_timestamp(call.tx.now),
        )
        for item in done
        for change_id, change in zip(item.change_ids, item.changes, strict=True)
    ]


def _planned(found: Sequence[Reverting]) -> list[pb.RecordChange]:
    return [
        pb.RecordChange(
            record_id=one.record.id,
            record_type=one.record.type,
            field=change.field,
            old_value=to_value(change.old),
            new_value=to_value(change.new),
        )
        for one in found
        for change in one.way.changes(one.record.fields)
    ]
