"""Handlers of WebhookService that tell why: filters tried, deliveries explained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Row

from core.domain.errors import Invalid, NotFound, Violation
from core.domain.nearest import did_you_mean
from core.domain.webhooks import bodies, event_types, filters, why
from core.domain.webhooks.filters import FilteredEvent
from core.domain.webhooks.gates import Rule, first_failing
from core.rpc.call import Call
from core.rpc.convert import from_struct, to_struct
from core.rpc.webhooks.webhooks import get_delivery
from core.store.webhooks import endpoints, surroundings
from core.store.webhooks import event_types as own_types
from dripstone.v1 import webhook_pb2 as pb

MOST_TRIED = 500
"""Messages that a filter is tried on."""

_AT_ONCE = 50
"""Messages read together: each may have 256 KiB."""

_MOST_TOLD = 3


async def try_filter(request: pb.TryFilterRequest, call: Call) -> pb.TryFilterResponse:
    """Tell what a filter makes of an event, or of the newest messages."""
    if wrong := [*filters.problems(request.filter), *_wrong_trial(request)]:
        raise Invalid(*wrong)
    answer = pb.TryFilterResponse()
    if request.event_type:
        verdict = filters.passes(request.filter, _event(request, call))
        answer.matches = verdict.passed
        answer.reason = f"{verdict.reason}."
        answer.inputs.CopyFrom(to_struct(verdict.inputs))
    before = ""
    while answer.tried_count < request.newest_count:
        left = request.newest_count - answer.tried_count
        rows = await surroundings.newest_messages(call.tx, min(left, _AT_ONCE), before)
        if not rows:
            break
        before = rows[-1].id
        answer.tried_count += len(rows)
        answer.matched_count += sum(filters.passes(request.filter, _sent(row)).passed for row in rows)
    return answer


async def explain_delivery(request: pb.ExplainDeliveryRequest, call: Call) -> pb.ExplainDeliveryResponse:
    """Tell every rule that decides about a message and an endpoint, and the first that does not let it through."""
    if wrong := list(_wrong_question(request)):
        raise Invalid(*wrong)
    endpoint = await endpoints.get(call.tx, request.endpoint_id)
    if endpoint is None:
        raise NotFound(kind="endpoint", id=request.endpoint_id)
    if request.event_type:
        around = await surroundings.around(call.tx, endpoint.id)
        fits = await _fits(request, call)
        return _answer(why.might_be_sent(endpoint, _event(request, call), fits, around), True)
    message = await surroundings.message_of(call.tx, request.message_id)
    delivery = await surroundings.delivery_of(call.tx, request.message_id, endpoint.id)
    if delivery is None:
        missing = why.not_known(request.message_id)
        return _answer(missing if message is None else why.not_made(endpoint, _sent(message)), False)
    around = await surroundings.around(call.tx, endpoint.id, delivery)
    kept = message is not None or delivery.payload is not None
    answer = _answer(why.made(endpoint, delivery, call.tx.now, around, kept=kept), False)
    answer.delivery.CopyFrom(await get_delivery(pb.GetDeliveryRequest(delivery_id=delivery.id), call))
    return answer


def _answer(found: Sequence[Rule], asked_before: bool) -> pb.ExplainDeliveryResponse:
    failing = first_failing(list(found))
    return pb.ExplainDeliveryResponse(
        summary=why.summary(found, asked_before=asked_before),
        rules=[pb.DeliveryRule(name=rule.name, passed=rule.passed, detail=why.detail(rule)) for rule in found],
        first_failing="" if failing is None else failing.name,
    )


def _event(request: pb.TryFilterRequest | pb.ExplainDeliveryRequest, call: Call) -> FilteredEvent:
    """Return the event that a request describes, as if it happened now."""
    return FilteredEvent(request.event_type, call.tx.now, from_struct(request.data))


def _sent(row: Row[Any]) -> FilteredEvent:
    return FilteredEvent(row.event_type, row.created_at, bodies.data_in(row.payload))


async def _fits(request: pb.ExplainDeliveryRequest, call: Call) -> Rule:
    """Return whether the data of an event that might be sent fits its type, the core's or the organization's own."""
    key = (call.caller.org_id, request.event_type)
    try:
        body = bodies.standard(request.event_type, call.tx.now, from_struct(request.data))
        declared = (await own_types.schemas_of(call.tx, [key])).get(key)
        if declared is not None and (problems := declared.problems(bodies.data_in(body))):
            raise Invalid(*problems)
    except Invalid as error:
        told = "; ".join(f"{one.field}: {one.message}" for one in error.violations[:_MOST_TOLD])
        return Rule("event", False, f"the event would be refused: {told}")
    return Rule("event", True, f"the data fits {request.event_type}")


def _wrong_trial(request: pb.TryFilterRequest) -> Iterator[Violation]:
    if not 0 <= request.newest_count <= MOST_TRIED:
        message = f"is not from 0 to {MOST_TRIED}"
        yield Violation("newest_count", "OUT_OF_RANGE", message, "Leave it out to try an event of your own.")
    if not request.event_type and (request.HasField("data") or not request.newest_count):
        message = "says nothing to try the filter on"
        yield Violation("event_type", "REQUIRED", message, "Send event_type and data, or newest_count.")
    yield from _wrong_type(request.event_type)


def _wrong_question(request: pb.ExplainDeliveryRequest) -> Iterator[Violation]:
    if bool(request.message_id) == bool(request.event_type):
        message = "say which message, or which event might be sent: one of both"
        hint = "Send message_id; or event_type and data."
        yield Violation("message_id", "CONFLICT" if request.message_id else "REQUIRED", message, hint)
    elif request.message_id and request.HasField("data"):
        message = "belongs to an event that might be sent, not to a message"
        yield Violation("data", "CONFLICT", message, "Leave it out: the message has its own.")
    yield from _wrong_type(request.event_type)


def _wrong_type(name: str) -> Iterator[Violation]:
    if name and not event_types.is_event_type_name(name):
        message = f"{name!r} is not the name of an event type: lower case, with dots, such as deal.won"
        hint = did_you_mean(name, event_types.CATALOGUE) or "List the event types to see the core's own."
        yield Violation("event_type", "EVENT_TYPE_MALFORMED", message, hint)
