"""An approval's life: asked for, decided by a second principal, used once for exactly what was approved."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from core.domain.errors import ApprovalMismatch, PermissionDenied, WrongState

PLAN_APPROVAL_LASTS = timedelta(days=3)
"""How long the approval of a plan can be decided."""


class ApprovalState(StrEnum):
    """Where an approval is in its life."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    USED = "used"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Approval:
    """A decision that a second principal must take."""

    id: str
    subject_kind: str
    """`step` or `plan`."""
    subject_id: str
    """The enrollment, or the plan."""
    subject_hash: str
    """Hash of what is approved; it is approved for nothing else."""
    requester_id: str
    """Who asked, and therefore cannot decide."""
    created_at: datetime
    expires_at: datetime | None
    state: ApprovalState = ApprovalState.PENDING
    decider_id: str = ""
    comment: str = ""
    decided_at: datetime | None = None


def is_overdue(approval: Approval, now: datetime) -> bool:
    """Tell whether nobody decided in time."""
    pending = approval.state is ApprovalState.PENDING
    return pending and approval.expires_at is not None and approval.expires_at <= now


def decide(
    approval: Approval, *, decider_id: str, approved: bool, comment: str, now: datetime, subject_hash: str = ""
) -> Approval:
    """Return the approval as decided; `subject_hash` is of what the decider saw, where that is known.

    Raises PermissionDenied for the principal that asked, WrongState for a second or late decision, ApprovalMismatch
    when the decider saw something else.
    """
    if approval.state is not ApprovalState.PENDING:
        raise WrongState(kind="approval", id=approval.id, state=approval.state.value, action="a decision")
    if is_overdue(approval, now):
        raise WrongState(kind="approval", id=approval.id, state=ApprovalState.EXPIRED.value, action="a decision")
    if decider_id == approval.requester_id:
        raise PermissionDenied(principal=decider_id, why="it asked for this approval, so another principal must decide")
    if subject_hash and subject_hash != approval.subject_hash:
        raise ApprovalMismatch(approval_id=approval.id)
    state = ApprovalState.APPROVED if approved else ApprovalState.REJECTED
    return replace(approval, state=state, decider_id=decider_id, comment=comment, decided_at=now)


def use(approval: Approval, subject_hash: str) -> Approval:
    """Return the approval as used for what has this hash.

    Raises WrongState when it is not approved or was used before, ApprovalMismatch when it approves something else.
    """
    if approval.state is not ApprovalState.APPROVED:
        raise WrongState(kind="approval", id=approval.id, state=approval.state.value, action="using it")
    if subject_hash != approval.subject_hash:
        raise ApprovalMismatch(approval_id=approval.id)
    return replace(approval, state=ApprovalState.USED)


def withdraw(approval: Approval, now: datetime) -> Approval:
    """Return the approval as no longer needed; one that nobody decided in time has expired instead."""
    if approval.state is not ApprovalState.PENDING:
        return approval
    state = ApprovalState.EXPIRED if is_overdue(approval, now) else ApprovalState.CANCELLED
    return replace(approval, state=state, decided_at=now)
