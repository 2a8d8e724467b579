"""Values as authors write them: literals cost nothing, computed ones say what they read and what is missing."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.workflow import values
from core.domain.workflow.expressions import Environment
from core.domain.workflow.values import Computed, Value

ENVIRONMENT = Environment(
    {"contact.email": "string", "company.name": "string", "contact.lists": "list", "vars": "map", "now": "instant"}
)
KNOWN: dict[str, Any] = {"contact.email": "a@x.com", "vars": {"n": 2}}


def _value(raw: Any, **options: Any) -> Value:
    value, problems = values.check(raw, ENVIRONMENT, "data", **options)
    assert value is not None, problems
    return value


@pytest.mark.parametrize("raw", [1, "text", None, True, [], {}, {"a": [1, {"b": "c"}]}, {"cel": 1, "x": 2}])
def test_a_literal_is_worked_out_once(raw: Any) -> None:
    value = _value(raw)
    assert value.compute(KNOWN) == Computed(raw)
    assert value.compute(KNOWN) is value.compute({})
    assert value.roots == frozenset()


def test_a_tree_of_values_gathers_what_its_parts_read_and_lack() -> None:
    value = _value({"who": "{{ contact.email }}", "more": [{"cel": "vars.n + 1"}, "{{ company.name }}", 7]})
    assert value.compute(KNOWN) == Computed(
        {"who": "a@x.com", "more": [3, "", 7]},
        ("company.name is not known",),
        (),
        {"contact.email": "a@x.com", "vars.n": 2, "company.name": None},
    )


def test_an_expression_that_breaks_is_an_error_and_one_that_lacks_something_a_gap() -> None:
    broken = _value({"a": {"cel": "moment(contact.email)"}}).compute(KNOWN)
    assert (broken.errors, broken.gaps) == (("it could not be evaluated ('a@x.com' is not a date)",), ())
    lacking = _value({"a": {"cel": "moment(vars.day)"}}).compute(KNOWN)
    assert (lacking.errors, lacking.gaps) == ((), ("vars.day is not known",))


def test_a_value_says_what_must_be_loaded_for_it() -> None:
    value = _value({"a": ["{{ company.name }}", {"cel": "contact.lists.size()"}], "b": {"cel": "vars.n"}, "c": 1})
    assert value.roots == {"company", "lists", "vars"}


def test_a_value_for_html_escapes_its_texts_only() -> None:
    raw = {"body": "<b>{{ contact.email }}</b>", "id": {"cel": "contact.email"}}
    computed = _value(raw, escape="html").compute({"contact.email": "<a>"})
    assert computed.value == {"body": "<b>&lt;a&gt;</b>", "id": "<a>"}


def test_everything_that_is_wrong_is_said_with_its_path() -> None:
    value, problems = values.check(
        {"a": "{{ contact.emial }}", "b": [{"cel": 3}, {"cel": "contact.x"}]}, ENVIRONMENT, "data"
    )
    assert value is None
    assert [(one.field, one.reason) for one in problems] == [
        ("data.a", "TEMPLATE_UNKNOWN_NAME"),
        ("data.b[0].cel", "WRONG_TYPE"),
        ("data.b[1].cel", "EXPRESSION_UNKNOWN_NAME"),
    ]
