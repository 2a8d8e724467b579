"""Two CEL engines, written apart, agree on what our expressions mean; where they do not, a table says who is right."""

from __future__ import annotations

from typing import Any

import cel as second
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.domain.workflow.expression_functions import moment
from core.domain.workflow.expression_shortcut import shortcut
from core.domain.workflow.expressions import Environment, Kind

VARIABLES: dict[str, Kind] = {
    "contact.email": "string",
    "contact.city": "string",
    "contact.employees": "integer",
    "contact.score": "integer",
    "contact.revenue": "number",
    "contact.unsubscribed": "boolean",
    "event.fields": "map",
}
ENVIRONMENT = Environment(VARIABLES)

NO_VALUE = "no value"

# Plain letters: the second engine counts bytes where the specification counts characters (see the table).
LETTERS = st.text("abAB .@-", max_size=5)
SMALL = st.integers(-9, 9)
HALVES = st.integers(-9, 9).map(lambda number: number / 2)


INSTANTS = st.sampled_from(
    [f'timestamp("{day}T{time}Z")' for day in ("2026-01-31", "2024-02-29") for time in ("00:00:00", "23:30:00")]
)
MOMENTS = st.sampled_from(["2026-01-31", "2024-02-29T23:30:00", "2024-02-29T23:30:00+01:00"]).map('moment("{}")'.format)
DURATIONS = st.sampled_from(['duration("1h")', 'duration("-90m")', 'duration("24h")', 'duration("0s")'])
PARTS = st.sampled_from(
    ["getFullYear", "getMonth", "getDate", "getDayOfWeek", "getDayOfYear", "getHours", "getMinutes"]
)


def _quoted(text: str) -> str:
    return f'"{text}"'


def _form(template: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda values: template.format(*values))


def _typed(depth: int, local: str = "") -> dict[str, st.SearchStrategy[str]]:
    """Return expressions by what they come to; `local` names the item of the list that is looked through."""
    texts = LETTERS.map(_quoted) | st.sampled_from(["contact.email", "contact.city", "event.fields.plan"])
    integers = SMALL.map(str) | st.sampled_from(["contact.employees", "contact.score", "event.fields.seats"])
    numbers = HALVES.map(str) | st.just("contact.revenue")
    decisions = st.sampled_from(
        ["true", "false", "contact.unsubscribed", "has(event.fields.plan)", "has(event.fields.x)"]
    )
    if local:
        integers |= st.just(local)
    if depth == 0:
        return {"text": texts, "integer": integers, "number": numbers, "boolean": decisions}
    inner = _typed(depth - 1, local)
    text, integer, number, boolean = (inner[kind] for kind in ("text", "integer", "number", "boolean"))
    integers |= _form("({} {} {})", integer, st.sampled_from("+-*"), integer) | _form("size({})", text)
    integers |= _form("({} ? {} : {})", boolean, integer, integer) | _form("-({})", integer)
    numbers |= _form("({} {} {})", number, st.sampled_from("+-*"), number) | _form("double({})", integer)
    texts |= _form("({} + {})", text, text) | _form("({} ? {} : {})", boolean, text, text)
    decisions |= _form("({} {} {})", boolean, st.sampled_from(["&&", "||"]), boolean) | _form("!({})", boolean)
    order = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    decisions |= st.one_of(*(_form("({} {} {})", one, order, one) for one in (text, integer, number)))
    counted, measured = st.sampled_from(["contact.employees", "contact.score"]), st.just("contact.revenue")
    decisions |= _form("({} {} {})", counted, order, measured | HALVES.map(str))
    instants = INSTANTS | MOMENTS | _form("moment({})", INSTANTS)
    instants |= _form("({} {} {})", INSTANTS, st.sampled_from("+-"), DURATIONS)
    integers |= _form("({}).{}()", instants, PARTS)
    decisions |= _form("({} {} {})", instants, order, instants) | _form("({} {} {})", DURATIONS, order, DURATIONS)
    decisions |= _form("({}).matches({})", text, st.sampled_from(['"^a"', '"[ab]+@"', '"b$"', '"^(a|B){1,3}$"']))
    decisions |= _form("({} in [{}, {}])", integer, integer, integer) | _form("({} in [{}, {}])", text, text, text)
    decisions |= _form("({}).{}({})", text, st.sampled_from(["startsWith", "endsWith", "contains"]), text)
    if not local:  # an error inside a loop is where the second engine is known to differ
        integers |= _form("({} {} {})", integer, st.sampled_from("/%"), integer)
        of_item = _typed(depth - 1, "item")
        numbers_of = st.sampled_from(["event.fields.numbers", "[1, 2, 3]", "[]"])
        decisions |= _form(
            "{}.{}(item, {})", numbers_of, st.sampled_from(["all", "exists", "exists_one"]), _known(of_item["boolean"])
        )
        integers |= _form("size({}.filter(item, {}))", numbers_of, _known(of_item["boolean"]))
    return {"text": texts, "integer": integers, "number": numbers, "boolean": decisions}


