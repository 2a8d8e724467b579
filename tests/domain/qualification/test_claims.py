from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.domain.enrollment import RecordFacts
from core.domain.qualification.claims import Claim, check, settle
from core.domain.qualification.facts import Fact, LeadFacts, Origin
from core.domain.qualification.parse import compiled
from core.domain.qualification.score import score

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
MODEL = compiled("""
title: T
qualified_at: 10
tiers: [{name: A, from: 0}]
fresh_for: {default: 365d, contact.job_title: 30d}
evidence: {min_confidence: 0.8}
fit:
  rules:
    - {id: size, when: contact.employees >= 50, points: 20}
    - {id: title, when: 'contact.job_title.contains("Head")', points: 10}
    - {id: plan, when: 'contact.custom.plan == "pro"', points: 5}
""")


def claim(path: str, value: Any, confidence: float = 0.9, days: int = 0) -> Claim:
    return Claim(path, value, "https://example.com/team", NOW - timedelta(days=days), confidence)


def facts(fields: dict[str, Any], days: int = 1) -> LeadFacts:
    origins = {f"contact.{name}": Origin("key_crm", NOW - timedelta(days=days)) for name in fields}
    return LeadFacts(RecordFacts("cnt_1", "contact", fields), RecordFacts("lead_1", "lead", {}), NOW, (), origins)


@pytest.mark.parametrize(
    ("known", "one", "counts"),
    [
        (facts({}), claim("contact.employees", 90), True),
        (facts({}), claim("contact.employees", 90, confidence=0.8), True),
        (facts({}), claim("contact.employees", 90, confidence=0.79), False),
        (facts({"employees": 10}), claim("contact.employees", 90), False),  # a fresh fact stands
        (facts({"employees": 10}, days=366), claim("contact.employees", 90), True),  # a stale one does not
        (facts({"job_title": "Buyer"}, days=31), claim("contact.job_title", "Head"), True),
        (facts({}), claim("contact.job_title", "Head", days=31), False),  # the claim itself is stale
        (replace(facts({}), as_of=NOW - timedelta(days=2)), claim("contact.employees", 90, days=1), False),
        (facts({}), claim("contact.custom.plan", "pro"), True),
    ],
)
def test_a_claim_counts_where_no_fresh_fact_stands_and_it_is_sure_and_fresh(
    known: LeadFacts, one: Claim, counts: bool
) -> None:
    settled = settle(MODEL, known, [one])
    assert (settled.used, settled.ignored) == (((one,), ()) if counts else ((), (one,)))
    assert (score(MODEL, settled.facts) != score(MODEL, known)) is counts


def test_the_surest_claim_about_a_fact_counts_and_then_the_newest() -> None:
    old, new, sure = (
        claim("contact.employees", 10, 0.8, days=9),
        claim("contact.employees", 20, 0.8),
        claim("contact.employees", 60, 0.95, days=20),
    )
    assert settle(MODEL, facts({}), [old, new, sure]).used == (sure,)
    assert settle(MODEL, facts({}), [old, new]).used == (new,)


def test_a_claim_is_told_apart_from_facts_among_the_inputs_of_a_rule() -> None:
    settled = settle(MODEL, facts({"job_title": "Head of Ops"}), [claim("contact.employees", 90)])
    inputs = {one.rule_id: one.inputs for one in score(MODEL, settled.facts).contributions}
    assert inputs == {
        "size": (Fact("contact.employees", 90, "https://example.com/team", NOW, claimed=True),),
        "title": (Fact("contact.job_title", "Head of Ops", "key_crm", NOW - timedelta(days=1)),),
    }


def test_a_stale_fact_gives_its_points_and_costs_confidence() -> None:
    result = score(MODEL, facts({"employees": 90, "job_title": "Head", "custom": {"plan": "pro"}}, days=60))
    assert result.score == 35
    assert [fact.stale for one in result.contributions for fact in one.inputs] == [False, True, False]
    assert result.confidence == 25 / 35


@pytest.mark.parametrize(
    ("one", "field", "reason"),
    [
        (claim("contact.emplyees", 1), "evidence[0].path", "UNKNOWN_FIELD"),
        (claim("company.name", "x"), "evidence[0].path", "UNKNOWN_FACT"),
        (claim("lead.score", 90), "evidence[0].path", "NOT_A_FACT"),
        (claim("contact.employees", "many"), "evidence[0].value", "NOT_A_WHOLE_NUMBER"),
        (claim("contact.employees", None), "evidence[0].value", "REQUIRED"),
        (claim("contact.employees", 5, confidence=1.1), "evidence[0].confidence", "OUT_OF_RANGE"),
        (claim("contact.employees", 5, days=-1), "evidence[0].observe_time", "IN_THE_FUTURE"),
        (replace(claim("contact.employees", 5), source=" "), "evidence[0].source", "REQUIRED"),
    ],
)
def test_a_claim_that_cannot_be_one_is_refused(one: Claim, field: str, reason: str) -> None:
    _, problems = check(one, "evidence[0]", NOW)
    assert [(problem.field, problem.reason) for problem in problems][:1] == [(field, reason)] or problems[
        0
    ].field == field


def test_a_claim_is_kept_in_the_form_in_which_records_are() -> None:
    accepted, problems = check(claim("contact.employees", "90"), "evidence[0]", NOW)
    assert (accepted.value, problems) == (90, [])
