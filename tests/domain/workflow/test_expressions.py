"""CEL: checked against what is declared, run on plain values, and never a surprise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.errors import Invalid
from core.domain.workflow.expression_errors import FUNCTIONS
from core.domain.workflow.expressions import Environment, Kind, Result

VARIABLES: dict[str, Kind] = {
    "contact.email": "string",
    "contact.employees": "integer",
    "contact.revenue": "number",
    "contact.unsubscribed": "boolean",
    "contact.seen_at": "instant",
    "contact.born_on": "date",
    "contact.custom": "map",
    "event.fields": "map",
    "now": "instant",
}
ENVIRONMENT = Environment(VARIABLES)
VALUES: dict[str, Any] = {
    "contact.email": "ada@example.com",
    "contact.employees": 120,
    "contact.revenue": 3,
    "contact.seen_at": "2026-03-01T09:00:00Z",
    "contact.born_on": "1990-05-17",
    "contact.custom": {"plan": "pro", "seats": 4, "deep": {"x": 1}},
    "event.fields": {"list": [1, 2, 3], "ends": "2026-11-30", "said": "29.02.2028", "seconds": 1859999999},
    "now": datetime(2026, 3, 2, 9, tzinfo=UTC),
}


@pytest.mark.parametrize(
    "text",
    [
        'contact.email == "ada@example.com"',
        'contact.email.endsWith("@example.com")',
        'contact.email.upperAscii().startsWith("ADA")',
        "contact.employees >= 100",
        "contact.employees > 99.5",
        "contact.revenue > 2",
        "contact.revenue in [3, 4]",
        "contact.employees / 2 == 60",
        "contact.revenue * 2.0 == 6.0",
        'contact.custom.plan == "pro"',
        'contact.custom["plan"] == "pro"',
        "contact.custom.seats > 3",
        "has(contact.email)",
        "!has(contact.unsubscribed)",
        "has(contact.seen_at) && has( contact.custom.plan ) && !has(contact.custom.other)",
        "contact.unsubscribed == null",
        "contact.unsubscribed || contact.employees > 1",
        'now - contact.seen_at == duration("24h")',
        'contact.seen_at < timestamp("2026-03-01T10:00:00Z")',
        "contact.born_on.getFullYear() == 1990",
        'now.getHours("Europe/Berlin") == 10',
        'moment(contact.born_on) == moment("1990-05-17T02:00:00+02:00")',
        'moment(contact.seen_at) == moment("2026-03-01T09:00:00")',
        'now - moment(event.fields.ends) < duration("0s") && moment(now) == now',
        "event.fields.list.exists(x, x == 2)",
        "event.fields.list.map(x, x * 2).filter(y, y > 2).size() == 2",
        '"a // b" == "a // b" // a comment with has(contact.email)',
    ],
)
def test_a_condition_that_is_true_holds(text: str) -> None:
    result = ENVIRONMENT.compile(text, wants="boolean").evaluate(VALUES)
    assert result.holds, result


@pytest.mark.parametrize(
    ("text", "why", "broke"),
    [
        ("contact.unsubscribed", "contact.unsubscribed is not known", False),
        ("!contact.unsubscribed", "contact.unsubscribed is not known", False),
        ("contact.unsubscribed && now >= now", "contact.unsubscribed is not known", False),
        ('contact.custom.other == "x"', "contact.custom.other is not known", False),
        ("contact.custom.other.deeper > 1", "contact.custom.other.deeper is not known", False),
        ("contact.custom.other.exists(x, x > 1)", "contact.custom.other is not known", False),
        ('"x" in contact.custom.other', "contact.custom.other is not known", False),
        ("moment(contact.custom.other) > now", "contact.custom.other is not known", False),
        ("moment(contact.unsubscribed) > now", "contact.unsubscribed is not known", False),
        ("timestamp(string(contact.unsubscribed)) > now", "contact.unsubscribed is not known", False),
        ("contact.employees / 0 == 1", "it divides by zero", True),
        ("contact.custom.plan > 3", "its values are not of the kinds it compares", True),
        ("contact.custom.plan", "it came to 'pro', not to true or false", True),
        ("event.fields.list[7] == 1", "it could not be evaluated (Index error: index=7 size=3)", True),
        ("moment(event.fields.said) > now", "it could not be evaluated ('29.02.2028' is not a date)", True),
        ("moment(event.fields.seconds) > now", "it could not be evaluated ('1859999999' is not a date)", True),
        # What is not known beside it does not hide an error, nor what settles it.
        (
            "contact.unsubscribed == null && moment(event.fields.said) > now",
            "it could not be evaluated ('29.02.2028' is not a date)",
            True,
        ),
    ],
)
def test_a_condition_that_cannot_be_told_says_why_and_whether_it_broke(text: str, why: str, broke: bool) -> None:
    result = ENVIRONMENT.compile(text, wants="boolean").evaluate(VALUES)
    assert (result.holds, result.value, result.unknown, result.broke) == (False, None, why, broke)


def test_everything_is_unknown_when_nothing_is_given() -> None:
    result = ENVIRONMENT.compile("contact.employees > 3 && contact.seen_at < now", wants="boolean").evaluate({})
    assert result == Result(
        None,
        "contact.employees, contact.seen_at and now are not known",
        {"contact.employees": None, "contact.seen_at": None, "now": None},
    )


def test_inputs_are_the_values_looked_at() -> None:
    text = 'contact.custom.plan == "pro" && has(event.fields.nothing) && contact.revenue > 1'
    assert ENVIRONMENT.compile(text).evaluate(VALUES).inputs == {
        "contact.custom.plan": "pro",
        "event.fields.nothing": None,
        "contact.revenue": 3,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("contact.seen_at", "2026-03-01T09:00:00+00:00"),
        ("now - contact.seen_at", 86_400.0),
        ("contact.custom", {"plan": "pro", "seats": 4, "deep": {"x": 1}}),
        ('{"a": [contact.employees, null]}', {"a": [120, None]}),
        ("1.0 / 0.0", None),
        (r'"a\u0000b"', "ab"),
    ],
)
def test_a_computed_value_is_plain_json(text: str, value: object) -> None:
    assert ENVIRONMENT.compile(text).evaluate(VALUES).value == value


@pytest.mark.parametrize(
    ("text", "reason", "message", "hint"),
    [
        (
            'contact.emial == "x"',
            "EXPRESSION_UNKNOWN_NAME",
            "column 1: there is no contact.emial here",
            "Did you mean contact.email?",
        ),
        (
            "true &&\n  has(contact.email) && contact.emploees > 1",
            "EXPRESSION_UNKNOWN_NAME",
            "line 2, column 25: there is no contact.emploees here",
            "Did you mean contact.employees?",
        ),
        (
            "contact",
            "EXPRESSION_UNKNOWN_NAME",
            "column 1: contact is not a value by itself",
            "Name a value in it, such as contact.email.",
        ),
        (
            "contact.email.lower()",
            "EXPRESSION_UNKNOWN_FUNCTION",
            "column 20: there is no function lower",
            "Did you mean lowerAscii?",
        ),
        (
            "contact.email.startsWith()",
            "EXPRESSION_TYPE",
            "column 25: startsWith is not called like this",
            "Check what it is called on and how many arguments it takes.",
        ),
        (
            'contact.emial.startsWith("a")',
            "EXPRESSION_UNKNOWN_NAME",
            "column 1: there is no contact.emial here",
            "Did you mean contact.email?",
        ),
        (
            'contact.employees >= "A"',
            "EXPRESSION_TYPE",
            "column 19: >= does not take integer and string",
            'Quote neither side or both: 3 is a number, "3" is a string.',
        ),
        (
            'now > "2026"',
            "EXPRESSION_TYPE",
            "column 5: > does not take instant and string",
            'Write an instant as timestamp("2026-01-31T00:00:00Z"), or moment(…) of a text that holds one.',
        ),
        (
            "contact.email",
            "EXPRESSION_TYPE",
            "this comes to a string, but true or false is needed here",
            "Write a condition, such as a comparison with ==.",
        ),
        (
            "1 +",
            "EXPRESSION_SYNTAX",
            "column 4: this is not CEL: it ends too early",
            'Write CEL, such as lead.tier == "A" && lead.score > 3.',
        ),
        ("  ", "EXPRESSION_EMPTY", "the expression is empty", 'Write CEL, such as lead.tier == "A".'),
        (
            "[1].all(a, [1].all(b, [1].all(c, true)))",
            "EXPRESSION_TOO_DEEP",
            "loops over lists are nested deeper than 2",
            "Split it over several branch steps.",
        ),
        (
            "(" * 400 + "true" + ")" * 400,
            "EXPRESSION_TOO_DEEP",
            "the expression is nested too deeply",
            "Split it over several branch steps.",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_the_way_out(text: str, reason: str, message: str, hint: str) -> None:
    with pytest.raises(Invalid) as caught:
        ENVIRONMENT.compile(text, wants="boolean", path="steps[3].when")
    (violation,) = caught.value.violations
    assert (violation.field, violation.reason, violation.message, violation.hint) == (
        "steps[3].when",
        reason,
        message,
        hint,
    )


def test_every_mistake_of_an_expression_is_reported_at_once() -> None:
    _, problems = ENVIRONMENT.check('contact.emial == "x" && contact.employees > "3" && contact.revenue > 1')
    assert [problem.reason for problem in problems] == ["EXPRESSION_UNKNOWN_NAME", "EXPRESSION_TYPE"]


def test_an_expression_is_refused_before_it_is_read_when_it_is_too_long() -> None:
    _, (problem,) = ENVIRONMENT.check("true || " * 300 + "true")
    assert problem.reason == "EXPRESSION_TOO_LONG"


def test_a_loop_over_too_much_ends() -> None:
    text = "event.fields.list.all(x, event.fields.list.all(y, x + y >= 0))"
    result = ENVIRONMENT.compile(text).evaluate({"event.fields": {"list": list(range(2_000))}})
    assert result.unknown == "it runs over too many list items"


CALLS = """
size(contact.email) has(contact.email) int("1") double("1") string(1) bool("true") duration("1h") uint(1) dyn(1) type(1)
timestamp("2026-01-01T00:00:00Z") moment("2026-01-01") contact.email.startsWith("a")
contact.email.endsWith("a") contact.email.contains("a")
contact.email.matches("a") contact.email.lowerAscii() contact.email.upperAscii() contact.email.trim()
contact.email.split("@") ["a"].join("") contact.email.replace("a","b") contact.email.substring(1)
contact.email.indexOf("a") contact.email.lastIndexOf("a") contact.email.charAt(0) "%s".format([1])
contact.email.reverse() now.getFullYear() now.getMonth() now.getDate() now.getDayOfMonth() now.getDayOfWeek()
now.getDayOfYear() now.getHours() now.getMinutes() now.getSeconds() now.getMilliseconds()
[1].all(x,true) [1].exists(x,true) [1].exists_one(x,true) [1].filter(x,true) [1].map(x,x)
""".split()


@pytest.mark.parametrize("call", CALLS)
def test_a_function_can_be_called(call: str) -> None:
    assert ENVIRONMENT.compile(call).evaluate(VALUES).unknown == ""


def test_every_function_that_a_hint_may_name_has_been_called() -> None:
    assert {name for name in FUNCTIONS if any(f"{name}(" in call for call in CALLS)} == set(FUNCTIONS)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
CONDITIONS = [
    ENVIRONMENT.compile(text, wants="boolean")
    for text in (
        'contact.email == "x" || contact.custom.plan == contact.email',
        "contact.employees > 3 && contact.revenue < 2.5",
        "contact.seen_at < now || contact.born_on == null",
        "event.fields.list.exists(x, x == contact.custom.plan)",
        "!contact.unsubscribed",
    )
]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(CONDITIONS), st.dictionaries(st.sampled_from(sorted(VARIABLES)), JSON))
def test_no_value_makes_a_condition_raise_and_the_same_values_give_the_same_answer(
    condition: Any, values: dict[str, Any]
) -> None:
    result = condition.evaluate(values)
    assert (isinstance(result.value, bool) and not result.broke) or (result.value is None and result.unknown)
    assert repr(condition.evaluate(values)) == repr(result)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet="contact.email()[]{}\"'&|!=<> 1x/\\\n", max_size=60))
def test_no_text_makes_the_check_raise(text: str) -> None:
    expression, problems = ENVIRONMENT.check(text, wants="boolean")
    assert (expression is None) == bool(problems)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"{'a\x00b': ['c\x00d', {'\x00': 1}]}", {"ab": ["cd", {"": 1}]}),
        (r"b'a\x00b'", "ab"),
        ("[0.0 / 0.0, 1.0 / 0.0]", [None, None]),
    ],
)
def test_a_result_is_what_every_database_keeps(text: str, value: Any) -> None:
    assert ENVIRONMENT.compile(text).evaluate({}).value == value


def test_the_reason_why_there_is_no_result_is_storable_too() -> None:
    result = ENVIRONMENT.compile(r"{'a': 1}['b\x00c'] == 1").evaluate({})
    assert result.unknown
    assert "\0" not in result.unknown