def _known(decisions: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return decisions.filter(lambda text: "contact." not in text and "event." not in text)


_GRAMMAR = _typed(2)
LISTS = _form(
    "{}.map(item, {})", st.sampled_from(["event.fields.numbers", "[4, 5]"]), _known(_typed(1, "item")["integer"])
)
EXPRESSIONS = st.one_of(*_GRAMMAR.values(), LISTS)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "contact.email": LETTERS,
        "contact.city": LETTERS,
        "contact.employees": SMALL,
        "contact.score": SMALL,
        "contact.revenue": HALVES,
        "contact.unsubscribed": st.booleans(),
        "event.fields": st.fixed_dictionaries(
            {"numbers": st.lists(SMALL, max_size=4)}, optional={"plan": LETTERS, "seats": SMALL}
        ),
    },
)


def ours(text: str, values: dict[str, Any]) -> Any:
    result = ENVIRONMENT.compile(text).evaluate(values)
    return NO_VALUE if result.unknown or result.value is None else result.value


def theirs(text: str, values: dict[str, Any]) -> Any:
    """Return what the second engine says; it takes nested maps, and an unknown value is one that is null."""
    contact = {name.partition(".")[2]: values.get(name) for name in VARIABLES if name.startswith("contact.")}
    try:
        given = {"contact": contact, "event": {"fields": values.get("event.fields", {})}}
        value = second.evaluate(text, second.Context(given, {"moment": moment}))
    except (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError):
        return NO_VALUE
    return NO_VALUE if value is None else value


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(EXPRESSIONS, VALUES)
def test_a_second_engine_comes_to_the_same(text: str, values: dict[str, Any]) -> None:
    mine, other = ours(text, values), theirs(text, values)
    assert (type(mine), mine) == (type(other), other)


EXTREMES = st.sampled_from([2**62, -(2**63), 2**63 - 1, 2**70, 0.0, -0.0, 1e308, 5, 5.0, True, "", "5", "äß", None])
ODD_VALUES = st.fixed_dictionaries(
    {},
    optional={name: EXTREMES for name, kind in VARIABLES.items() if kind != "map"}
    | {"event.fields": EXTREMES | st.dictionaries(st.sampled_from(["plan", "seats", "numbers"]), EXTREMES)},
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(EXPRESSIONS, VALUES | ODD_VALUES)
def test_what_is_worked_out_without_the_engine_is_what_the_engine_says(text: str, values: dict[str, Any]) -> None:
    mine, engine = ours(text, values), ours(f"[{text}][0]", values)
    assert repr(mine) == repr(engine)  # and so are types, and the sign of a zero


@pytest.mark.parametrize(
    "text",
    [
        "contact.employees >= 10",
        "contact.employees + 1",
        "contact.revenue > 5",
        'contact.email.endsWith("@example.com") || contact.city == "Berlin"',
        '!contact.unsubscribed && event.fields.plan in ["pro", "team"]',
        "has(contact.email) && has(event.fields.plan) ? contact.score * 2 : 0",
    ],
)
def test_what_most_expressions_are_made_of_does_not_take_the_engine(text: str) -> None:
    found = shortcut(ENVIRONMENT.compile(text).tree, VARIABLES)
    assert found is not None
    values = {"contact.employees": 9, "contact.revenue": 6.5, "contact.email": "a@b", "contact.city": "Bonn"}
    values |= {"contact.unsubscribed": False, "contact.score": 4, "event.fields": {"plan": "pro"}}
    assert found(values) == ours(f"[{text}][0]", values)


FACTS: dict[str, Any] = {"contact.email": "ä", "contact.employees": 3, "event.fields": {"numbers": [1, 2]}}


@pytest.mark.parametrize(
    ("text", "mine", "other", "reason"),
    [
        ("size(contact.email)", 1, 2, "a text is as long as it has characters, whatever their bytes"),
        ("[1, 2].exists(x, 1 / (x - 1) == 1)", True, NO_VALUE, "one item that is true outweighs an error"),
        ("[1, 2].all(x, 1 / (x - 1) == 0)", False, NO_VALUE, "one item that is false outweighs an error"),
        ("has(contact.city)", False, True, "ours asks whether the value is known, not whether there is such a field"),
        ("1.0 / 0.0", NO_VALUE, float("inf"), "no database keeps what is not finite"),
        ("string(true)", "true", NO_VALUE, "the second engine lacks the conversion, which the specification has"),
        ('bool("true")', True, NO_VALUE, "the second engine lacks the conversion, which the specification has"),
        (
            'timestamp("2026-01-31T12:00:00Z").getHours("Europe/Berlin")',
            13,
            NO_VALUE,
            "the second engine knows UTC only",
        ),
        ('"a,b".split(",")', ["a", "b"], NO_VALUE, "the second engine lacks the library of texts"),
        ('"x".upperAscii()', "X", NO_VALUE, "the second engine lacks the library of texts"),
    ],
)
def test_a_known_difference_is_still_there(text: str, mine: Any, other: Any, reason: str) -> None:
    assert (ours(text, FACTS), theirs(text, FACTS)) == (mine, other), reason
