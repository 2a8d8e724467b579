"""What documents say beyond points and thresholds: matrices, caps of the whole, fading, windows, frequency."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.enrollment import EventFacts
from core.domain.errors import Invalid
from core.domain.qualification.facts import Origin
from core.domain.qualification.model import ScoringModel, TierEffect
from core.domain.qualification.parse import compiled
from core.domain.qualification.score import Decision, score
from tests.domain.qualification.test_score import EVENTS, FIELDS, NOW, event, facts

MATRIX = """
title: Fit by engagement
cap: 70
qualified_tiers: [A1, A2]
nurture_tiers: [B1, "B2"]
tiers:
  fit: [{name: A, from: 20}, {name: B, from: 10}, {name: C, from: 0}]
  engagement: [{name: 1, from: 20}, {name: 2, from: 0}]
fit:
  half_life: 365d
  rules:
    - {id: size, when: contact.employees >= 50, points: 20}
    - {id: country, when: 'contact.country == "DE"', points: 10, half_life: 10d}
engagement:
  window: 60d
  half_life: 20d
  rules:
    - {id: demo, event: demo.requested, points: 20}
    - {id: often, event: pricing.viewed, points: 16, at_least: 3, window: 10d}
    - {id: docs, event: docs.read, points: 3, per: each, max_points: 30}
on_tier:
  A1: {enroll: hot-leads, event: lead.hot}
