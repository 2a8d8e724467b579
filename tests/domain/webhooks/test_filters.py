"""Filters: which events an endpoint wants, why not, and what cannot be told."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from core.domain.webhooks import filters
from core.domain.webhooks.filters import FilteredEvent, FilterVerdict

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def event(data=None, event_type="deal.won", at=NOW):
    return FilteredEvent(event_type, at, {"amount": 120, "plan": "pro", "tags": ["a"]} if data is None else data)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("", FilterVerdict(True, "", {})),
        ("  ", FilterVerdict(True, "", {})),
        (
            "event.data.amount > 100",
            FilterVerdict(True, "event.data.amount > 100 holds (event.data.amount is 120)", {"event.data.amount": 120}),
        ),
        (
            "event.data.amount > 200",
            FilterVerdict(
                False, "event.data.amount > 200 does not hold (event.data.amount is 120)", {"event.data.amount": 120}
            ),
        ),
        (
            "event.data.size > 1",
            FilterVerdict(
                False,
                "event.data.size > 1 cannot be told, because event.data.size is not known",
                {"event.data.size": None},
            ),
        ),
        (
            'event.type.startsWith("deal.")',
            FilterVerdict(
                True, 'event.type.startsWith("deal.") holds (event.type is deal.won)', {"event.type": "deal.won"}
            ),
        ),
    ],
)
def test_a_verdict_has_a_reason_and_what_was_looked_at(text, verdict):
    assert filters.passes(text, event()) == verdict


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ('event.time >= timestamp("2026-03-02T09:00:00Z")', True),
        ('event.time > timestamp("2026-03-02T09:00:00Z")', False),
        ('"a" in event.data.tags', True),
        ("has(event.data.tags) && !has(event.data.missing)", True),
        ('event.data.plan in ["free", "pro"]', True),
        ("event.data.plan == 7", False),
        ("event.data.amount", False),
    ],
)
def test_conditions_see_type_time_and_data(text, passed):
    assert filters.problems(text) == ()
    assert filters.passes(text, event()).passed is passed


@pytest.mark.parametrize(
    "text",
    ["event.data.amount >", "event.datum.amount > 1", "contact.email == 'a'", "event.type", "1", "now > event.time"],
)
def test_what_is_no_condition_on_an_event_is_refused_with_its_place(text):
    found = filters.problems(text, "endpoint.filter")
    assert found
    assert {one.field for one in found} == {"endpoint.filter"}


def test_a_filter_that_can_no_longer_be_read_lets_nothing_through():
    assert filters.passes("event.gone > 1", event()) == FilterVerdict(False, "the filter can no longer be read", {})


def test_data_that_is_no_map_passes_no_filter_on_it():
    assert not filters.passes("event.data.amount > 1", event({})).passed
