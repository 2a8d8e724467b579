"""Why a message was, or was not, delivered: rule by rule, on rows made by hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.domain.webhooks import why
from core.domain.webhooks.filters import FilteredEvent
from core.domain.webhooks.gates import Rule, Surroundings, first_failing
from core.domain.webhooks.states import DeliveryState

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Endpoint:
    state: str = "active"
    disabled_reason: str = ""
    kind: str = "push"
    event_types: list[str] = field(default_factory=list)
    filter: str = ""
    verification: str = "not_required"
    gate_until: datetime | None = None
    gate_reason: str = ""
    failures: int = 0
    rate_per_second: float = 0
    pace: float = 1
    rate_until: datetime | None = None
    max_in_flight: int = 0
    ordering: str = "best_effort"
    created_at: datetime = NOW - 2 * HOUR
    updated_at: datetime = NOW - 2 * HOUR


@dataclass(frozen=True)
class Delivery:
    state: str = "pending"
    due_at: datetime | None = NOW
    lease_token: str | None = None
    contact_id: str = ""
    attempt_count: int = 0
    last_outcome: str = ""
    created_at: datetime = NOW - HOUR
    ended_at: datetime | None = None


EVENT = FilteredEvent("deal.won", NOW - HOUR, {"value": 7})
FITS = Rule("event", True, "the data fits deal.won")


def told(found: list[Rule], *, asked_before: bool = False) -> tuple[str, str]:
    failing = first_failing(found)
    return ("" if failing is None else failing.name, why.summary(found, asked_before=asked_before))


@pytest.mark.parametrize(
    ("endpoint", "failing", "summary"),
    [
        (Endpoint(), "", "It would be sent at once."),
        (
            Endpoint(event_types=["deal.lost"]),
            "event_type",
            "It would not be sent: the endpoint wants deal.lost, not deal.won.",
        ),
        (
            Endpoint(filter="event.data.value > 10"),
            "filter",
            "It would not be sent: event.data.value > 10 does not hold (event.data.value is 7).",
        ),
        (Endpoint(state="paused"), "state", "It would not be sent now: the endpoint is paused."),
        (
            Endpoint(state="disabled", disabled_reason="gone"),
            "state",
            "It would not be sent now: the endpoint is disabled, so it would be kept and skipped; a replay can send it "
            "later.",
        ),
        (
            Endpoint(gate_until=NOW + HOUR, gate_reason="retry_after"),
            "retry_gate",
            "It would not be sent now: the receiver asked for a pause (Retry-After), until 2026-03-02 10:00:00 UTC.",
        ),
        (Endpoint(kind="pull", gate_until=NOW + HOUR, gate_reason="retry_after"), "", "It would be sent at once."),
    ],
)
def test_an_event_that_might_be_sent(endpoint: Endpoint, failing: str, summary: str) -> None:
    event = replace(EVENT, at=NOW)
    found = why.might_be_sent(endpoint, event, FITS, Surroundings())
    assert told(found, asked_before=True) == (failing, summary)


def test_an_event_whose_data_does_not_fit_is_refused_first() -> None:
    found = why.might_be_sent(Endpoint(state="paused"), EVENT, Rule("event", False, "no"), Surroundings())
    assert told(found, asked_before=True) == ("event", "It would not be sent: no.")


@pytest.mark.parametrize(
    ("endpoint", "failing", "part"),
    [
        (Endpoint(event_types=["a.b"]), "event_type", "the endpoint wants a.b, not deal.won."),
        (Endpoint(event_types=[f"a.b{n}" for n in range(7)]), "event_type", "a.b4 and 2 more, not deal.won."),
        (Endpoint(filter="event.data.value == 8"), "filter", "event.data.value == 8 does not hold"),
        (Endpoint(filter="event.data.other == 8"), "filter", "cannot be told"),
        (Endpoint(created_at=NOW), "age", "newer than the message: it was created on 2026-03-02 09:00:00 UTC."),
        (Endpoint(updated_at=NOW), "delivery", "that changed on 2026-03-02 09:00:00 UTC, after the message."),
        (Endpoint(), "delivery", "the message was meant for other endpoints"),
    ],
)
def test_a_message_of_which_no_delivery_was_made(endpoint: Endpoint, failing: str, part: str) -> None:
    found = why.not_made(endpoint, EVENT)
    name, summary = told(found)
    assert (name, part in summary, summary.startswith("It was not delivered: ")) == (failing, True, True), summary


@pytest.mark.parametrize(
    ("delivery", "endpoint", "around", "failing", "summary"),
    [
        (Delivery(), Endpoint(), {}, "", "Nothing holds it back: it is sent next."),
        (
            Delivery(due_at=NOW + HOUR, attempt_count=1),
            Endpoint(),
            {},
            "due",
            "It waits: the delivery waits for its next attempt, until 2026-03-02 10:00:00 UTC.",
        ),
        (Delivery(), Endpoint(state="paused"), {}, "state", "It waits: the endpoint is paused."),
        (
            Delivery(contact_id="cnt_1"),
            Endpoint(ordering="by_contact", kind="pull"),
            {"ahead": "msg_2"},
            "order",
            "It waits: message msg_2 about the same contact comes first and is not through.",
        ),
        (
            Delivery("delivered", None, attempt_count=1, ended_at=NOW),
            Endpoint(state="paused", event_types=["a.b"]),
            {},
            "",
            "It was delivered on 2026-03-02 09:00:00 UTC, after 1 attempt.",
        ),
        (
            Delivery("failed", None, attempt_count=10, ended_at=NOW, last_outcome="timeout"),
            Endpoint(),
            {},
            "delivery",
            "It was not delivered: it failed for good on 2026-03-02 09:00:00 UTC, after 10 attempts: the receiver did "
            "not answer in time.",
        ),
        (
            Delivery("skipped", None, ended_at=NOW),
            Endpoint(),
            {},
            "delivery",
            "It was not delivered: it was skipped on 2026-03-02 09:00:00 UTC, because the endpoint was disabled; "
            "replay it.",
        ),
        (
            Delivery("dropped", None, ended_at=NOW, last_outcome="endpoint_deleted"),
            Endpoint(),
            {},
            "delivery",
            "It was not delivered: it was dropped on 2026-03-02 09:00:00 UTC: the endpoint was deleted.",
        ),
    ],
)
def test_a_message_of_which_there_is_a_delivery(
    delivery: Delivery, endpoint: Endpoint, around: dict[str, Any], failing: str, summary: str
) -> None:
    found = why.made(endpoint, delivery, NOW, Surroundings(**around), kept=True)
    assert told(found) == (failing, summary)


@pytest.mark.parametrize("state", DeliveryState)
def test_what_is_no_longer_kept_is_told_unless_it_arrived(state: DeliveryState) -> None:
    found = why.made(Endpoint(), Delivery(state), NOW, Surroundings(), kept=False)
    assert told(found)[0] == ("" if state is DeliveryState.DELIVERED else "message")


def test_every_detail_is_a_sentence() -> None:
    found = why.made(Endpoint(), Delivery(), NOW, Surroundings(), kept=True) + why.not_known("msg_1")
    for rule in found:
        sentence = why.detail(rule)
        assert sentence[0] == sentence[0].upper()
        assert sentence.endswith(".")
