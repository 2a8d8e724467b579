"""Handlers of ApprovalService: what waits for others to decide, and their decisions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from core.domain.control import approval as rules
from core.domain.control.approval import Approval, ApprovalState, Electors, Party
from core.domain.errors import NotFound, PermissionDenied
from core.rpc.approvals import approval_messages
from core.rpc.call import Call
from core.rpc.changes import expect
from core.rpc.listing import listed
from core.store.control import approval_subjects, approval_votes, electors, plans
from core.store.control import approvals as store
from core.store.control.approval_subjects import Settlement
from core.store.workflows import enrollments
from dripstone.v1 import approval_pb2 as pb

STEP = store.STEP
_FILTERED = {"state": "string", "subject_kind": "string", "subject_id": "string"}


async def get_approval(request: pb.GetApprovalRequest, call: Call) -> pb.Approval:
    """Return one approval."""
    return await approval_messages.message(call, await get(call, request.approval_id))


async def list_approvals(request: pb.ListApprovalsRequest, call: Call) -> pb.ListApprovalsResponse:
    """Return a page of approvals, newest first."""
    rows, token = await listed(call.tx, request, select(store.approvals), store.approvals, _FILTERED)
    return pb.ListApprovalsResponse(approvals=await approval_messages.messages(call, rows), next_page_token=token)


async def decide_approval(request: pb.DecideApprovalRequest, call: Call) -> pb.Approval:
    """Vote; once enough agree, or one objects, what was asked for goes on in the same transaction."""
    row = await get(call, request.approval_id)
    is_step = row.subject_kind == STEP
    if is_step:
        # The engine holds an enrollment before it touches its approval; the other order could deadlock with it.
        await enrollments.get(call.tx, row.subject_id, lock=True)
    else:
        await approval_subjects.hold(call.tx, row.subject_kind, [(call.caller.org_id, row.subject_id)])
    row, approval, decider, requester, asked = await held(call, request.approval_id)
    if row.subject_kind == plans.SUBJECT:
        await _check_not_made_by(call, row.subject_id, decider)
    approved = request.decision == pb.APPROVAL_DECISION_APPROVE
    decided = rules.decide(
        approval,
        decider,
        approved=approved,
        comment=request.comment,
        now=call.now,
        requester=requester,
        electors=asked,
        subject_hash=request.subject_hash,
    )
    votes = (await approval_votes.of(call.tx, [row.id]))[row.id]
    expect("approval", row.id, given=request.etag, current=approval_messages.etag(row, votes))
    await approval_votes.add(
        call.tx,
        row.id,
        decider.id,
        decision="approve" if approved else "reject",
        comment=request.comment,
        on_behalf_of=_on_behalf_of(approval, asked, decider.id),
        behind=decider.behind,
    )
    if decided.state is not ApprovalState.PENDING:
        await _settle(call, row, decided, approved, request.comment)
    return await approval_messages.message(call, await get(call, row.id))


async def _check_not_made_by(call: Call, plan_id: str, decider: Party) -> None:
    """Check that who decides did not make the plan either: somebody else may have asked to apply it."""
    plan = await plans.get(call.tx, plan_id)
    if plan is None:
        return
    maker = (await electors.parties(call.tx, [plan.requester_id]))[plan.requester_id]
    if decider.is_same_as(maker):
        raise PermissionDenied(principal=decider.id, why="it made the plan, so another principal must decide")


async def _settle(call: Call, row: Row[Any], decided: Approval, approved: bool, comment: str) -> None:
    """Write a decision and let what follows happen."""
    is_step = row.subject_kind == STEP
    kept = decided
    if approved and (is_step or approval_subjects.used_at_once(row.subject_kind)):
        kept = rules.use(decided, row.subject_hash)  # what was approved happens now
    await store.save(call.tx, kept)
    principal = call.caller.principal_id
    decision = "approved" if approved else "rejected"
    await store.announce_decision(call.tx, [row], decision, decider_id=principal, comment=comment)
    if is_step:
        await call.parts.engine.approval_decided(call.tx, row, approved, principal, comment)
    else:
        await approval_subjects.settle(call.tx, row, Settlement(decided.state, principal, comment))


def _on_behalf_of(approval: Approval, asked: Electors, principal_id: str) -> str:
    """Return whose decision it is, where that is not the voter's own alone."""
    others = [who for who in rules.stands_for(approval, asked, principal_id) if who != principal_id]
    return ", ".join(others)


async def held(call: Call, approval_id: str) -> tuple[Row[Any], Approval, Party, Party, Electors]:
    """Return an approval, held by this transaction, who decides, who asked, and who is asked. Raises NotFound."""
    row = await get(call, approval_id, lock=True)
    approval = store.to_domain(row, (await approval_votes.of(call.tx, [row.id]))[row.id])
    known = await electors.parties(call.tx, {row.requester_id})
    asked = await electors.of(call.tx, approval)
    return row, approval, await approval_messages.party(call, row.id), known[row.requester_id], asked


async def get(call: Call, approval_id: str, *, lock: bool = False) -> Row[Any]:
    """Return an approval. Raises NotFound."""
    row = await store.get(call.tx, approval_id, lock=lock)
    if row is None:
        raise NotFound(kind="approval", id=approval_id)
    return row
