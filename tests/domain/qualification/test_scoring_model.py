from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from core.domain.errors import Invalid
from core.domain.qualification.parse import compiled

GOOD = """
title: Inbound
qualified_at: 60
nurture_at: 30
tiers: [{name: A, from: 70}, {name: B, from: 0}]
disqualify:
  - {id: competitor, when: 'contact.industry == "competitor"'}
fit:
  cap: 60
  rules:
    - {id: size, when: contact.employees >= 50, points: 60}
engagement:
  cap: 40
  window: 30d
  rules:
    - {id: pricing, event: pricing.viewed, when: 'event.fields.plan == "pro"', points: 5, per: each, max_points: 15}
routing: {method: round_robin, members: [Ada@Example.com]}
approval: {when: tier == "A", reason: A named account}
on_qualified: {set: {source: inbound, custom: {desk: emea}}}
"""


def problems(text: str) -> dict[str, str]:
    with pytest.raises(Invalid) as caught:
        compiled(text)
    return {violation.field: violation.reason for violation in caught.value.violations}


def test_a_model_is_read_as_written() -> None:
    model = compiled(GOOD)
    assert (model.title, model.qualified_at, model.nurture_at) == ("Inbound", 60, 30)
    assert [(tier.name, tier.start) for tier in model.tiers] == [("A", 70), ("B", 0)]
    assert [(rule.id, rule.points, rule.most) for rule in model.fit.rules] == [("size", 60, 60)]
    assert [(rule.event, rule.each, rule.most) for rule in model.engagement.rules] == [("pricing.viewed", True, 15)]
    assert model.window == timedelta(days=30)
    assert model.routing is not None
    assert model.routing.members == ("ada@example.com",)
    assert model.on_qualified == {"source": "inbound", "custom.desk": "emea"}
    assert model.event_names == {"pricing.viewed"}


def test_the_model_of_the_story_compiles() -> None:
    story = Path(__file__).parents[3] / "core" / "demo" / "default-model.yaml"
    assert compiled(story.read_text()).qualified_at == 60


def test_caps_and_window_have_defaults() -> None:
    model = compiled(
        "{title: T, qualified_at: 10, tiers: [{name: A, from: 0}], "
        "engagement: {rules: [{id: r, event: e, points: 10, per: each}]}}"
    )
    assert (model.fit.cap, model.engagement.cap, model.window, model.nurture_at) == (100, 100, timedelta(days=90), 0)
    assert model.engagement.rules[0].most == 100


def test_everything_wrong_is_said_at_once_with_its_place() -> None:
    text = """
titel: x
qualified_at: 60
nurture_at: 70
tiers: [{name: A, from: 10}, {name: A, from: 20}]
disqualify: [{id: a, when: contact.emplyees > 5}]
fit:
  cap: x
  rules:
    - {id: a, when: contact.employees + 1, points: -5}
    - {id: "b c", points: 1.5, when: lead.score > 3}
    - 7
engagement:
  window: 9y
  rules:
    - {id: c, event: e, points: 5, max_points: 3}
    - {id: d, points: 5, max_points: 3, per: each}
    - {id: e, event: e, points: 5, per: week}
routing: {method: rr, members: [a@b.c, A@b.c, x]}
approval: {when: teir == "A"}
on_qualified: {set: {status: qualifed, score: 3, nope: 1}}
"""
    assert problems(text) == {
        "titel": "UNKNOWN_KEY",
        "title": "REQUIRED",
        "nurture_at": "ABOVE_QUALIFIED",
        "tiers[1].from": "NOT_DESCENDING",
        "tiers[1].name": "DUPLICATE",
        "disqualify[0].when": "EXPRESSION_UNKNOWN_NAME",
        "fit.cap": "NOT_A_WHOLE_NUMBER",
        "fit.rules[0].id": "DUPLICATE",
        "fit.rules[0].when": "EXPRESSION_TYPE",
        "fit.rules[0].points": "OUT_OF_RANGE",
        "fit.rules[1].id": "BAD_ID",
        "fit.rules[1].when": "EXPRESSION_UNKNOWN_NAME",
        "fit.rules[1].points": "NOT_A_WHOLE_NUMBER",
        "fit.rules[2]": "WRONG_TYPE",
        "engagement.window": "BAD_DURATION",
        "engagement.rules[0].max_points": "NOT_ALLOWED",
        "engagement.rules[1].event": "REQUIRED",
        "engagement.rules[1].max_points": "BELOW_POINTS",
        "engagement.rules[2].per": "UNKNOWN_VALUE",
        "routing.method": "UNKNOWN_VALUE",
        "routing.members[1]": "DUPLICATE",
        "routing.members[2]": "NOT_AN_EMAIL",
        "approval.when": "EXPRESSION_UNKNOWN_NAME",
        "on_qualified.set.status": "UNKNOWN_VALUE",
        "on_qualified.set.nope": "UNKNOWN_FIELD",
        "on_qualified.set.score": "SET_BY_QUALIFICATION",
    }


@pytest.mark.parametrize(
    ("old", "new", "field", "reason"),
    [
        ("qualified_at: 60", "qualified_at: 90", "qualified_at", "OUT_OF_REACH"),
        ("{name: B, from: 0}", "{name: B, from: 70}", "tiers[1].from", "NOT_DESCENDING"),
        ("{name: B, from: 0}", "{name: B, from: 5}", "tiers[1].from", "NO_LOWEST_TIER"),
        ("cap: 60", "cap: 60\n  window: 3d", "fit.window", "UNKNOWN_KEY"),
        ("points: 60", "points: true", "fit.rules[0].points", "NOT_A_WHOLE_NUMBER"),
        ("window: 30d", "window: 3y", "engagement.window", "BAD_DURATION"),
        ("window: 30d", "window: 900d", "engagement.window", "TOO_LONG"),
        ("members: [Ada@Example.com]", "members: []", "routing.members", "REQUIRED"),
    ],
)
def test_one_mistake_is_named(old: str, new: str, field: str, reason: str) -> None:
    found = problems(GOOD.replace(old, new))
    assert found[field] == reason


def test_a_model_without_rules_is_refused() -> None:
    assert problems("{title: T, qualified_at: 10, tiers: [{name: A, from: 0}]}") == {"fit.rules": "NO_RULES"}


@pytest.mark.parametrize("text", ["", "[1]", "title: [", "title: *a"])
def test_what_is_no_document_is_refused(text: str) -> None:
    assert list(problems(text)) == ["source"]
