"""Why a call is not admitted: who calls, how often, with which key."""

from __future__ import annotations

from core.domain.errors.base import Code, DripstoneError


class IdempotencyConflict(DripstoneError):
    """The idempotency key {key} was used before for another request: {method} at {first_time}, hash {first_hash}."""

    code = Code.ALREADY_EXISTS
    reason = "IDEMPOTENCY_CONFLICT"
    hint = "Send the first request again unchanged to get its answer, or use a new key for a new request."


class Unauthenticated(DripstoneError):
    """The request carries no valid API key."""

    code = Code.UNAUTHENTICATED
    reason = "UNAUTHENTICATED"
    hint = "Send `Authorization: Bearer <API key>`; a key starts with dripstone_live_."


class ScopeMissing(DripstoneError):
    """The API key lacks the scope {scope}, which {method} needs."""

    code = Code.PERMISSION_DENIED
    reason = "SCOPE_MISSING"
    hint = "Ask an admin of the organization for a key with the scope {scope}."


class PermissionDenied(DripstoneError):
    """{principal} may not do this: {why}."""

    code = Code.PERMISSION_DENIED
    reason = "PERMISSION_DENIED"
    hint = "Ask another principal that may."


class RateLimited(DripstoneError):
    """The API key is over its limit of {limit} requests a second."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "RATE_LIMITED"
    hint = "Wait as long as the retry information says, then call again."


class TookTooLong(DripstoneError):
    """The call took longer than {limit} seconds; it may still be carried out."""

    code = Code.DEADLINE_EXCEEDED
    reason = "DEADLINE_EXCEEDED"
    hint = "Call again under the same idempotency key to learn what became of it; send less at once."


class GoingAway(DripstoneError):
    """The process that serves this call is going away."""

    code = Code.UNAVAILABLE
    reason = "GOING_AWAY"
    hint = "Connect again; a stream resumes with its last token."


class StoreUnavailable(DripstoneError):
    """The database does not answer; nothing was changed."""

    code = Code.UNAVAILABLE
    reason = "STORE_UNAVAILABLE"
    hint = "Try again in a moment, with the same idempotency key."


class LastAdmin(DripstoneError):
    """{member_id} is the organization's last admin, and an organization has one at least."""

    code = Code.FAILED_PRECONDITION
    reason = "LAST_ADMIN"
    hint = "Make another member an admin first."


class KeyLimited(DripstoneError):
    """The API key may not do this: {why}."""

    code = Code.PERMISSION_DENIED
    reason = "KEY_LIMITED"
    hint = "Ask an admin of the organization to widen the key's {limit}, or for another key."


class ProjectNotEmpty(DripstoneError):
    """The project {project_id} has {count} workflows."""

    code = Code.FAILED_PRECONDITION
    reason = "PROJECT_NOT_EMPTY"
    hint = "Move its workflows elsewhere with MoveWorkflow, then delete it."


class TooManyRequested(DripstoneError):
    """{limit} approvals that you asked for wait for a decision, which is the most there can be."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_APPROVALS"
    hint = "Wait until some are decided, or take some back with CancelApproval."


class AgentHeld(DripstoneError):
    """The agent {agent_id} is {state}: {why}."""

    code = Code.FAILED_PRECONDITION
    reason = "AGENT_HELD"
    hint = "See it with GetAgent; a paused agent goes on by ResumeAgent, a stopped one never does."
