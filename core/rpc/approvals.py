"""Handlers of ApprovalService: what waits for a second principal, and its decision."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from core.domain.control import approval as rules
from core.domain.control.approval import ApprovalState
from core.domain.errors import NotFound
from core.rpc.call import Call
from core.rpc.convert import to_struct, to_timestamp
from core.rpc.listing import listed
from core.store import approvals as store
from core.store import enrollments
from dripstone.v1 import approval_pb2 as pb

_STATES = {state: pb.ApprovalState.Value(f"APPROVAL_STATE_{state.name}") for state in ApprovalState}
STEP = "step"
_FILTERED = {"state": "string", "subject_kind": "string", "subject_id": "string"}


async def get_approval(request: pb.GetApprovalRequest, call: Call) -> pb.Approval:
    """Return one approval."""
    return _message(await _get(call, request.approval_id))


async def list_approvals(request: pb.ListApprovalsRequest, call: Call) -> pb.ListApprovalsResponse:
    """Return a page of approvals, newest first."""
    rows, token = await listed(call.tx, request, select(store.approvals), store.approvals, _FILTERED)
    return pb.ListApprovalsResponse(approvals=[_message(row) for row in rows], next_page_token=token)


async def decide_approval(request: pb.DecideApprovalRequest, call: Call) -> pb.Approval:
    """Approve or reject; a step's enrollment moves on in the same transaction."""
    row = await _get(call, request.approval_id)
    is_step = row.subject_kind == STEP
    if is_step:
        # The engine holds an enrollment before it touches its approval; the other order could deadlock with it.
        await enrollments.get(call.tx, row.subject_id, lock=True)
    row = await _get(call, request.approval_id, lock=True)
    approved = request.decision == pb.APPROVAL_DECISION_APPROVE
    principal = call.caller.principal_id
    decided = rules.decide(
        store.to_domain(row),
        decider_id=principal,
        approved=approved,
        comment=request.comment,
        now=call.now,
        subject_hash=request.subject_hash,
    )
    if is_step and approved:
        decided = rules.use(decided, row.subject_hash)  # the enrollment moves on now: it is used at once
    await store.save(call.tx, decided)
    decision = "approved" if approved else "rejected"
    await store.announce_decision(call.tx, [row], decision, decider_id=principal, comment=request.comment)
    if is_step:
        await call.parts.engine.approval_decided(call.tx, row, approved, principal, request.comment)
    return _message(await _get(call, request.approval_id))


async def _get(call: Call, approval_id: str, *, lock: bool = False) -> Row[Any]:
    row = await store.get(call.tx, approval_id, lock=lock)
    if row is None:
        raise NotFound(kind="approval", id=approval_id)
    return row


def _message(row: Row[Any]) -> pb.Approval:
    return pb.Approval(
        id=row.id,
        subject_kind=row.subject_kind,
        subject_id=row.subject_id,
        title=row.title,
        details=to_struct(row.details),
        subject_hash=row.subject_hash,
        state=_STATES[ApprovalState(row.state)],
        requester_id=row.requester_id,
        decider_id=row.decider_id,
        comment=row.comment,
        create_time=to_timestamp(row.created_at),
        decide_time=to_timestamp(row.decided_at),
        expire_time=to_timestamp(row.expires_at),
    )
