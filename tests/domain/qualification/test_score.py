from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.enrollment import EventFacts, RecordFacts
from core.domain.qualification.facts import Fact, LeadFacts, Origin
from core.domain.qualification.model import ScoringModel
from core.domain.qualification.parse import compiled
from core.domain.qualification.score import Contribution, Decision, MissingFact, Score, demand, score

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MODEL = compiled("""
title: Inbound
qualified_at: 60
nurture_at: 30
tiers: [{name: A, from: 70}, {name: B, from: 45}, {name: C, from: 0}]
disqualify:
  - {id: competitor, when: 'contact.industry == "competitor"'}
fit:
  cap: 50
  rules:
    - {id: size, when: contact.employees >= 50, points: 25}
    - {id: title, when: 'contact.job_title.contains("Head")', points: 20}
    - {id: country, when: 'contact.country in ["DE", "AT"]', points: 10}
engagement:
  cap: 40
  window: 30d
  rules:
    - {id: demo, event: demo.requested, points: 30}
    - {id: pricing, event: pricing.viewed, when: 'event.fields.plan == "pro"', points: 5, per: each, max_points: 15}
    - {id: big_docs, event: docs.read, when: contact.employees > 500, points: 5}
approval: {when: tier == "A", reason: A named account}
""")
HEAD = {"employees": 120, "job_title": "Head of Revenue", "country": "DE", "industry": "steel"}


def event(
    name: str, fields: dict[str, Any] | None = None, *, ago: timedelta = timedelta(), late: timedelta = timedelta()
) -> EventFacts:
    at = NOW - ago
    return EventFacts(f"evt_{name}_{ago.days}", name, "action", fields or {}, at, at + late)


def facts(fields: dict[str, Any], *events: EventFacts, origins: dict[str, Origin] | None = None) -> LeadFacts:
    return LeadFacts(
        RecordFacts("cnt_1", "contact", fields), RecordFacts("lead_1", "lead", {}), NOW, events, origins or {}
    )


def points(result: Score) -> dict[str, tuple[int, int]]:
    return {one.rule_id: (one.raw_points, one.points) for one in result.contributions}


def test_a_cap_cuts_the_rules_further_down() -> None:
    result = score(MODEL, facts(HEAD, event("demo.requested")))
    assert points(result) == {"size": (25, 25), "title": (20, 20), "country": (10, 5), "demo": (30, 30)}
    assert (result.score, result.fit, result.engagement) == (80, 50, 30)
    assert (result.tier, result.decision, result.confidence) == ("A", Decision.QUALIFIED, 1.0)


def test_each_event_counts_up_to_the_most_of_its_rule_and_then_of_its_group() -> None:
    viewed = [event("pricing.viewed", {"plan": "pro"}, ago=timedelta(days=day)) for day in range(5)]
    result = score(MODEL, facts(HEAD, event("demo.requested"), *viewed))
    assert points(result)["pricing"] == (25, 10)
    assert result.engagement == 40


def test_a_rule_left_with_no_points_is_no_contribution() -> None:
    model = compiled(
        "{title: T, qualified_at: 5, tiers: [{name: A, from: 0}], fit: {cap: 5, rules: "
        "[{id: a, when: 'true', points: 5}, {id: b, when: 'true', points: 5}]}}"
    )
    assert points(score(model, facts({}))) == {"a": (5, 5)}


def test_events_outside_the_window_or_after_the_instant_do_not_count() -> None:
    old = event("demo.requested", ago=timedelta(days=30))
    unheard = event("demo.requested", late=timedelta(seconds=1))
    assert score(MODEL, facts(HEAD, old, unheard)).engagement == 0


def test_a_contribution_shows_its_inputs_with_their_origin() -> None:
    origins = {"contact.employees": Origin("key_1", NOW - timedelta(days=1))}
    known = facts({"employees": 120}, event("pricing.viewed", {"plan": "pro"}), origins=origins)
    assert score(MODEL, known).contributions == (
        Contribution(
            "size",
            "fit",
            "contact.employees >= 50",
            25,
            25,
            (Fact("contact.employees", 120, "key_1", NOW - timedelta(days=1)),),
            25,
        ),
        Contribution(
            "pricing",
            "engagement",
            'event pricing.viewed and event.fields.plan == "pro"',
            5,
            5,
            (
                Fact("event.name", "pricing.viewed", "event:evt_pricing.viewed_0", NOW),
                Fact("event.fields.plan", "pro", "event:evt_pricing.viewed_0", NOW),
            ),
            5,
        ),
    )


def test_missing_facts_come_with_the_points_at_stake() -> None:
    result = score(MODEL, facts({}, event("docs.read")))
    assert result.missing == (
        MissingFact("contact.employees", ("size", "big_docs"), 30),
        MissingFact("contact.job_title", ("title",), 20),
        MissingFact("contact.country", ("country",), 10),
        MissingFact("contact.industry", ("competitor",), 0),
    )


def test_an_event_that_lacks_a_field_is_no_missing_fact() -> None:
    result = score(MODEL, facts(HEAD, event("pricing.viewed")))
    assert (result.missing, result.confidence) == ((), 1.0)


def test_a_disqualify_rule_outweighs_every_point() -> None:
    result = score(MODEL, facts({**HEAD, "industry": "competitor"}, event("demo.requested")))
    assert (result.decision, result.score, result.tier) == (Decision.DISQUALIFIED, 80, "")
    assert [one.rule_id for one in result.disqualifiers] == ["competitor"]


