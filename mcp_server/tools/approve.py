"""The approve toolset: see what waits for a decision, and decide what others asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PrivateAttr

from dripstone.v1 import approval_pb2
from dripstone.v1.approval_pb2 import Approval, ApprovalState
from dripstone.v1.client import Client
from mcp_server.confirmation import Person, person
from mcp_server.decisions import (
    ELSEWHERE,
    MOST_ASKED,
    MOST_LISTED,
    asked,
    heading,
    state_of,
    subject_of,
    told,
)
from mcp_server.extensions.apps import APPROVAL_CARD
from mcp_server.refusals import Refusal, Refused
from mcp_server.tool import (
    Answer,
    Cursor,
    IdempotencyKey,
    Mode,
    Previewed,
    Reason,
    Toolset,
    WriteAnswer,
    committing,
    lines,
    settled,
)
from mcp_server.values import (
    clip,
    compact,
    etag_of,
    fit,
    from_struct,
    in_state,
    instant,
    invocation,
    page_after,
    version_of,
)

APPROVE = Toolset("approve")

_ROOM = 5_000
"""Characters of an answer that approvals share."""

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
    cut: bool = Field(default=False, description="whether details are not all there is")
    expires: str = ""
    _heading: str = PrivateAttr(default="")
    _told: str = PrivateAttr(default="")

    def line(self) -> str:
        """Return what a person needs to decide, in our words first."""
        indented = "\n".join(f"  {line}" for line in self._told.splitlines())
        said = f"\n  {self.decider_id} said: {compact(self.comment)}" if self.comment else ""
        return f"{self._heading}\n{indented}{said}"


class Approvals(Answer):
    """A page of approvals."""

    approvals: list[ApprovalSummary]
    next_cursor: str = ""

    def text(self) -> str:
        """Return each approval with what a person needs to decide; every word of others is in quotes."""
        return lines(*(approval.line() for approval in self.approvals)) or "No approval matches."


class DecisionAnswer(WriteAnswer):
    """What a decision did."""

    approval_id: str
    decision: Literal["approve", "reject"]
    state: str
    title: str
    subject: str
    version: str = Field(default="", description="of a preview, for if_version")

    def text(self) -> str:
        """Return what was decided about what."""
        what = f"{self.approval_id} for {self.subject}"
        done = self.heading(f"would {self.decision} {what}", f"{what} is {self.state}")
        return f"{done}; title: {compact(self.title)}"


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
    """List pending requests that need a person's sign-off (a manager's decision), what is asked and who asked."""
    if approval_id:
        approval = await client.approvals.GetApproval(approval_pb2.GetApprovalRequest(approval_id=approval_id))
        return Approvals(approvals=[_summary(approval, MOST_ASKED, _ROOM)], next=_decides([approval]))
    answer = await client.approvals.ListApprovals(
        approval_pb2.ListApprovalsRequest(filter=in_state(state), page_size=limit, page_token=cursor)
    )
    share = _ROOM // max(1, len(answer.approvals))
    return Approvals(
        approvals=[_summary(approval, MOST_LISTED, share) for approval in answer.approvals],
        next_cursor=answer.next_page_token,
        more=page_after(answer.next_page_token, "list-approvals", state=state, limit=limit),
        next=_decides(answer.approvals),
    )


def _summary(approval: Approval, most: int, characters: int) -> ApprovalSummary:
    details = from_struct(approval.details)
    shown = fit(details, max(300, characters - 450))
    found = ApprovalSummary(
        approval_id=approval.id,
        title=clip(approval.title),
        state=state_of(approval),
        subject=subject_of(approval),
        subject_hash=approval.subject_hash,
        requester_id=approval.requester_id,
        may_decide=approval.caller_may_decide,
        decider_id=approval.decider_id,
        comment=clip(approval.comment),
        details=shown,
        cut=shown != details,
        expires=instant(approval.expire_time),
    )
    found._heading, found._told = heading(approval), told(approval, most=most, longest=max(300, characters - 350)).text
    return found


def _decides(found: Sequence[Approval]) -> str:
    if any(approval.state == ApprovalState.APPROVAL_STATE_PENDING for approval in found):
        return "Show the person; whoever did not ask may answer with decide-approval."
    return ""


async def _decision(client: Client, arguments: Mapping[str, Any]) -> str:
    """Return what the person is asked before their decision is recorded: all of it, or nothing."""
    request = approval_pb2.GetApprovalRequest(approval_id=arguments["approval_id"])
    approval = await client.approvals.GetApproval(request)
    return asked(approval, arguments["decision"]) if approval.caller_may_decide else ""


def _barred(approval: Approval, decision: str, mode: Mode) -> Refusal | None:
    """Return why a decision that its caller may make cannot be made by this call; None where it can.

    It is a person's, who has seen all that they agree to, unless a policy trusts the caller with it.
    """
    if not approval.caller_may_decide or approval.caller_may_decide_unasked or person() is Person.AGREED:
        return None
    elsewhere = f"Stop and tell the person: {ELSEWHERE.format(approval.id)}."
    if person() is Person.OUT_OF_REACH:
        return Refusal(
            reason="PERSON_REQUIRED",
            message=f"The decision on {approval.id} is a person's, and this client cannot ask one.",
            hint="Clients that show forms can; those of 2025-11-25 over stdio or at /mcp/interactive.",
            next=elsewhere,
        )
    if not asked(approval, decision):
        return Refusal(
            reason="PERSON_REQUIRED",
            message=f"{approval.id} is more than a form shows, and who agrees must have seen all of it.",
            next=elsewhere,
        )
    if mode == "commit":  # what it is about could not be read when the person was to be asked
        return Refusal("PERSON_REQUIRED", "The person could not be asked.", next="The same call again, once.")
    return None


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
    if_version: Previewed = "",
    reason: Reason = "",
    mode: Mode = "preview",
    idempotency_key: IdempotencyKey = "",
) -> DecisionAnswer:
    """Sign off: approve (yes) or reject (no) a request of another principal, only as a person decided; once only."""
    key = committing(mode, idempotency_key)
    waiting = await client.approvals.GetApproval(approval_pb2.GetApprovalRequest(approval_id=approval_id))
    barred = _barred(waiting, decision, mode)
    seen = if_version or (version_of(waiting.etag) if mode == "preview" else "")
    if barred is not None and mode == "commit":
        raise Refused(barred)
    approval, replayed = await settled(
        client.approvals.DecideApproval(
            approval_pb2.DecideApprovalRequest(
                approval_id=approval_id,
                decision=_DECISIONS[decision],
                comment=reason,
                subject_hash=subject_hash,
                etag=etag_of(seen),
                request_id=key,
                validate_only=mode == "preview",
            )
        )
    )
    if barred is not None:
        following = barred.next
    elif mode == "preview":
        following = invocation(
            "decide-approval",
            approval_id=approval_id,
            decision=decision,
            subject_hash=subject_hash,
            if_version=seen,
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
        state=state_of(approval),
        title=clip(approval.title),
        subject=subject_of(approval),
        version=seen if mode == "preview" else "",
        next=following,
    )
