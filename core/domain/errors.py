"""Every error a caller can be told: one class each; the docstring is the message, keyword fields fill it in."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar


class Code(Enum):
    """The canonical status of an error; names are those of `google.rpc.Code`."""

    INVALID_ARGUMENT = "INVALID_ARGUMENT"
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    RESOURCE_EXHAUSTED = "RESOURCE_EXHAUSTED"
    FAILED_PRECONDITION = "FAILED_PRECONDITION"
    ABORTED = "ABORTED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing wrong with a request: where (`contacts[3].email`), a machine reason, a sentence, the way out."""

    field: str
    reason: str
    message: str
    hint: str = ""


class DripstoneError(Exception):
    """Something went wrong."""

    code: ClassVar[Code] = Code.FAILED_PRECONDITION
    reason: ClassVar[str] = "FAILED"
    hint: ClassVar[str] = ""

    def __init__(
        self, *, violations: tuple[Violation, ...] = (), retry_after: float | None = None, **variables: object
    ):
        """Keep the variables that fill the message; they are sent to the caller, so none may be secret.

        `retry_after` is in seconds.
        """
        self.variables = {name: str(value) for name, value in variables.items()}
        self.violations = violations
        self.retry_after = retry_after
        super().__init__(self.message)

    @property
    def message(self) -> str:
        """Return the docstring with its variables filled in."""
        return (type(self).__doc__ or "").strip().format(**self.variables)

    @property
    def way_out(self) -> str:
        """Return what the caller can do about it."""
        return type(self).hint.format(**self.variables)


class Invalid(DripstoneError):
    """The request is not well formed: {summary}"""  # noqa: D400, D415 -- the summary ends the sentence

    code = Code.INVALID_ARGUMENT
    reason = "INVALID_ARGUMENT"
    hint = "Correct the named fields and call again."

    def __init__(self, *violations: Violation):
        """Collect what is wrong; the first sentence becomes the summary."""
        more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
        summary = f"{violations[0].field}: {violations[0].message}{more}" if violations else "see the details"
        super().__init__(violations=violations, summary=summary)


def invalid(field: str, reason: str, message: str, hint: str = "") -> Invalid:
    """Return the error for one thing wrong with a request."""
    return Invalid(Violation(field, reason, message, hint))


class NotFound(DripstoneError):
    """There is no {kind} {id}."""

    code = Code.NOT_FOUND
    reason = "NOT_FOUND"
    hint = "Check the id; list the {kind}s to see what there is."


class AlreadyExists(DripstoneError):
    """There is a {kind} {id} already."""

    code = Code.ALREADY_EXISTS
    reason = "ALREADY_EXISTS"
    hint = "Choose another id, or update the one there is."


class IdempotencyConflict(DripstoneError):
    """The idempotency key {key} was used before for another request (hash {first_hash})."""

    code = Code.ALREADY_EXISTS
    reason = "IDEMPOTENCY_CONFLICT"
    hint = "Send the first request again unchanged to get its answer, or use a new key for a new request."


class EtagMismatch(DripstoneError):
    """{kind} {id} has changed: it is at etag {current}, the request was made for {given}."""

    code = Code.ABORTED
    reason = "ETAG_MISMATCH"
    hint = "Read it again, apply your change to what it is now, and send the new etag."


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


class PlanStale(DripstoneError):
    """The plan {plan_id} no longer fits: {why}."""

    code = Code.FAILED_PRECONDITION
    reason = "PLAN_STALE"
    hint = "Preview again and commit the new plan."


class ApprovalRequired(DripstoneError):
    """A person must agree first: approval {approval_id} is {state}."""

    code = Code.FAILED_PRECONDITION
    reason = "APPROVAL_REQUIRED"
    hint = "Wait until another principal has decided approval {approval_id}, then commit the same plan."


class NotPublished(DripstoneError):
    """The workflow {workflow_id} takes no enrollments: it is {state}."""

    code = Code.FAILED_PRECONDITION
    reason = "WORKFLOW_NOT_ACTIVE"
    hint = "Publish the workflow, or choose an active one."


class WrongState(DripstoneError):
    """{kind} {id} is {state}; that does not allow {action}."""

    code = Code.FAILED_PRECONDITION
    reason = "WRONG_STATE"
    hint = "Read it again and choose an action its state allows."


