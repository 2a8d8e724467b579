"""An approval's life: asked for, decided by others than who asked, used once for exactly what was approved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime
from enum import StrEnum

from core.domain.control.approval_rule import Mode, OnTimeout, Rule
from core.domain.errors import ApprovalMismatch, PermissionDenied, PersonRequired, WrongState
from core.domain.frozen import frozen

__all__ = ["Approval", "ApprovalState", "Mode", "OnTimeout", "Party", "Rule", "Vote"]

Electors = frozenset[str] | None
"""Members that a rule names, by themselves or by their roles; None where it names nobody."""


class ApprovalState(StrEnum):
    """Where an approval is in its life."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
    USED = "used"
    CANCELLED = "cancelled"


@frozen
class Vote:
    """What one of those asked said."""

    principal_id: str
    approved: bool
    behind: frozenset[str] = frozenset()
    """Who was behind it when it voted."""


@frozen
class Party:
    """A principal and those behind it."""

    id: str
    kind: str = "member"
    """`member`, `service` or `agent`."""
    behind: frozenset[str] = frozenset()
    """Who minted its key or deployed it, and who is behind those; of a person, who else knows the key it calls with."""
    trusted: bool = False
    """Whether a policy lets it decide without a person being asked."""

    @property
    def may_decide_at_all(self) -> bool:
        """Tell whether it is a person, or trusted like one: what waits for a decision is asked of people."""
        return self.kind == "member" or self.trusted

    def is_same_as(self, requester: Party) -> bool:
        """Tell whether its decision would be the requester's own.

        A requester's agents and keys speak for it; no agent or program decides what another one of the same maker
        asks either. Nor does a person by a key that somebody behind the request has minted or rotated: whoever knows
        the secret can act by it. Who deployed an agent may decide what the agent asks: that is a person looking at
        it. A program's key has no will of its own, so that what it asks is asked by who made it.
        """
        if self.id == requester.id or requester.id in self.behind:
            return True
        if requester.kind == "service" and self.id in requester.behind:
            return True
        return bool(self.behind & requester.behind)

    def is_one_with(self, vote: Vote) -> bool:
        """Tell whether one person would vote twice: one acts for the other, or both for the same."""
        if self.id in vote.behind or vote.principal_id in self.behind:
            return True
        return self.kind != "member" and bool(self.behind & vote.behind)


@frozen
class Approval:
    """A decision that others than its requester must take."""

    id: str
    subject_kind: str
    subject_id: str
    subject_hash: str
    """What is approved; an approval is good for nothing else."""
    requester_id: str
    """Who asked, and therefore cannot decide."""
    created_at: datetime
    expires_at: datetime | None
    state: ApprovalState = ApprovalState.PENDING
    decider_id: str = ""
    comment: str = ""
    decided_at: datetime | None = None
    rule: Rule = field(default_factory=Rule)
    votes: tuple[Vote, ...] = ()
    delegations: Mapping[str, str] = field(default_factory=dict)
    """Who decides for whom."""
    escalated_at: datetime | None = None


_KINDS = {"agent": "an agent", "service": "a program"}


def is_overdue(approval: Approval, now: datetime) -> bool:
    """Tell whether nobody decided in time."""
    pending = approval.state is ApprovalState.PENDING
    return pending and approval.expires_at is not None and approval.expires_at <= now


def holder(approval: Approval, elector: str) -> str:
    """Return who decides for an elector: itself, or the last of those to whom its decision was handed."""
    seen = {elector}
    while (following := approval.delegations.get(elector)) is not None and following not in seen:
        seen.add(elector := following)
    return elector


def stands_for(approval: Approval, electors: Electors, principal_id: str) -> tuple[str, ...]:
    """Return for whom a principal decides, itself included where it may decide by itself; empty where it may not."""
    if electors is None:
        others = [who for who in approval.delegations if holder(approval, who) == principal_id]
        own = [] if principal_id in approval.delegations else [principal_id]
        return (*own, *others)
    return tuple(sorted(who for who in electors if holder(approval, who) == principal_id))


def missing(approval: Approval, electors: Electors) -> int:
    """Return how many votes are still missing; 0 once decided."""
    if approval.state is not ApprovalState.PENDING:
        return 0
    approving = {vote.principal_id for vote in approval.votes if vote.approved}
    if electors is not None:  # who was removed, or has another role since, was asked no more
        approving &= {holder(approval, who) for who in electors}
    match approval.rule.mode:
        case Mode.ANY:
            return 0 if approving else 1
        case Mode.QUORUM:
            return max(0, approval.rule.required_count - len(approving))
        case Mode.ALL:
            asked = {holder(approval, who) for who in electors} if electors else {""}
            return len(asked - approving)


def _is_lost(approval: Approval, electors: Electors) -> bool:
    """Tell whether the rejections so far leave no way to agree."""
    rejecting = {vote.principal_id for vote in approval.votes if not vote.approved}
    if not rejecting or approval.rule.mode is not Mode.QUORUM:
        return bool(rejecting)
    if electors is None:
        return len(rejecting) >= approval.rule.required_count
    able = {holder(approval, who) for who in electors} - rejecting
    return len(able) < approval.rule.required_count


