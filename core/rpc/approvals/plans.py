"""Handlers of ApprovalService: plans, the previewed changes that are applied exactly or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from core.domain.control.plan import SAMPLE, PlanState, Risk
from core.domain.errors import NotFound, WrongState
from core.rpc.approvals import plan_kinds
from core.rpc.call import Call
from core.rpc.convert import to_struct, to_timestamp, to_value
from core.rpc.listing import listed
from core.store.control import approvals
from core.store.control import plans as store
from dripstone.v1 import plan_pb2 as pb

_STATES = {state.value: pb.PlanState.Value(f"PLAN_STATE_{state.name}") for state in PlanState}
_RISKS = {risk.value: pb.Risk.Value(f"RISK_{risk.name}") for risk in Risk}
_FILTERED = {"kind": "string", "state": "string", "requester_id": "string"}


async def get_plan(request: pb.GetPlanRequest, call: Call) -> pb.Plan:
    """Return a plan."""
    return await message(call, await _get(call, request.plan_id))


async def list_plans(request: pb.ListPlansRequest, call: Call) -> pb.ListPlansResponse:
    """Return a page of plans, newest first, without their items."""
    rows, token = await listed(call.tx, request, select(store.plans), store.plans, _FILTERED)
    return pb.ListPlansResponse(plans=[_message(row, call) for row in rows], next_page_token=token)


async def list_plan_items(request: pb.ListPlanItemsRequest, call: Call) -> pb.ListPlanItemsResponse:
    """Return a page of what a plan changes, or of what it leaves out and why."""
    row = await _get(call, request.plan_id)
    rows, token = await store.items(
        call.tx, row.id, request.page_size, request.page_token, excluded=True if request.excluded else None
    )
    return pb.ListPlanItemsResponse(items=_items(rows), next_page_token=token)


async def apply_plan(request: pb.ApplyPlanRequest, call: Call) -> pb.Plan:
    """Apply a plan exactly as previewed, or ask for the approval that its kind, a policy or its risk wants."""
    row = await plan_kinds.held(call, request.plan_id)
    plan_kinds.check_scope(call, row)
    done = await plan_kinds.carry_out(call, row, seen_hash=request.plan_hash)
    call.tx.answer_is_final = done.applied  # asked again under its key after the approval, it is carried out
    return await message(call, done.row)


async def cancel_plan(request: pb.CancelPlanRequest, call: Call) -> pb.Plan:
    """End a plan that was not applied, and withdraw the request for its approval."""
    row = await plan_kinds.held(call, request.plan_id)
    if row.state not in (PlanState.OPEN, PlanState.AWAITING_APPROVAL) or row.expires_at <= call.now:
        raise WrongState(kind="plan", id=row.id, state=_state(row, call), action="cancelling it")
    if row.approval_id:
        await approvals.cancel(call.tx, [(call.caller.org_id, row.approval_id)])
    await store.set_state(call.tx, row.id, PlanState.CANCELLED)
    return await message(call, await _get(call, row.id))


async def message(call: Call, row: Row[Any]) -> pb.Plan:
    """Return a plan with its first items."""
    sample, _ = await store.items(call.tx, row.id, SAMPLE)
    found = _message(row, call)
    found.sample_items.extend(_items(sample))
    return found


async def _get(call: Call, plan_id: str) -> Row[Any]:
    row = await store.get(call.tx, plan_id)
    if row is None:
        raise NotFound(kind="plan", id=plan_id)
    return row


def _state(row: Row[Any], call: Call) -> str:
    """Return where a plan is; upkeep may not have come by since its time was over."""
    standing = row.state in (PlanState.OPEN, PlanState.AWAITING_APPROVAL)
    return PlanState.EXPIRED.value if standing and row.expires_at <= call.now else str(row.state)


def _message(row: Row[Any], call: Call) -> pb.Plan:
    return pb.Plan(
        id=row.id,
        kind=row.kind,
        title=row.title,
        state=_STATES[_state(row, call)],
        hash=row.hash,
        risk=_RISKS[row.risk],
        item_count=row.item_count,
        excluded_count=row.excluded_count,
        counts=to_struct(row.counts),
        requester_id=row.requester_id,
        approval_id=row.approval_id,
        approval_reason=row.approval_reason,
        cause=plan_kinds.cause(row.id),
        create_time=to_timestamp(row.created_at),
        expire_time=to_timestamp(row.expires_at),
        apply_time=to_timestamp(row.applied_at),
    )


def _items(rows: Sequence[Row[Any]]) -> list[pb.PlanItem]:
    return [
        pb.PlanItem(
            record_id=row.record_id,
            title=row.title,
            changes=[
                pb.PlannedFieldChange(
                    field=one["field"], old_value=to_value(one["old"]), new_value=to_value(one["new"])
                )
                for one in row.changes
            ],
            excluded_reason=row.excluded_reason,
        )
        for row in rows
    ]