"""


def day(name: str, number: int) -> EventFacts:
    return event(name, ago=timedelta(days=number))


def problems(text: str) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        compiled(text)
    return {violation.field: violation.reason for violation in caught.value.violations}


@pytest.mark.parametrize(
    ("fields", "events", "tier", "decision"),
    [
        ({"employees": 90}, [day("demo.requested", 0)], "A1", Decision.QUALIFIED),
        ({"employees": 90}, [], "A2", Decision.QUALIFIED),
        ({"employees": 1, "country": "DE"}, [day("demo.requested", 1)], "B2", Decision.NURTURE),
        ({"employees": 1, "country": "FR"}, [day("demo.requested", 0)], "C1", Decision.DISQUALIFIED),
    ],
)
def test_a_matrix_gives_the_tier_and_tiers_the_decision(
    fields: dict[str, Any], events: list[EventFacts], tier: str, decision: Decision
) -> None:
    result = score(compiled(MATRIX), facts(fields, *events))
    assert (result.tier, result.decision) == (tier, decision)


def test_a_matrix_may_name_its_tiers() -> None:
    named = MATRIX.replace(
        "  engagement: [{name: 1", "  matrix: [[hot, A2], [A1, B2], [B1, C]]\n  engagement: [{name: 1"
    )
    model = compiled(named)
    assert score(model, facts({"employees": 90}, day("demo.requested", 0))).tier == "hot"
    assert model.tier_names == ("hot", "A2", "A1", "B2", "B1", "C")


def test_points_fade_by_the_half_life_of_rule_or_group() -> None:
    model = compiled(MATRIX)
    origins = {
        "contact.employees": Origin("key_1", NOW - timedelta(days=365)),
        "contact.country": Origin("key_1", NOW - timedelta(days=10)),
    }
    known = facts({"employees": 90, "country": "DE"}, day("demo.requested", 20), day("docs.read", 0), origins=origins)
    result = score(model, known)
    assert {one.rule_id: (one.raw_points, one.decayed_points, one.points) for one in result.contributions} == {
        "size": (20, 10, 10),
        "country": (10, 5, 5),
        "demo": (20, 10, 10),
        "docs": (3, 3, 3),
    }


def test_a_rule_may_ask_for_events_often_enough_in_a_window_of_its_own() -> None:
    model = compiled(MATRIX)
    views = [day("pricing.viewed", number) for number in (0, 5, 9)]
    assert score(model, facts({}, *views)).engagement == 16
    assert score(model, facts({}, *views[:2], day("pricing.viewed", 10))).engagement == 0
    (one,) = score(model, facts({}, *views)).contributions
    assert one.when == "3 times event pricing.viewed"


def test_the_cap_of_the_whole_cuts_what_stands_last_and_says_so() -> None:
    model = compiled(MATRIX.replace("cap: 70", "cap: 35"))
    result = score(model, facts({"employees": 90, "country": "DE"}, day("demo.requested", 0), day("docs.read", 0)))
    assert [(one.rule_id, one.points, one.capped_by) for one in result.contributions] == [
        ("size", 20, ""), ("country", 10, ""), ("demo", 5, "total"),
    ]  # fmt: skip


def test_a_cap_of_rule_or_group_is_told_too() -> None:
    model = compiled(MATRIX.replace("  half_life: 365d", "  cap: 25\n  half_life: 365d"))
    result = score(model, facts({"employees": 90, "country": "DE"}, *[day("docs.read", 0)] * 11))
    assert [(one.rule_id, one.capped_by) for one in result.contributions] == [
        ("size", ""), ("country", "group"), ("docs", "rule"),
    ]  # fmt: skip


def test_what_happens_in_a_tier_and_the_routing_are_read() -> None:
    model = compiled(MATRIX + "routing: inbound-emea\n")
    assert model.on_tier == {"A1": TierEffect("hot-leads", "lead.hot")}
    assert (model.routing_id, model.routing) == ("inbound-emea", None)


@pytest.mark.parametrize(
    ("old", "new", "field", "reason"),
    [
        ("cap: 70", "cap: 0", "cap", "OUT_OF_RANGE"),
        ("cap: 70", "qualified_at: 30", "qualified_at", "DECIDED_TWICE"),
        ("[A1, A2]", "[A1, A9]", "qualified_tiers[1]", "UNKNOWN_TIER"),
        ("[A1, A2]", "[]", "qualified_tiers", "REQUIRED"),
        ('[B1, "B2"]', "[A1]", "nurture_tiers", "DECIDED_TWICE"),
        ("qualified_tiers: [A1, A2]", "qualified_at: 30", "nurture_tiers", "NOT_ALLOWED"),
        ("  fit: [", "  matrix: [[X]]\n  fit: [", "tiers.matrix", "WRONG_SIZE"),
        ("{name: C, from: 0}", "{name: C, from: 3}", "tiers.fit[2].from", "NO_LOWEST_TIER"),
        ("half_life: 365d", "half_life: soon", "fit.half_life", "BAD_DURATION"),
        ("at_least: 3", "at_least: 3, per: each", "engagement.rules[1].at_least", "NOT_ALLOWED"),
        ("window: 10d", "window: 900d", "engagement.rules[1].window", "TOO_LONG"),
        ("  A1: {enroll", "  A3: {enroll", "on_tier.A3", "UNKNOWN_TIER"),
        ("enroll: hot-leads", "enrol: hot-leads", "on_tier.A1.enrol", "UNKNOWN_KEY"),
        ("{enroll: hot-leads, event: lead.hot}", "{}", "on_tier.A1", "REQUIRED"),
        ("cap: 70", "fresh_for: {contact.emplyees: 3d}", "fresh_for.contact.emplyees", "UNKNOWN_FACT"),
        ("cap: 70", "fresh_for: [3d]", "fresh_for", "WRONG_TYPE"),
        ("cap: 70", "evidence: {min_confidence: 2}", "evidence.min_confidence", "OUT_OF_RANGE"),
    ],
)
def test_one_mistake_is_named(old: str, new: str, field: str, reason: str) -> None:
    assert problems(MATRIX.replace(old, new))[field] == reason


@given(FIELDS, EVENTS, st.randoms(use_true_random=False))
def test_the_order_of_events_changes_nothing(fields: dict[str, Any], events: list[EventFacts], chance: Any) -> None:
    named = [replace(one, id=f"evt_{number}") for number, one in enumerate(events)]
    mixed = list(named)
    chance.shuffle(mixed)
    model = compiled(MATRIX)
    assert score(model, facts(fields, *named)) == score(model, facts(fields, *mixed))


def _later(model: ScoringModel, fields: dict[str, Any], events: list[EventFacts], days: int) -> int:
    origins = {f"contact.{name}": Origin("key_1", NOW) for name in fields}
    known = facts(fields, *events, origins=origins)
    return score(model, replace(known, as_of=NOW + timedelta(days=days))).score


@given(FIELDS, EVENTS, st.integers(0, 40), st.integers(0, 40))
def test_a_score_only_fades_while_nothing_happens(
    fields: dict[str, Any], events: list[EventFacts], one: int, more: int
) -> None:
    model = compiled(MATRIX)
    assert _later(model, fields, events, one + more) <= _later(model, fields, events, one)


@given(FIELDS, EVENTS)
def test_contributions_sum_to_the_score_within_the_cap_of_the_whole(
    fields: dict[str, Any], events: list[EventFacts]
) -> None:
    result = score(compiled(MATRIX.replace("cap: 70", "cap: 25")), facts(fields, *events))
    assert sum(one.points for one in result.contributions) == result.score == result.fit + result.engagement <= 25
    assert all(one.points <= one.decayed_points <= one.raw_points for one in result.contributions)
