from __future__ import annotations

import pytest

from core.domain.qualification.lint import warnings

GOOD = """
title: Inbound
qualified_at: 60
nurture_at: 30
tiers: [{name: A, from: 70}, {name: B, from: 45}, {name: C, from: 0}]
fresh_for: {contact.employees: 90d}
disqualify:
  - {id: competitor, when: 'contact.industry == "competitor"'}
fit:
  cap: 55
  rules:
    - {id: size, when: contact.employees >= 50, points: 40}
    - {id: country, when: 'contact.country in ["DE", "AT"] && contact.employees < 9000', points: 20}
engagement:
  cap: 40
  rules:
    - {id: demo, event: demo.requested, points: 30}
    - {id: pricing, event: pricing.viewed, points: 5, per: each, max_points: 20}
"""


SIZE = "contact.employees >= 50,"


def doubts(text: str, *events: str) -> dict[str, str]:
    return {one.field: one.reason for one in warnings(text, events)}


def test_a_sound_model_raises_no_doubt() -> None:
    assert doubts(GOOD, "demo.requested", "pricing.viewed") == {}


@pytest.mark.parametrize(
    ("old", "new", "field", "reason"),
    [
        (SIZE, "contact.employees > 5 && contact.employees < 6,", "fit.rules[0].when", "NEVER_MATCHES"),
        (SIZE, '\'contact.city == "X" && contact.city != "X"\',', "fit.rules[0].when", "NEVER_MATCHES"),
        (SIZE, "'has(contact.city) && contact.city == null',", "fit.rules[0].when", "NEVER_MATCHES"),
        ("'contact.industry == \"competitor\"'", "true", "disqualify[0].when", "ALWAYS_MATCHES"),
        ("cap: 55", "cap: 61", "fit.cap", "CAP_NEVER_REACHED"),
        ("title: Inbound", "title: T\ncap: 500", "cap", "CAP_NEVER_REACHED"),
        ("max_points: 20", "max_points: 50", "engagement.rules[1].max_points", "ABOVE_GROUP_CAP"),
        ("{name: A, from: 70}", "{name: A, from: 96}", "tiers[0].from", "UNREACHABLE_TIER"),
        ("nurture_at: 30", "nurture_at: 60", "nurture_at", "NOBODY_NURTURED"),
        ("qualified_at: 60", "qualified_at: 40", "qualified_at", "CONTRADICTING_THRESHOLDS"),
        ("contact.employees: 90d", "contact.city: 90d", "fresh_for.contact.city", "UNREAD_FACT"),
    ],
)  # fmt: skip
def test_a_doubt_is_told_with_its_place(old: str, new: str, field: str, reason: str) -> None:
    assert doubts(GOOD.replace(old, new))[field] == reason


@pytest.mark.parametrize(
    "when",
    [
        "contact.annual_revenue > 5.0 && contact.annual_revenue < 5.1",
        'contact.custom.plan == "a" || contact.custom.plan == "b"',
        "!(contact.employees > 5) && contact.employees > 4",
        'size(contact.city) > 3 && contact.city == "Rome"',
        'contact.city.startsWith("R") && contact.city.endsWith("e")',
        "contact.employees > 5 ? contact.employees < 9 : contact.employees == 2",
        "!contact.unsubscribed",
    ],
)
def test_a_condition_that_somebody_can_meet_is_not_doubted(when: str) -> None:
    text = GOOD.replace(SIZE, "'" + when + "',")
    assert "fit.rules[0].when" not in doubts(text)


def test_an_event_that_never_comes_in_is_told_with_the_nearest_name() -> None:
    (doubt,) = warnings(GOOD.replace("demo.requested", "demo.requestd"), {"demo.requested", "pricing.viewed"})
    assert (doubt.field, doubt.reason) == ("engagement.rules[0].event", "UNKNOWN_EVENT")
    assert doubt.hint.startswith("Did you mean demo.requested?")


def test_a_condition_that_stands_twice_is_told() -> None:
    text = GOOD.replace("points: 40}", "points: 40}\n    - {id: again, when: contact.employees >= 50, points: 5}")
    assert doubts(text)["fit.rules[1]"] == "SAME_CONDITION"
