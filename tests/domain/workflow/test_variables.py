"""The names of a workflow: what is declared is typed, what is not is open, and each is found where it lives."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from core.domain.enrollment import Enrollment, Facts, RecordFacts, State
from core.domain.workflow import templates
from core.domain.workflow.expressions import Environment
from core.domain.workflow.variables import (
    Known,
    RecordChange,
    record_environment,
    step_environment,
    trigger_environment,
)

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
FACTS = Facts(
    RecordFacts("cnt_1", "contact", {"email": "a@x.com", "custom": {"plan": "pro", "seats": 4}}),
    RecordFacts("lead_1", "lead", {"tier": "A"}),
    company=RecordFacts("cmp_1", "company", {"name": "X", "employees": 50, "custom": {"arr": 2.5}}),
    lists=frozenset({"trial", "beta"}),
)
ENROLLMENT = Enrollment(
    id="enr_1",
    org_id="org_1",
    workflow_id="wf_1",
    version=3,
    contact_id="cnt_1",
    key="k",
    actor="mem_1",
    state=State.ACTIVE,
    step_id="s",
    rev=1,
    entered_at=NOW,
    moved_at=NOW,
    variables={"discount": 0.2, "plan": "pro"},
    outputs={"call": {"body": {"ok": True}, "tags": ["a"], "any": 1}},
)
EVENT = {"id": "evt_1", "name": "paid", "occurred_at": "2026-03-01T00:00:00+00:00", "fields": {"amount": 12}}
KNOWN = Known(FACTS, NOW, EVENT, ENROLLMENT)

DECLARED = step_environment(
    {"call": {"body": "map", "tags": "list", "any": "any"}},
    variables={"discount": "number", "plan": "string"},
    event_fields={"amount": "number"},
    custom={"contact": {"plan": "string", "seats": "integer"}},
)
OPEN = step_environment({})


@pytest.mark.parametrize(
    "text",
    [
        'vars.discount < 0.5 && vars.plan == "pro"',
        "event.fields.amount > 10 && event.fields.amount == 12.0",
        'contact.custom.plan.startsWith("p") && contact.custom.seats >= 4',
        'company.name == "X" && company.employees == 50 && company.id == "cmp_1" && company.custom.arr > 2.0',
        '"trial" in contact.lists && contact.lists == ["beta", "trial"]',
        'enrollment.actor == "mem_1" && enrollment.key == "k" && workflow.version == 3',
        'steps.call.body.ok && "a" in steps.call.tags && steps.call.any == 1',
        "has(vars.discount) && !has(company.domain) && now > event.occurred_at && enrollment.entered_at == now",
    ],
)
def test_a_name_is_found_where_it_lives(text: str) -> None:
    result = DECLARED.compile(text, wants="boolean").evaluate(KNOWN)
    assert result.holds, result


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("{{ vars.plan }} {{ event.fields.amount }} {{ company.name }}", "pro 12 X"),
        ("{{ contact.lists | join: ', ' }}{% if contact.lists contains 'beta' %}!{% endif %}", "beta, trial!"),
        ("{{ steps.call.body.ok }} {{ steps.call.tags[0] }} {{ contact.custom.plan }}", "true a pro"),
    ],
)
def test_a_template_uses_the_same_names(text: str, rendered: str) -> None:
    template, problems = templates.check(text, DECLARED.variables, "text")
    assert template is not None, problems
    assert template.render(KNOWN).text == rendered


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("vars.discuont", "Did you mean vars.discount?"),
        ("event.fields.amuont", "Did you mean event.fields.amount?"),
        ("vars", "Name a value in it, such as vars.discount."),
    ],
)
def test_what_is_not_declared_is_a_mistake_once_anything_is(name: str, hint: str) -> None:
    _, (problem,) = DECLARED.check(f"{name} == 1")
    assert (problem.reason, problem.hint) == ("EXPRESSION_UNKNOWN_NAME", hint)
    _, (problem,) = templates.check(f"{{{{ {name} }}}}", DECLARED.variables, "text")
    assert (problem.reason, problem.hint) == ("TEMPLATE_UNKNOWN_NAME", hint)


def test_a_declared_kind_is_checked() -> None:
    _, (problem,) = DECLARED.check('vars.discount == "much"')
    assert problem.reason == "EXPRESSION_TYPE"


def test_where_nothing_is_declared_everything_may_be_asked_for() -> None:
    text = 'vars.anything == null || vars.plan == "pro" && event.fields.amount == 12 && contact.custom.seats == 4'
    assert OPEN.compile(text).evaluate(KNOWN).inputs == {
        "vars.anything": None,
        "vars.plan": "pro",
        "event.fields.amount": 12,
        "contact.custom.seats": 4,
    }


@pytest.mark.parametrize(
    ("text", "roots"),
    [
        ('contact.email == "x" && vars.plan == "y"', {"contact", "vars"}),
        ('company.name == "x" || lead.tier == "A"', {"company", "lead"}),
        ('"trial" in contact.lists', {"lists"}),
        ("[1].exists(company, company > 0)", set()),
        ("1 < 2", set()),
    ],
)
def test_an_expression_says_what_must_be_loaded_for_it(text: str, roots: set[str]) -> None:
    assert OPEN.compile(text).roots == roots


def test_a_template_says_what_must_be_loaded_for_it() -> None:
    template, _ = templates.check("{{ company.name }} {{ contact.lists }} {{ now }}", OPEN.variables, "text")
    assert template is not None
    assert template.roots == {"company", "lists", "now"}


def test_a_trigger_sees_what_will_be_given_at_entry() -> None:
    environment = trigger_environment(variables={"plan": "string"}, event_fields={"amount": "number"})
    known = Known(FACTS, NOW, EVENT, variables={"plan": "pro"})
    text = 'vars.plan == "pro" && event.fields.amount > 1 && company.name == "X" && "beta" in contact.lists'
    assert environment.compile(text).evaluate(known).holds
    assert environment.check("enrollment.id == ''")[1][0].reason == "EXPRESSION_UNKNOWN_NAME"


CHANGE = RecordChange("lead", {"tier": "B", "custom.plan": "free", "custom.seats": None})


@pytest.mark.parametrize(
    "text",
    [
        'change.record_type == "lead" && "tier" in change.fields && !("score" in change.fields)',
        'before.tier == "B" && lead.tier == "A" && before.tier != lead.tier',
        'before.custom.plan == "free" && contact.custom.plan == "pro"',
        'change.fields == ["custom.plan", "custom.seats", "tier"] && before.custom.seats == null',
        "!has(before.score) && now == now",
    ],
)
def test_a_record_trigger_sees_what_changed_and_what_was_before(text: str) -> None:
    result = record_environment().compile(text, wants="boolean").evaluate(Known(FACTS, NOW, None, change=CHANGE))
    assert result.holds, result


@pytest.mark.parametrize("environment", [DECLARED, OPEN, trigger_environment(), record_environment()])
def test_every_name_can_be_asked_for_when_nothing_is_known(environment: Environment) -> None:
    nobody = Known(Facts(RecordFacts("cnt_1", "contact", {})), NOW, None)
    found: dict[str, Any] = {name: nobody[name] for name in environment.variables}
    known = {name: value for name, value in found.items() if value is not None}
    assert known == {"contact.id": "cnt_1", "contact.lists": [], "now": NOW}
    assert nobody.get("no.such.name") is None