@pytest.mark.parametrize(
    ("fields", "events", "decision"),
    [
        (HEAD, 1, Decision.QUALIFIED),
        (HEAD, 0, Decision.NURTURE),
        ({**HEAD, "employees": 1, "job_title": "Intern"}, 0, Decision.DISQUALIFIED),
        ({}, 0, Decision.NEEDS_INFO),  # nothing known: it could be a lead to nurture
        ({}, 1, Decision.NEEDS_INFO),  # could be qualified
        ({"country": "FR", "job_title": "Head"}, 1, Decision.NURTURE),  # could be, but enough is known to judge
    ],
)
def test_the_decision_follows_the_score_unless_too_little_is_known(
    fields: dict[str, Any], events: int, decision: Decision
) -> None:
    assert score(MODEL, facts(fields, *[event("demo.requested")] * events)).decision is decision


def test_an_approval_is_demanded_by_the_result_and_to_be_safe_when_it_cannot_be_told() -> None:
    hot = facts(HEAD, event("demo.requested"))
    assert demand(MODEL, hot, score(MODEL, hot)) == "A named account"
    cold = facts(HEAD)
    assert demand(MODEL, cold, score(MODEL, cold)) == ""
    text = "{title: T, qualified_at: 5, tiers: [{name: A, from: 0}], fit: {rules: [{id: a, when: 'true', points: 5}]}, "
    doubtful = compiled(text + 'approval: {when: contact.country == "US", reason: Export}}')
    unknown = facts({})
    asked = demand(doubtful, unknown, score(doubtful, unknown))
    assert asked == "Export (asked for to be safe: contact.country is not known)"


FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "employees": st.integers(0, 1000),
        "job_title": st.sampled_from(["Head of Ops", "Intern"]),
        "country": st.sampled_from(["DE", "FR"]),
        "industry": st.sampled_from(["steel", "competitor"]),
    },
)
EVENTS = st.lists(
    st.builds(
        event,
        st.sampled_from(["demo.requested", "pricing.viewed", "docs.read", "other"]),
        st.fixed_dictionaries({}, optional={"plan": st.sampled_from(["pro", "free"])}),
        ago=st.timedeltas(timedelta(), timedelta(days=60)),
    ),
    max_size=8,
)


@st.composite
def models(draw: st.DrawFn) -> ScoringModel:
    def rules(group: str) -> str:
        lines = []
        for index in range(draw(st.integers(1, 4))):
            points = draw(st.integers(1, 40))
            if group == "fit":
                when = draw(st.sampled_from(["contact.employees >= 50", 'contact.country == "DE"', "true"]))
                lines.append(f"{{id: f{index}, when: '{when}', points: {points}}}")
            else:
                name = draw(st.sampled_from(["demo.requested", "pricing.viewed"]))
                each = f", per: each, max_points: {points * 2}" if draw(st.booleans()) else ""
                lines.append(f"{{id: e{index}, event: {name}, points: {points}{each}}}")
        return f"{group}: {{cap: {draw(st.integers(1, 60))}, rules: [{', '.join(lines)}]}}"

    tiers = "[{name: A, from: 50}, {name: B, from: 0}]"
    return compiled(f"{{title: T, qualified_at: 1, tiers: {tiers}, {rules('fit')}, {rules('engagement')}}}")


@given(models(), FIELDS, EVENTS)
def test_contributions_sum_exactly_to_the_score_within_every_cap(
    model: ScoringModel, fields: dict[str, Any], events: list[EventFacts]
) -> None:
    result = score(model, facts(fields, *events))
    most = {rule.id: rule.most for rule in (*model.fit.rules, *model.engagement.rules)}
    assert sum(one.points for one in result.contributions) == result.score == result.fit + result.engagement
    assert all(0 < one.points <= min(one.raw_points, most[one.rule_id]) for one in result.contributions)
    assert result.fit <= model.fit.cap
    assert result.engagement <= model.engagement.cap


@given(FIELDS, EVENTS, EVENTS)
def test_more_events_never_lower_the_score(
    fields: dict[str, Any], events: list[EventFacts], more: list[EventFacts]
) -> None:
    assert score(MODEL, facts(fields, *events, *more)).score >= score(MODEL, facts(fields, *events)).score


@given(FIELDS, EVENTS, st.data())
def test_a_further_fact_never_lowers_the_confidence(
    fields: dict[str, Any], events: list[EventFacts], data: st.DataObject
) -> None:
    left_out = data.draw(st.sets(st.sampled_from(sorted(fields)))) if fields else set()
    fewer = {name: value for name, value in fields.items() if name not in left_out}
    before, after = score(MODEL, facts(fewer, *events)), score(MODEL, facts(fields, *events))
    assert 0 <= before.confidence <= after.confidence <= 1
    assert {one.path for one in after.missing} <= {one.path for one in before.missing}


@given(FIELDS, EVENTS)
def test_the_same_facts_always_give_the_same_result(fields: dict[str, Any], events: list[EventFacts]) -> None:
    assert score(MODEL, facts(fields, *events)) == score(MODEL, facts(dict(fields), *events))


@given(FIELDS, EVENTS)
def test_confidence_is_whole_exactly_when_no_point_is_at_stake(
    fields: dict[str, Any], events: list[EventFacts]
) -> None:
    result = score(MODEL, facts(fields, *events))
    assert (result.confidence == 1.0) is (sum(one.points for one in result.missing) == 0)
