"""Why something waits for a person, or is not allowed."""

from __future__ import annotations

from core.domain.errors.base import Code, DripstoneError


class PlanStale(DripstoneError):
    """The plan {plan_id} no longer fits: {why}."""

    code = Code.FAILED_PRECONDITION
    reason = "PLAN_STALE"
    hint = "Preview again and commit the new plan."


class PreviewStale(DripstoneError):
    """What was previewed no longer holds: {why}."""

    code = Code.FAILED_PRECONDITION
    reason = "PREVIEW_STALE"
    hint = "Preview again, and carry out what that shows."


class ApprovalRequired(DripstoneError):
    """A person must agree first: approval {approval_id} is {state}."""

    code = Code.FAILED_PRECONDITION
    reason = "APPROVAL_REQUIRED"
    hint = "Wait until another principal has decided approval {approval_id}, then make the same call again."


class PersonRequired(DripstoneError):
    """The decision on {approval_id} is a person's, and {principal} is the key of {kind}."""

    code = Code.PERMISSION_DENIED
    reason = "PERSON_REQUIRED"
    hint = (
        "A member decides it with a key or a sign-in of their own; an admin lets this key decide "
        "by a policy that names ApprovalService.DecideApproval and answers allow."
    )


class ApprovalMismatch(DripstoneError):
    """The approval {approval_id} is for something else than what was seen."""

    code = Code.FAILED_PRECONDITION
    reason = "APPROVAL_MISMATCH"
    hint = "Read approval {approval_id} again and decide on what it shows now, with its subject_hash."


class ApprovalRejected(DripstoneError):
    """The approval {approval_id} was rejected by {decider_id}, who said: `{comment}`."""

    code = Code.FAILED_PRECONDITION
    reason = "APPROVAL_REJECTED"
    hint = "Leave things as they are, or change what was objected to, preview again and ask anew."


class CallNeedsApproval(ApprovalRequired):
    """A person must agree first, because {why}: approval {approval_id} is {state}."""


class CallWouldNeedApproval(ApprovalRequired):
    """A person would have to agree first, because {why}; this was a dry run, so nobody was asked."""

    hint = "Make the call without validate_only: that asks for the approval, and tells its id."


class PolicyDenied(DripstoneError):
    """The policy {policy_id} does not allow this: {why}."""

    code = Code.PERMISSION_DENIED
    reason = "POLICY_DENIED"
    hint = "Do less or something else, or ask an admin; ExplainPolicy tells what each policy says of a call."


class BudgetExhausted(DripstoneError):
    """{told}: {used} of the {limit} a day that the budget of {whose} allows are used."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "BUDGET_EXHAUSTED"
    hint = "Do no more than {left} today, or go on after {reset_time}; an admin sets budgets."


class TooManyPolicies(DripstoneError):
    """The organization has {limit} policies, which is the most it can have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_POLICIES"
    hint = "Delete a policy that is no longer used, or say more in one."
