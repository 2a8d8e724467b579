"""Handlers of ApprovalService: what happens around a decision - remarks, handing it on, taking the request back."""

from __future__ import annotations

from core.domain.control import approval as rules
from core.domain.control.approval import ApprovalState
from core.domain.errors import NotFound, PermissionDenied, WrongState, invalid
from core.rpc.approvals import approval_messages, approvals
from core.rpc.call import Call
from core.store.control import approval_subjects, approval_votes, electors
from core.store.control import approvals as store
from core.store.organizations import members
from dripstone.v1 import approval_pb2 as pb


async def comment_approval(request: pb.CommentApprovalRequest, call: Call) -> pb.Approval:
    """Add a remark without deciding. Raises WrongState when there are too many."""
    row = await approvals.get(call, request.approval_id, lock=True)
    await approval_votes.add(call.tx, row.id, call.caller.principal_id, comment=request.text)
    return await approval_messages.message(call, row)


async def delegate_approval(request: pb.DelegateApprovalRequest, call: Call) -> pb.Approval:
    """Hand one's own decision to another member; never to or from who asked, nor in a ring."""
    row, approval, decider, requester, asked = await approvals.held(call, request.approval_id)
    if await members.get_active(call.tx, request.member_id) is None:
        raise NotFound(kind="member", id=request.member_id)
    if request.member_id == decider.id:
        raise invalid("member_id", "IS_CALLER", "is you", "Name another member, or decide yourself.")
    to = (await electors.parties(call.tx, [request.member_id]))[request.member_id]
    handed = rules.delegate(approval, decider, to, now=call.now, requester=requester, electors=asked)
    await store.save(call.tx, handed)
    said = f"Handed the decision to {request.member_id}." + (f" {request.comment}" if request.comment else "")
    await approval_votes.add(call.tx, row.id, decider.id, comment=said)
    return await approval_messages.message(call, await approvals.get(call, row.id))


async def cancel_approval(request: pb.CancelApprovalRequest, call: Call) -> pb.Approval:
    """Take a request back: one's own, or any for an admin. A step's is the workflow's, and ends with its enrollment."""
    row = await approvals.get(call, request.approval_id)
    await approval_subjects.hold(call.tx, row.subject_kind, [(call.caller.org_id, row.subject_id)])
    row = await approvals.get(call, request.approval_id, lock=True)
    own = row.requester_id == call.caller.principal_id
    if not own and call.caller.role != "admin":
        raise PermissionDenied(principal=call.caller.display_name, why="it did not ask for this approval")
    if row.subject_kind == store.STEP:
        raise WrongState(
            kind="approval", id=row.id, state="asked for by a workflow", action="taking it back; cancel its enrollment"
        )
    if row.state != ApprovalState.PENDING.value:
        raise WrongState(kind="approval", id=row.id, state=row.state, action="taking it back")
    await store.cancel(call.tx, [(call.caller.org_id, row.id)])
    return await approval_messages.message(call, await approvals.get(call, row.id))
