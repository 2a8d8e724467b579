from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from core.domain.enrollment import EventFacts
from core.domain.qualification.counterfactuals import Counterfactual, changed, counterfactuals, with_further
from core.domain.qualification.model import ScoringModel
from core.domain.qualification.score import Decision, score
from tests.domain.qualification.test_score import EVENTS, FIELDS, HEAD, MODEL, facts, models


def told(fields: dict[str, Any], model: ScoringModel = MODEL) -> dict[str, tuple[Any, str, str]]:
    return {one.path: (one.would_be, one.tier, one.decision.value) for one in counterfactuals(model, facts(fields))}


def test_the_smallest_change_of_each_fact_is_told() -> None:
    found = told({"employees": 49, "job_title": "Head", "country": "DE", "industry": "steel"})
    assert found == {
        "event:demo.requested": (1, "B", "qualified"),
        "contact.employees": (50, "B", "nurture"),
        "contact.country": ("other", "C", "disqualified"),
        "contact.industry": ("competitor", "", "disqualified"),
        "contact.job_title": ("other", "C", "disqualified"),
    }


def test_a_way_out_of_a_disqualification_names_the_rule_that_stands_in_it() -> None:
    (one,) = (one for one in counterfactuals(MODEL, facts({**HEAD, "industry": "competitor"})) if one.tier)
    assert one == Counterfactual("contact.industry", "competitor", "other", "competitor", 50, "B", Decision.NURTURE)


@settings(max_examples=30)
@given(models(), FIELDS, EVENTS)
def test_what_is_told_really_moves_tier_or_decision_by_one_fact_alone(
    model: ScoringModel, fields: dict[str, Any], events: list[EventFacts]
) -> None:
    known = facts(fields, *events)
    now = score(model, known)
    for one in counterfactuals(model, known):
        if one.path.startswith("event:"):
            then = with_further(known, one.path.removeprefix("event:"), one.would_be - one.value)
        else:
            then = changed(known, one.path, one.would_be)
        result = score(model, then)
        assert (result.score, result.tier, result.decision) == (one.score, one.tier, one.decision)
        assert (result.tier, result.decision) != (now.tier, now.decision)


@settings(max_examples=30)
@given(FIELDS)
def test_no_smaller_number_of_employees_would_do(fields: dict[str, Any]) -> None:
    known = facts(fields)
    now = score(MODEL, known)
    for one in counterfactuals(MODEL, known):
        if one.path != "contact.employees" or "employees" not in fields:
            continue
        nearer = range(min(fields["employees"], one.would_be) + 1, max(fields["employees"], one.would_be))
        for count in (*nearer[:3], *nearer[-3:]):
            result = score(MODEL, changed(known, one.path, count))
            assert (result.tier, result.decision) != (one.tier, one.decision) or now.tier == one.tier
