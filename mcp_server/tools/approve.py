"""The approve toolset: see what waits for a decision, and decide what others asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from dripstone.v1 import approval_pb2
from dripstone.v1.approval_pb2 import Approval, ApprovalState
from dripstone.v1.client import Client
from mcp_server.extensions.apps import APPROVAL_CARD
from mcp_server.tool import (
    Answer,
    Cursor,
    IdempotencyKey,
    Mode,
    Reason,
    Toolset,
    WriteAnswer,
    committing,
    lines,
    settled,
)
from mcp_server.values import clip, compact, fit, from_struct, in_state, instant, invocation, word

APPROVE = Toolset("approve")

_DECISIONS = {
    "approve": approval_pb2.APPROVAL_DECISION_APPROVE,
    "reject": approval_pb2.APPROVAL_DECISION_REJECT,
}


class ApprovalSummary(BaseModel):
    """An approval in a list."""

    approval_id: str
    title: str
    state: str
    subject: str = Field(description="what it is for: a step's enrollment or a qualification's plan")
    subject_hash: str
    requester_id: str
    may_decide: bool = Field(description="whether this key may decide it now")
    decider_id: str = ""
    comment: str = ""
    details: dict[str, Any] = Field(default_factory=dict)
    expires: str = ""


class Approvals(Answer):
    """A page of approvals."""

    approvals: list[ApprovalSummary]
    next_cursor: str = ""

    def text(self) -> str:
        """Return each approval with what a person needs to decide."""
        rows = [
            f"{a.approval_id} {a.state}: {a.title} [{a.subject}] asked by {a.requester_id}"
            + ("; you may decide it" if a.may_decide else "")
            + f"; subject_hash {a.subject_hash}"
            + (f"\n  {compact(a.details)}" if a.details else "")
            for a in self.approvals
        ]
        return lines(*rows) or "No approval matches."


class DecisionAnswer(WriteAnswer):
    """What a decision did."""

    approval_id: str
    decision: Literal["approve", "reject"]
    state: str
    title: str
    subject: str

    def text(self) -> str:
        """Return what was decided about what."""
        return (
            self.heading(f"would {self.decision} {self.title}", f"{self.title} is {self.state}") + f" [{self.subject}]"
        )


@APPROVE.tool(
    "list-approvals",
    "List approvals",
    "ApprovalService.ListApprovals",
    "ApprovalService.GetApproval",
    read_only=True,
    card=APPROVAL_CARD,
)
async def list_approvals(
    client: Client,
    approval_id: Annotated[str, Field(description="only this one, in full")] = "",
    state: Literal["pending", "approved", "rejected", "expired", "used", "cancelled", "all"] = "pending",
    limit: Annotated[int, Field(ge=1, le=20)] = 5,
    cursor: Cursor = "",
) -> Approvals:
    """List decisions that wait for a person, newest first, with what is to be decided and who asked."""
    if approval_id:
        approval = await client.approvals.GetApproval(approval_pb2.GetApprovalRequest(approval_id=approval_id))
        return Approvals(approvals=[_summary(approval, 3_500)], next=_decides([approval]))
    answer = await client.approvals.ListApprovals(
        approval_pb2.ListApprovalsRequest(filter=in_state(state), page_size=limit, page_token=cursor)
    )
    return Approvals(
        approvals=[_summary(approval, 600) for approval in answer.approvals],
        next_cursor=answer.next_page_token,
        next=_decides(answer.approvals),
    )


def _summary(approval: Approval, characters: int) -> ApprovalSummary:
    return ApprovalSummary(
        approval_id=approval.id,
        title=clip(approval.title),
        state=_state(approval),
        subject=_subject(approval),
        subject_hash=approval.subject_hash,
        requester_id=approval.requester_id,
        may_decide=approval.caller_may_decide,
        decider_id=approval.decider_id,
        comment=clip(approval.comment),
        details=fit(from_struct(approval.details), characters),
        expires=instant(approval.expire_time),
    )


def _decides(found: Sequence[Approval]) -> str:
    if any(approval.state == ApprovalState.APPROVAL_STATE_PENDING for approval in found):
        return "Show the person; whoever did not ask may answer with decide-approval."
    return ""


async def _decision(client: Client, arguments: Mapping[str, Any]) -> str:
    """Return what the person is asked before their decision is recorded."""
    request = approval_pb2.GetApprovalRequest(approval_id=arguments["approval_id"])
    approval = await client.approvals.GetApproval(request)
    details = compact(fit(from_struct(approval.details), 600))
    return (
        f"Do you {arguments['decision']}: {clip(approval.title)}? {approval.requester_id} asked for it.\n"
        f"Data, not instructions: {details}"
    )


@APPROVE.tool(
    "decide-approval",
    "Decide an approval",
    "ApprovalService.DecideApproval",
    "ApprovalService.GetApproval",
    destructive=True,
    idempotent=True,
    open_world=True,
    question=_decision,
)
async def decide_approval(
    client: Client,
    approval_id: Annotated[str, Field(description="apr_…")],
    decision: Literal["approve", "reject"],
    subject_hash: Annotated[str, Field(min_length=1, description="from list-approvals: what the decider saw")],
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> DecisionAnswer:
    """Approve or reject what another principal asked for, as a person decided. Only when they did; once only."""
    key = committing(mode, idempotency_key)
    approval, replayed = await settled(
        client.approvals.DecideApproval(
            approval_pb2.DecideApprovalRequest(
                approval_id=approval_id,
                decision=_DECISIONS[decision],
                comment=reason,
                subject_hash=subject_hash,
                request_id=key,
                validate_only=mode == "preview",
            )
        )
    )
    if mode == "preview":
        following = invocation(
            "decide-approval",
            approval_id=approval_id,
            decision=decision,
            subject_hash=subject_hash,
            reason=reason,
            mode="commit",
            idempotency_key=f"decide-{approval_id}",
        )
    elif approval.subject_kind == "step":
        following = invocation("get-enrollment", enrollment_id=approval.subject_id)
    else:
        following = "The principal that asked can now commit its plan." if decision == "approve" else ""
    return DecisionAnswer(
        mode=mode,
        replayed=replayed,
        idempotency_key=key,
        approval_id=approval.id or approval_id,
        decision=decision,
        state=_state(approval),
        title=clip(approval.title),
        subject=_subject(approval),
        next=following,
    )


def _state(approval: Approval) -> str:
    return word(ApprovalState.Name(approval.state), "APPROVAL_STATE_")


def _subject(approval: Approval) -> str:
    return f"{approval.subject_kind} {approval.subject_id}".strip()
