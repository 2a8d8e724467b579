"""Liquid: checked when published, rendered on values alone, within limits."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.workflow import templates
from core.domain.workflow.escapes import Escape
from core.domain.workflow.templates import Rendered, Template

VARIABLES = {
    "contact.email": "string",
    "contact.first_name": "string",
    "lead.tier": "string",
    "event.fields": "map",
    "now": "instant",
}
VALUES: dict[str, Any] = {
    "contact.email": "ada@example.com",
    "event.fields": {"items": [{"n": 1}, {"n": 2}], "plan": "pro"},
    "now": datetime(2026, 3, 2, 9, tzinfo=UTC),
}


def _template(text: str) -> Template:
    template, problems = templates.check(text, VARIABLES, "text")
    assert template is not None, problems
    return template


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("To {{ contact.email | upcase }}", "To ADA@EXAMPLE.COM"),
        ("Hi {{ contact.first_name | default: 'there' }}", "Hi there"),
        ("{% if lead.tier == 'A' %}hot{% else %}not{% endif %}", "not"),
        ("{% for item in event.fields.items %}{{ item.n }},{% endfor %}", "1,2,"),
        ("{{ event.fields.items[1].n }}{{ event.fields['plan'] }}", "2pro"),
        ("{{ now | date: '%d.%m.%Y' }} {{ 'now' | date: '%Y' }}", "02.03.2026 2026"),
        ("{% assign x = 1 | plus: 2 %}{{ x }}", "3"),
        ("plain", "plain"),
    ],
)
def test_a_template_is_rendered_on_the_values_given(text: str, rendered: str) -> None:
    assert _template(text).render(VALUES).text == rendered


def test_what_is_not_known_is_empty_and_reported() -> None:
    rendered = _template("{{ contact.email }}: {{ contact.first_name }}, {{ event.fields.size_of_team }}").render(
        VALUES
    )
    assert rendered == Rendered(
        "ada@example.com: , ",
        "",
        {"contact.email": "ada@example.com", "contact.first_name": None, "event.fields.size_of_team": None},
        ("contact.first_name", "event.fields.size_of_team"),
    )


@pytest.mark.parametrize(
    ("text", "gaps"),
    [
        ("Hi {{ contact.first_name | default: 'you' }}", ()),
        ("Hi {{ contact.first_name | capitalize }}", ("contact.first_name",)),
        ("{% if contact.first_name %}Hi {{ contact.first_name }}{% endif %}", ()),
        ("{% unless contact.first_name %}Hi {{ contact.first_name }}{% endunless %}", ("contact.first_name",)),
        ("{% assign who = contact.first_name %}Hi {{ who }}", ("who",)),
        ("{{ contact.email }}", ()),
    ],
)
def test_only_what_should_have_been_written_and_has_no_default_leaves_a_gap(text: str, gaps: tuple[str, ...]) -> None:
    assert _template(text).render(VALUES).missing == gaps


@pytest.mark.parametrize(
    ("text", "reason", "message", "hint"),
    [
        (
            "Hi {{ contact.emial }}",
            "TEMPLATE_UNKNOWN_NAME",
            "column 7: there is no contact.emial here",
            "Did you mean contact.email?",
        ),
        (
            "{{ contact }}",
            "TEMPLATE_UNKNOWN_NAME",
            "column 4: contact is not a value by itself",
            "Name a value in it, such as contact.email.",
        ),
        (
            "{{ today }}",
            "TEMPLATE_UNKNOWN_NAME",
            "column 4: there is no today here",
            "Names begin with contact, event, lead, now.",
        ),
        (
            "\n{{ contact.email | upcas }}{{ 'a' }}",
            "TEMPLATE_UNKNOWN_FILTER",
            "there is no filter upcas",
            "Did you mean upcase?",
        ),
        (
            "{% include 'secrets' %}",
            "TEMPLATE_SYNTAX",
            "column 4: this is not Liquid: unexpected tag 'include'",
            "The tags there are: assign, break, capture, case, comment, continue, cycle, echo, for, if, ifchanged, "
            "unless.",
        ),
        (
            "a\n{{ a b }}",
            "TEMPLATE_SYNTAX",
            "line 2, column 6: this is not Liquid: expected end of expression, found word",
            "Write {{ contact.email }} for a value, {% if lead.tier == 'A' %}…{% endif %} for a condition.",
        ),
    ],
)
def test_what_is_wrong_is_said_before_it_runs(text: str, reason: str, message: str, hint: str) -> None:
    _, (problem,) = templates.check(text, VARIABLES, "steps[2].message")
    assert (problem.field, problem.reason, problem.message, problem.hint) == ("steps[2].message", reason, message, hint)


_BLOW = "| replace: '', '" + "b" * 40 + "' "


@pytest.mark.parametrize(
    "text",
    [
        "{% for i in (1..1000000) %}x{% endfor %}",
        "{% for i in (1..9000) %}0123456789{% endfor %}",
        "{{ (1..1000000000) | join: ',' }}",
        "{{ (1..1000000000) | size }}",
        "{{ 'a' " + _BLOW * 12 + "}}",
        "{% assign a = 'aaaaaaaa' | split: '' %}{% for i in (1..40) %}{% assign a = a | concat: a %}{% endfor %}",
        "{% assign a = 'aaaaaaaa' %}{% for i in (1..60) %}{% assign a = a | append: a %}{% endfor %}",
    ],
)
def test_a_template_that_grows_without_end_is_stopped(text: str) -> None:
    rendered = _template(text).render(VALUES)
    assert rendered.text is None
    assert rendered.error == "it grows over 65,536 characters or 10,000 loops"


@pytest.mark.parametrize("text", ["{{ 1 | divided_by: 0 }}", "{{ '1e400' | ceil }}", "{{ 'x' | first: 1, 2 }}"])
def test_a_template_that_cannot_be_rendered_says_why(text: str) -> None:
    rendered = _template(text).render(VALUES)
    assert rendered.text is None
    assert rendered.error


def test_a_rendered_text_has_nothing_that_a_database_refuses() -> None:
    assert _template("a{{ '%00' | url_decode }}b").render(VALUES).text == "ab"


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="{}%| contact.email'if endforx[]:=,1", max_size=50))
def test_no_text_makes_check_or_render_raise(text: str) -> None:
    template, problems = templates.check(text, VARIABLES, "text")
    assert (template is None) == bool(problems)
    if template is not None:
        assert template.render(VALUES) == template.render(VALUES)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["plan", "size", "x"]), inner, max_size=3)
    ),
    max_leaves=5,
)
_PLAIN = (
    "{{ contact.email }} is {{ contact.first_name }}\n",
    "{{ event.fields.plan }}-{{ event.fields.plan.x }}",
    "  {{- event.fields.plan -}}  {{ event.fields.size }}",
    "{{ event.fields['0'] }}{{ event.fields.items[0] }}{{ now }}",
)


@pytest.mark.parametrize("escape", ["none", "html"])
@pytest.mark.parametrize("text", _PLAIN)
@given(email=_JSON | st.just(VALUES["now"]), name=_JSON, fields=_JSON)
def test_a_text_of_values_alone_is_what_the_engine_makes_of_it(
    text: str, escape: Escape, email: Any, name: Any, fields: Any
) -> None:
    template, problems = templates.check(text, VARIABLES, "text", escape=escape)
    assert template is not None, problems
    values = {**VALUES, "contact.email": email, "contact.first_name": name, "event.fields": fields}
    assert repr(template.render(values)) == repr(replace(template, _parts=None).render(values))


def test_a_text_of_values_alone_has_the_same_limit() -> None:
    template = _template("{{ contact.email }}{{ contact.first_name }}")
    long = {"contact.email": "a" * 40_000, "contact.first_name": "b" * 40_000}
    assert template.render(long).text is None
    assert template.render({**long, "contact.first_name": None}).text == "a" * 40_000
