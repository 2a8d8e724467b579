"""What lets a delivery through to its endpoint, rule by rule: the dispatcher's claim and the explanation agree on it.

The claim asks the same in SQL, for many endpoints at once; tests hold both against each other.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from core.domain.frozen import frozen
from core.domain.webhooks import breaker, throttle
from core.domain.webhooks.states import DeliveryState, EndpointState, Ordering, Verification

UNVERIFIED_EVERY = timedelta(hours=1)
"""An endpoint that is not verified gets one message in this time."""


class GateReason(StrEnum):
    """Why nothing is begun before an endpoint's `gate_until`."""

    NONE = ""
    RETRY_AFTER = "retry_after"
    """The receiver asked for a pause."""
    OUR_FAULT = "our_fault"
    """What went wrong was not the receiver's doing: no attempt is counted, and it is looked at again later."""
    BREAKER = "breaker"
    """Too many attempts in a row failed."""
    UNVERIFIED = "unverified"
    """The message of this hour was sent."""


class GatedEndpoint(Protocol):
    """What the rules read of an endpoint: columns of its row."""

    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def disabled_reason(self) -> str: ...  # noqa: D102
    @property
    def verification(self) -> str: ...  # noqa: D102
    @property
    def gate_until(self) -> datetime | None: ...  # noqa: D102
    @property
    def gate_reason(self) -> str: ...  # noqa: D102
    @property
    def failures(self) -> int: ...  # noqa: D102
    @property
    def rate_per_second(self) -> float: ...  # noqa: D102
    @property
    def pace(self) -> float: ...  # noqa: D102
    @property
    def rate_until(self) -> datetime | None: ...  # noqa: D102
    @property
    def max_in_flight(self) -> int: ...  # noqa: D102
    @property
    def ordering(self) -> str: ...  # noqa: D102


class GatedDelivery(Protocol):
    """What the rules read of a delivery: columns of its row."""

    @property
    def state(self) -> str: ...  # noqa: D102
    @property
    def due_at(self) -> datetime | None: ...  # noqa: D102
    @property
    def lease_token(self) -> str | None: ...  # noqa: D102
    @property
    def contact_id(self) -> str: ...  # noqa: D102


@frozen
class Surroundings:
    """What else is going on at an endpoint."""

    in_flight: int = 0
    """Attempts under way to it, in every process."""
    ahead: str | None = None
    """The earliest message about the same contact that is pending and comes before; None for none."""


@frozen
class Rule:
    """One rule and what it found."""

    name: str
    passed: bool
    detail: str
    """As a sentence."""
    until: datetime | None = None
    """When it lets through by itself; None when it does, or when that cannot be told."""


def rules(
    endpoint: GatedEndpoint, delivery: GatedDelivery | None, now: datetime, around: Surroundings | None = None
) -> list[Rule]:
    """Return every rule in the order in which they are asked; without a delivery, those about the endpoint alone."""
    around = around or Surroundings()
    found = [rule(endpoint, now) for rule in _OF_ENDPOINTS] + [_slots(endpoint, around)]
    if delivery is not None:
        found += [_order(endpoint, delivery, around), _due(delivery, now)]
    return found


def first_failing(found: list[Rule]) -> Rule | None:
    """Return the first rule that does not let through; None when all do."""
    return next((rule for rule in found if not rule.passed), None)


def holds(endpoint: GatedEndpoint, now: datetime) -> GateReason:
    """Return why an endpoint's gate is shut now; NONE when it is open, or when its reason is gone."""
    if endpoint.gate_until is None or endpoint.gate_until <= now:
        return GateReason.NONE
    reason = GateReason(endpoint.gate_reason)
    if reason is GateReason.UNVERIFIED and endpoint.verification != Verification.UNVERIFIED:
        return GateReason.NONE
    if reason is GateReason.BREAKER and not breaker.is_open(endpoint.failures):
        return GateReason.NONE
    return reason


