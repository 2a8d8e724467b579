"""What is refused around endpoints, deliveries and streams."""

from __future__ import annotations

from core.domain.errors.base import Code, DripstoneError


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


class TooManyStreams(DripstoneError):
    """{whose} has {limit} streams of messages open here, which is the most that one process serves."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "TOO_MANY_STREAMS"
    hint = "End a stream that is no longer read, or raise max_in_flight of one instead of opening another."


class QuarantineFull(DripstoneError):
    """{limit} events of source {source_id} wait in quarantine, which is the most; nothing of this request was kept."""

    code = Code.RESOURCE_EXHAUSTED
    reason = "QUARANTINE_FULL"
    hint = "Mend the mapping or the schema and redrive what waits, or discard it; then send this again."


class PayloadNotKept(DripstoneError):
    """The body of delivery {delivery_id} is no longer kept, so it cannot be sent again."""

    code = Code.FAILED_PRECONDITION
    reason = "PAYLOAD_NOT_KEPT"
    hint = "Bodies are kept for some days only; let what happened be told by a new event."
