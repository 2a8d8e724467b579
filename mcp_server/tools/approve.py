"""The approve toolset: see what waits for a decision, and decide what others asked for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from dripstone.v1 import approval_pb2
from dripstone.v1.approval_pb2 import Approval, ApprovalState
from dripstone.v1.client import Client
from mcp_server.tool import Answer, Cursor, IdempotencyKey, Mode, Toolset, WriteAnswer, committing, lines, settled
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


@APPROVE.tool("list-approvals", "List approvals", "ApprovalService.ListApprovals", read_only=True)
async def list_approvals(
    client: Client,
    state: Literal["pending", "approved", "rejected", "expired", "used", "cancelled", "all"] = "pending",
    limit: Annotated[int, Field(ge=1, le=20)] = 5,
    cursor: Cursor = "",
) -> Approvals:
    """List decisions that wait for a person, newest first, with what is to be decided and who asked."""
    answer = await client.approvals.ListApprovals(
        approval_pb2.ListApprovalsRequest(filter=in_state(state), page_size=limit, page_token=cursor)
    )
    found = [
        ApprovalSummary(
            approval_id=approval.id,
            title=clip(approval.title),
            state=_state(approval),
            subject=_subject(approval),
            subject_hash=approval.subject_hash,
            requester_id=approval.requester_id,
            decider_id=approval.decider_id,
            comment=clip(approval.comment),
            details=fit(from_struct(approval.details), 600),
            expires=instant(approval.expire_time),
        )
        for approval in answer.approvals
    ]
    pending = state == "pending" and found
    following = "Show the person; whoever did not ask may answer with decide-approval." if pending else ""
    return Approvals(approvals=found, next_cursor=answer.next_page_token, next=following)


@APPROVE.tool(
    "decide-approval",
    "Decide an approval",
    "ApprovalService.DecideApproval",
    destructive=True,
    idempotent=True,
    open_world=True,
)
async def decide_approval(
    client: Client,
    approval_id: Annotated[str, Field(description="apr_…")],
    decision: Literal["approve", "reject"],
    subject_hash: Annotated[str, Field(min_length=1, description="from list-approvals: what the decider saw")],
    comment: Annotated[str, Field(max_length=2000, description="why, for the record")] = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> DecisionAnswer:
    """Record a person's decision on what another principal asked for. Only when the person decided it; once only."""
    approval, replayed = await settled(
        client.approvals.DecideApproval(
            approval_pb2.DecideApprovalRequest(
                approval_id=approval_id,
                decision=_DECISIONS[decision],
                comment=comment,
                subject_hash=subject_hash,
                request_id=committing(mode, idempotency_key),
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
            comment=comment,
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
