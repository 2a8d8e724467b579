"""Own fields have their kinds in every document that is published, and keep those it was published with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from core.domain.enrollment import RecordFacts
from core.domain.errors import Invalid, Violation
from core.domain.qualification import parse as models
from core.domain.qualification.counterfactuals import counterfactuals
from core.domain.qualification.facts import LeadFacts
from core.domain.qualification.score import score
from core.domain.records.definitions import Definition, FieldKind
from core.domain.records.schema import build
from core.domain.routing import environment
from core.domain.routing import parse as routings
from core.domain.steps.shapes import Lookups
from core.domain.workflow import own_kinds
from core.domain.workflow.compile import compile_document
from core.domain.workflow.document import parse_source

SCHEMA = build(
    1,
    (),
    [
        ("contact", Definition("seats", FieldKind.INTEGER)),
        ("contact", Definition("renewal", FieldKind.DATE)),
        ("lead", Definition("plan", FieldKind.CHOICE, choices=("free", "pro"))),
        ("company", Definition("arr", FieldKind.NUMBER)),
    ],
)
OWN = own_kinds.of(SCHEMA.custom_kinds)
FACTS = RecordFacts("cnt_1", "contact", {"custom": {"seats": 4, "renewal": "2026-03-01", "free": "x"}})
MODEL = """
title: T
qualified_at: 5
tiers: [{name: A, from: 0}]
fit: {rules: [{id: r, points: 5, when: 'WHEN'}]}
"""
NOW = datetime(2026, 2, 1, tzinfo=UTC)


def _model(when: str) -> tuple[Violation, ...]:
    text = MODEL.replace("WHEN", when)
    return _refused(lambda: models.compiled(text, OWN))


def _demand(when: str) -> tuple[Violation, ...]:
    text = MODEL.replace("WHEN", "true") + f"approval: {{when: '{when}'}}"
    return _refused(lambda: models.compiled(text, OWN))


def _routing(when: str) -> tuple[Violation, ...]:
    text = f"title: T\nrules: [{{id: r, when: '{when}', members: [a@x.de]}}]\ncatch_all: {{members: [b@x.de]}}"
    return _refused(lambda: routings.compiled(text, OWN))


def _segment(when: str) -> tuple[Violation, ...]:
    text = f"title: T\ntriggers: [{{segment: '{when}'}}]\nsteps: [{{id: a, kind: exit}}]"
    return compile_document(parse_source(text), Lookups(schema=SCHEMA)).problems


def _refused(read: Callable[[], Any]) -> tuple[Violation, ...]:
    try:
        read()
    except Invalid as error:
        return error.violations
    return ()


@pytest.mark.parametrize(
    ("read", "path"),
    [
        (_model, "fit.rules[0].when"),
        (_demand, "approval.when"),
        (_routing, "rules[0].when"),
        (_segment, "triggers[0].segment"),
    ],
)
def test_a_defined_field_of_another_kind_is_a_problem_and_an_undefined_one_is_none(read: Any, path: str) -> None:
    for wrong in ('contact.custom.seats > "3"', "lead.custom.plan == 3", 'contact.custom.renewal == "2026-03-01"'):
        (problem,) = read(wrong)
        assert (problem.field, problem.reason) == (path, "EXPRESSION_TYPE")
        assert problem.hint
    assert read('contact.custom.seats > 3 && lead.custom.plan == "pro" && contact.custom.free > "3"') == ()


def test_a_routing_also_knows_the_fields_of_the_company_and_finds_a_territory_in_own_ones() -> None:
    assert [one.reason for one in _routing('company.custom.arr == "many"')] == ["EXPRESSION_TYPE"]
    text = (
        "title: T\nrules: [{id: r, method: territory, territory: contact.custom.seats}]\ncatch_all: {members: [b@x.de]}"
    )
    assert [one.field for one in _refused(lambda: routings.compiled(text, OWN))] == ["rules[0].territory"]


def test_what_is_published_keeps_the_kinds_that_it_mentions_and_reads_values_by_them() -> None:
    when = 'contact.custom.seats > 3 && contact.custom.renewal < timestamp("2026-04-01T00:00:00Z")'
    text = MODEL.replace("WHEN", when)
    model = models.compiled(text, OWN)
    stored = own_kinds.as_json(model.own)
    assert stored == {"contact.custom.renewal": "date", "contact.custom.seats": "integer"}
    again = models.compiled(text, own_kinds.from_json(stored))
    facts = LeadFacts(FACTS, RecordFacts("lead_1", "lead", {}), NOW)
    assert (score(again, facts).score, again.own) == (5, model.own)
    # Without its kind a date is a text, and no text comes before an instant.
    assert score(models.compiled(text), facts).score == 0
    assert "contact.custom.seats" in {one.path for one in counterfactuals(again, facts)}

    routing = f"title: T\nrules: [{{id: r, when: '{when}', members: [a@x.de]}}]\ncatch_all: {{members: [b@x.de]}}"
    read = routings.compiled(routing, OWN)
    condition = read.rules[0].when
    assert condition is not None
    assert condition.judge(environment.values(FACTS, None, None, "", read.own)).value is True


def test_a_version_runs_by_the_kinds_it_was_published_with_whatever_is_defined_since() -> None:
    text = (
        "title: T\nsteps: [{id: a, kind: filter, when: 'contact.custom.renewal < now && contact.custom.free == \"x\"'}]"
    )
    published = compile_document(parse_source(text), Lookups(schema=SCHEMA)).version
    assert published is not None
    assert own_kinds.as_json(published.own) == {"contact.custom.renewal": "date"}
    later = build(2, (), [("contact", Definition("free", FieldKind.INTEGER))])
    again = compile_document(parse_source(text), Lookups(schema=later, published_with=published.own)).version
    assert again is not None
    values = {"contact.custom": FACTS.fields["custom"], "contact.custom.renewal": "2026-03-01"}
    step: Any = again.steps["a"].step
    assert step.when.evaluate({**values, "now": datetime(2026, 4, 1, tzinfo=UTC)}).holds
    assert not step.when.evaluate({**values, "now": NOW}).holds