def _state(endpoint: GatedEndpoint, _now: datetime) -> Rule:
    if endpoint.state == EndpointState.ACTIVE:
        return Rule("state", True, "the endpoint is active")
    why = f", because: {endpoint.disabled_reason}" if endpoint.disabled_reason else ""
    return Rule("state", False, f"the endpoint is {endpoint.state}{why}")


def _verification(endpoint: GatedEndpoint, now: datetime) -> Rule:
    if endpoint.verification != Verification.UNVERIFIED:
        return Rule("verification", True, "the endpoint needs no verification, or has it")
    if holds(endpoint, now) is GateReason.UNVERIFIED:
        detail = "the endpoint is not verified, and the one message of this hour was sent"
        return Rule("verification", False, detail, endpoint.gate_until)
    return Rule("verification", True, "the endpoint is not verified: it gets one message an hour")


def _retry_gate(endpoint: GatedEndpoint, now: datetime) -> Rule:
    match holds(endpoint, now):
        case GateReason.RETRY_AFTER:
            detail = "the receiver asked for a pause (Retry-After)"
            return Rule("retry_gate", False, detail, endpoint.gate_until)
        case GateReason.OUR_FAULT:
            detail = "the last attempt could not be made: destination not allowed, or names could not be resolved here"
            return Rule("retry_gate", False, detail, endpoint.gate_until)
        case _:
            return Rule("retry_gate", True, "the receiver has asked for no pause")


def _breaker(endpoint: GatedEndpoint, now: datetime) -> Rule:
    if not breaker.is_open(endpoint.failures):
        return Rule("breaker", True, "the endpoint has not failed too often in a row")
    said = f"{endpoint.failures} attempts in a row have failed, so they are made one at a time"
    if holds(endpoint, now) is GateReason.BREAKER:
        return Rule("breaker", False, f"{said}; the next one waits", endpoint.gate_until)
    return Rule("breaker", True, f"{said}; the next one may be made")


def _rate(endpoint: GatedEndpoint, now: datetime) -> Rule:
    rate = throttle.effective_rate(endpoint.rate_per_second, endpoint.pace)
    if not rate:
        return Rule("rate", True, "the endpoint has no rate limit")
    limit = f"at most {rate:g} attempts a second"
    if endpoint.pace < throttle.FULL_PACE:
        limit += ", less than usual because the receiver said that it has too much to do"
    if not throttle.allowed(rate, endpoint.rate_until, now):
        return Rule("rate", False, f"{limit}: used up for now", endpoint.rate_until)
    return Rule("rate", True, limit)


_OF_ENDPOINTS: tuple[Callable[[GatedEndpoint, datetime], Rule], ...] = (
    _state,
    _verification,
    _retry_gate,
    _breaker,
    _rate,
)


def _slots(endpoint: GatedEndpoint, around: Surroundings) -> Rule:
    most = endpoint.max_in_flight
    if not most:
        return Rule("slots", True, f"{around.in_flight} attempts are under way; the endpoint sets no limit")
    said = f"{around.in_flight} of at most {most} attempts are under way"
    return Rule("slots", around.in_flight < most, said)


def _order(endpoint: GatedEndpoint, delivery: GatedDelivery, around: Surroundings) -> Rule:
    if endpoint.ordering != Ordering.BY_CONTACT:
        return Rule("order", True, "the endpoint takes messages in any order")
    if not delivery.contact_id:
        return Rule("order", True, "the message is about no contact, so it waits for no other")
    if around.ahead is None:
        return Rule("order", True, "no earlier message about the same contact waits")
    return Rule("order", False, f"message {around.ahead} about the same contact comes first and is not through")


def _due(delivery: GatedDelivery, now: datetime) -> Rule:
    if delivery.state != DeliveryState.PENDING:
        return Rule("due", False, f"the delivery is over: {delivery.state}")
    if delivery.due_at is not None and delivery.due_at <= now:
        return Rule("due", True, "the delivery is due")
    if delivery.lease_token is not None:
        return Rule("due", False, "an attempt is under way", delivery.due_at)
    return Rule("due", False, "the delivery waits for its next attempt", delivery.due_at)