class EndpointNotActive(DripstoneError):
    """The endpoint {endpoint_id} is {state}, so nothing is sent to it."""

    code = Code.FAILED_PRECONDITION
    reason = "ENDPOINT_NOT_ACTIVE"
    hint = "Set its state to active with UpdateEndpoint; what is pending is then sent by itself."


class EndpointDeleted(DripstoneError):
    """The endpoint {endpoint_id} of the delivery {delivery_id} was deleted."""

    code = Code.FAILED_PRECONDITION
    reason = "ENDPOINT_DELETED"
    hint = "Create an endpoint for the receiver; deliveries of a deleted one cannot be sent again."


class DeliveryUnderWay(DripstoneError):
    """The delivery {delivery_id} is being sent right now."""

    code = Code.FAILED_PRECONDITION
    reason = "DELIVERY_UNDER_WAY"
    hint = "Wait until the attempt has ended (a minute and a half at most), then read the delivery again."


class TooManyEndpoints(DripstoneError):
    """The organization has {limit} endpoints, which is the most it can have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_ENDPOINTS"
    hint = "Delete an endpoint that is no longer used, or subscribe an existing one to more event types."


class ApprovalMismatch(DripstoneError):
    """The approval {approval_id} is for something else than what was seen."""

    code = Code.FAILED_PRECONDITION
    reason = "APPROVAL_MISMATCH"
    hint = "Read approval {approval_id} again and decide on what it shows now, with its subject_hash."


class ApprovalRejected(DripstoneError):
    """The approval {approval_id} was rejected by {decider_id}, who said: `{comment}`."""

    code = Code.FAILED_PRECONDITION
    reason = "APPROVAL_REJECTED"
    hint = "Leave the lead as it is, or change what was objected to, preview again and commit the new plan."


class EmailTaken(DripstoneError):
    """Another contact, {owner}, has this e-mail."""

    code = Code.ALREADY_EXISTS
    reason = "EMAIL_TAKEN"
    hint = "Update {owner} instead, or give it another e-mail first; contacts are never merged silently."


class ScoringModelNotFound(NotFound):
    """There is no scoring model {id}."""

    hint = "Scoring models that are published: {known}."


class TooManyReplays(DripstoneError):
    """The organization has {limit} replays that are not over, which is the most it can have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_REPLAYS"
    hint = "Wait until one is through, or cancel one with ControlReplay."


class EndpointNotPull(DripstoneError):
    """The endpoint {endpoint_id} has its messages pushed to its URL; they cannot be fetched."""

    code = Code.FAILED_PRECONDITION
    reason = "ENDPOINT_NOT_PULL"
    hint = "Create an endpoint of kind pull, and stream its messages."


class TooManyEventTypes(DripstoneError):
    """The organization has declared {limit} event types, which is the most it can have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_EVENT_TYPES"
    hint = "Declare a new version of a type that there is, and tell kinds of it apart by a field of its data."


class RecordMerged(DripstoneError):
    """{id} is part of {kept_id} now: the two were merged."""

    code = Code.NOT_FOUND
    reason = "MERGED"
    hint = "Use {kept_id} instead, or take the merge {merge_id} back with UndoMerge."


class TooManyIdentifiers(DripstoneError):
    """{id} would have {count} identifiers; a record has {limit} at most."""

    code = Code.FAILED_PRECONDITION
    reason = "TOO_MANY_IDENTIFIERS"
    hint = "Look at what the record is called: so many names are seldom one person's."


class ChannelTaken(DripstoneError):
    """The connection {connection_id} carries the channel {channel} already; a channel has one active connection."""

    code = Code.ALREADY_EXISTS
    reason = "CHANNEL_TAKEN"
    hint = "Pause or delete {connection_id} first, change it instead, or create this one paused."


class TooManyConnections(DripstoneError):
    """The organization has {limit} connections, which is the most it can have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_CONNECTIONS"
    hint = "Delete a connection that is no longer used."


class TooManyStreams(DripstoneError):
    """{whose} has {limit} streams of messages open in this process, which is the most it can have."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_STREAMS"
    hint = "End a stream that is no longer read, or raise max_in_flight of one instead of opening another."


class PayloadNotKept(DripstoneError):
    """The body of delivery {delivery_id} is no longer kept, so it cannot be sent again."""

    code = Code.FAILED_PRECONDITION
    reason = "PAYLOAD_NOT_KEPT"
    hint = "Bodies are kept for some days only; let what happened be told by a new event."