def may_decide(approval: Approval, decider: Party, requester: Party, electors: Electors, now: datetime) -> str:
    """Return why a principal may not decide now, as a clause; empty when it may."""
    if decider.is_same_as(requester):
        own = "it asked for this approval" if decider.id == requester.id else "it acts for who asked for this approval"
        return f"{own}, so another principal must decide"
    if not decider.may_decide_at_all:
        return f"it is the key of {_KINDS[decider.kind]}, and a person was asked"
    if any(vote.principal_id == decider.id for vote in approval.votes):
        return "it has voted on this approval already"
    if other := next((vote.principal_id for vote in approval.votes if decider.is_one_with(vote)), ""):
        return f"it and {other}, which has voted on this approval, count as one"
    if decider.id in approval.delegations:
        return f"it has handed its decision to {holder(approval, decider.id)}"
    if not stands_for(approval, electors, decider.id):
        roles = " or ".join(approval.rule.roles)
        whom = f"members with the role {roles}" if roles and not approval.rule.member_ids else "others"
        return f"{whom} were asked to decide this approval"
    return ""


def decide(
    approval: Approval,
    decider: Party,
    *,
    approved: bool,
    comment: str,
    now: datetime,
    requester: Party | None = None,
    electors: Electors = None,
    subject_hash: str = "",
) -> Approval:
    """Return the approval with one more vote: decided, or still pending when more must agree.

    `requester` is who asked with those behind it, where that is known; `subject_hash` is of what the decider saw.

    Raises PermissionDenied for who asked, who was not asked and who voted before, PersonRequired for an agent or a
    program that is not trusted, WrongState for a late decision, ApprovalMismatch when the decider saw something else.
    """
    _check_pending(approval, now, "a decision")
    _check_may_decide(approval, decider, requester or Party(approval.requester_id), electors, now)
    if subject_hash and subject_hash != approval.subject_hash:
        raise ApprovalMismatch(approval_id=approval.id)
    voted = replace(approval, votes=(*approval.votes, Vote(decider.id, approved, decider.behind)))
    if approved and not missing(voted, electors):
        return _closed(voted, ApprovalState.APPROVED, decider.id, comment, now)
    if not approved and _is_lost(voted, electors):
        return _closed(voted, ApprovalState.REJECTED, decider.id, comment, now)
    return voted


def delegate(
    approval: Approval,
    decider: Party,
    to: Party,
    *,
    now: datetime,
    requester: Party | None = None,
    electors: Electors = None,
) -> Approval:
    """Return the approval with one's own decision handed to another.

    Raises PermissionDenied for who may not decide, and for who asked or would hand it back in a ring; PersonRequired.
    """
    _check_pending(approval, now, "handing it on")
    asked = requester or Party(approval.requester_id)
    _check_may_decide(approval, decider, asked, electors, now)
    if to.is_same_as(asked):
        raise PermissionDenied(principal=to.id, why="it asked for this approval, or acts for who did")
    handed = replace(approval, delegations={**approval.delegations, decider.id: to.id})
    if to.id == decider.id or holder(approval, to.id) == decider.id:
        raise PermissionDenied(principal=to.id, why=f"its own decision is with {decider.id}")
    return handed


def time_out(approval: Approval, now: datetime) -> Approval:
    """Return an overdue approval as its rule wants it: expired, approved, or asked of others as well."""
    if not is_overdue(approval, now):
        return approval
    match approval.rule.on_timeout:
        case OnTimeout.ESCALATE if approval.escalated_at is None:
            return replace(approval, escalated_at=now, expires_at=now + approval.rule.sla)
        case OnTimeout.APPROVE:
            return _closed(approval, ApprovalState.APPROVED, "", "Nobody decided in time, and its rule says so.", now)
        case OnTimeout.CANCEL:
            return _closed(approval, ApprovalState.CANCELLED, "", "", now)
        case _:
            return _closed(approval, ApprovalState.EXPIRED, "", "", now)


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


def _check_may_decide(approval: Approval, decider: Party, requester: Party, electors: Electors, now: datetime) -> None:
    why = may_decide(approval, decider, requester, electors, now)
    if why and not decider.may_decide_at_all and not decider.is_same_as(requester):
        raise PersonRequired(approval_id=approval.id, principal=decider.id, kind=_KINDS[decider.kind])
    if why:
        raise PermissionDenied(principal=decider.id, why=why)


def _check_pending(approval: Approval, now: datetime, action: str) -> None:
    if approval.state is not ApprovalState.PENDING:
        raise WrongState(kind="approval", id=approval.id, state=approval.state.value, action=action)
    if is_overdue(approval, now):
        raise WrongState(kind="approval", id=approval.id, state=ApprovalState.EXPIRED.value, action=action)


def _closed(approval: Approval, state: ApprovalState, decider_id: str, comment: str, now: datetime) -> Approval:
    return replace(approval, state=state, decider_id=decider_id, comment=comment, decided_at=now)
