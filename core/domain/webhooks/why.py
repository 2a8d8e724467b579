"""Why a message was, or was not, delivered to an endpoint: every rule in its order, and what they come to.

Up to the delivery itself the rules are told here; what holds a delivery back afterwards is `gates`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from core.domain.webhooks import classify
from core.domain.webhooks.classify import Outcome
from core.domain.webhooks.filters import FilteredEvent, passes
from core.domain.webhooks.gates import GatedDelivery, GatedEndpoint, Rule, Surroundings, first_failing, rules
from core.domain.webhooks.states import DeliveryState, EndpointKind, EndpointState

_OF_PULL = frozenset({"state", "order", "due"})
"""A consumer fetches at its own pace: the other gates are those of pushing."""


class AskedEndpoint(GatedEndpoint, Protocol):
    """What the rules read of an endpoint: columns of its row."""

    @property
    def kind(self) -> str: ...  # noqa: D102
    @property
    def event_types(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def filter(self) -> str: ...  # noqa: D102
    @property
    def created_at(self) -> datetime: ...  # noqa: D102
    @property
    def updated_at(self) -> datetime: ...  # noqa: D102


class AskedDelivery(GatedDelivery, Protocol):
    """What the rules read of a delivery: columns of its row."""

    @property
    def attempt_count(self) -> int: ...  # noqa: D102
    @property
    def last_outcome(self) -> str: ...  # noqa: D102
    @property
    def created_at(self) -> datetime: ...  # noqa: D102
    @property
    def ended_at(self) -> datetime | None: ...  # noqa: D102


def might_be_sent(endpoint: AskedEndpoint, event: FilteredEvent, fits: Rule, around: Surroundings) -> list[Rule]:
    """Return the rules for an event that has not happened; `fits` says whether its data fits its type."""
    return [fits, *_wanted(endpoint, event), *_gates(endpoint, None, event.at, around)]


def not_known(message_id: str) -> list[Rule]:
    """Return the rules for a message that is not there."""
    detail = f"no message {message_id} is known: no endpoint wanted it, it is no longer kept, or it never was"
    return [Rule("message", False, detail)]


def not_made(endpoint: AskedEndpoint, event: FilteredEvent) -> list[Rule]:
    """Return the rules for a message of which no delivery was made for the endpoint; its settings are those of now."""
    known = Rule("message", True, f"the message was made on {_at(event.at)}")
    if endpoint.created_at > event.at:
        age = Rule(
            "age", False, f"the endpoint is newer than the message: it was created on {_at(endpoint.created_at)}"
        )
    else:
        age = Rule("age", True, "the endpoint was there when the message was made")
    found = [known, age, *_wanted(endpoint, event)]
    if first_failing(found) is not None:
        return found
    if endpoint.updated_at > event.at:
        detail = (
            f"it is wanted as the endpoint is set now; that changed on {_at(endpoint.updated_at)}, after the message"
        )
    else:
        detail = "the message was meant for other endpoints: its step names one, or it is about this endpoint itself"
    return [*found, Rule("delivery", False, detail)]


def made(
    endpoint: AskedEndpoint, delivery: AskedDelivery, now: datetime, around: Surroundings, *, kept: bool
) -> list[Rule]:
    """Return the rules for a message of which there is a delivery; `kept` tells whether its payload still is."""
    delivered = delivery.state == DeliveryState.DELIVERED
    if kept or delivered:
        message = Rule("message", True, f"the message was made on {_at(delivery.created_at)}")
    else:
        message = Rule("message", False, "its payload is no longer kept, so it cannot be sent any more")
    found = [
        message,
        Rule("event_type", True, "its type was wanted when it was made"),
        Rule("filter", True, "it passed the filter when it was made"),
    ]
    if delivery.state == DeliveryState.PENDING:
        return found + _gates(endpoint, delivery, now, around)
    return [*found, _ended(delivery)]


def summary(found: Sequence[Rule], *, asked_before: bool) -> str:
    """Return what the rules come to, in one sentence; `asked_before` where the event has not happened yet."""
    failing = first_failing(list(found))
    if asked_before:
        if failing is None:
            return "It would be sent at once."
        for_now = failing.name not in ("event", "event_type", "filter")
        return f"It would not be sent{' now' if for_now else ''}: {said(failing)}"
    if failing is None:
        last = found[-1]
        return _sentence(last.detail) if last.name == "delivery" else "Nothing holds it back: it is sent next."
    over = failing.name in ("message", "age", "event_type", "filter", "delivery")
    return f"It {'was not delivered' if over else 'waits'}: {said(failing)}"


def said(rule: Rule) -> str:
    """Return what a rule found with its end, as the rest of a sentence."""
    return f"{rule.detail}, until {_at(rule.until)}." if rule.until is not None else f"{rule.detail}."


def detail(rule: Rule) -> str:
    """Return what a rule found, as a sentence."""
    return said(rule)[:1].upper() + said(rule)[1:]


def _wanted(endpoint: AskedEndpoint, event: FilteredEvent) -> list[Rule]:
    types = list(endpoint.event_types)
    if not types:
        wanted = Rule("event_type", True, "the endpoint wants every type")
    elif event.type in types:
        wanted = Rule("event_type", True, f"the endpoint wants {event.type}")
    else:
        more = f" and {len(types) - 5} more" if len(types) > 5 else ""
        wanted = Rule("event_type", False, f"the endpoint wants {', '.join(types[:5])}{more}, not {event.type}")
    verdict = passes(endpoint.filter, event)
    return [wanted, Rule("filter", verdict.passed, verdict.reason or "the endpoint has no filter")]


def _gates(endpoint: AskedEndpoint, delivery: AskedDelivery | None, now: datetime, around: Surroundings) -> list[Rule]:
    found = rules(endpoint, delivery, now, around)
    if endpoint.kind == EndpointKind.PULL:
        found = [rule for rule in found if rule.name in _OF_PULL]
    if delivery is None and endpoint.state == EndpointState.DISABLED:
        state = "the endpoint is disabled, so it would be kept and skipped; a replay can send it later"
        found = [Rule("state", False, state) if rule.name == "state" else rule for rule in found]
    return found


def _ended(delivery: AskedDelivery) -> Rule:
    when = f" on {_at(delivery.ended_at)}" if delivery.ended_at is not None else ""
    tries = f"{delivery.attempt_count} {'attempt' if delivery.attempt_count == 1 else 'attempts'}"
    match DeliveryState(delivery.state):
        case DeliveryState.DELIVERED:
            return Rule("delivery", True, f"it was delivered{when}, after {tries}")
        case DeliveryState.SKIPPED:
            return Rule("delivery", False, f"it was skipped{when}, because the endpoint was disabled; replay it")
        case DeliveryState.DROPPED:
            return Rule("delivery", False, f"it was dropped{when}: {_outcome(delivery.last_outcome)}")
        case _:
            return Rule(
                "delivery", False, f"it failed for good{when}, after {tries}: {_outcome(delivery.last_outcome)}"
            )


def _outcome(name: str) -> str:
    try:
        return classify.MEANINGS[Outcome(name)].sentence
    except ValueError:
        return name or "nothing is known of it"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _at(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
