"""No expression stalls the engine, grows without end, or brings the process down."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.domain.workflow import pattern_cost
from core.domain.workflow.expressions import Environment, Kind
from tests.domain.workflow.worst_cases import DATA, EXPRESSIONS, MOST_UNITS, VARIABLES, units

ENVIRONMENT = Environment(VARIABLES)


@pytest.mark.parametrize("text", EXPRESSIONS, ids=lambda text: text[:50])
def test_the_worst_expressions_are_refused_or_end_soon(text: str) -> None:
    expression, problems = ENVIRONMENT.check(text)
    if expression is None:
        assert problems[0].reason in ("EXPRESSION_TOO_COSTLY", "EXPRESSION_TOO_DEEP")
        return
    for values in DATA.values():
        taken = units(lambda values=values: expression.evaluate(values))  # type: ignore[misc]
        assert taken < MOST_UNITS, expression.evaluate(values).unknown


_ATOMS = st.sampled_from(["l", "k", "s.split('')", "[s]", "[l, k]", "m.map(x, x)", "[1, 2, 3]", "a"])
_STEPS = st.sampled_from(
    [
        *(".map(x, x)", ".map(x, [x, x])", ".map(x, [x, l])", ".filter(x, x in k)", ".map(x, string(x) + s)"),
        *(".map(x, l.filter(y, y == x))", ".filter(x, k.exists(y, y == x))", ".map(x, s.replace('a', t))"),
        *(".filter(x, s.matches('(a{1,9}){1,9}b'))", ".map(x, s.split('a'))", ".map(x, {'k': x, 'l': x})"),
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_ATOMS, st.lists(_STEPS, max_size=5), st.sampled_from(["", ".size()", " == l"]), st.sampled_from([*DATA]))
def test_no_chain_of_costly_steps_stalls(atom: str, steps: list[str], end: str, data: str) -> None:
    expression, _ = ENVIRONMENT.check(atom + "".join(steps) + end)
    if expression is not None:
        assert units(lambda: expression.evaluate(DATA[data])) < MOST_UNITS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("s.matches('(.{1,30}){1,30}b')", "EXPRESSION_TOO_COSTLY"),
        ("s.matches(t)", "EXPRESSION_PATTERN"),
        ("s.matches('(a')", "EXPRESSION_BAD_LITERAL"),
        ("now > timestamp('tomorrow')", "EXPRESSION_BAD_LITERAL"),
        ("now - now > duration('3 days')", "EXPRESSION_BAD_LITERAL"),
        ("[1].map(x, [x, x])" + ".map(x, [x, x, x, x, x, x])" * 7, "EXPRESSION_TOO_COSTLY"),
        ("+".join(["n"] * 900), "EXPRESSION_TOO_DEEP"),
        ("m" + ".a" * 900, "EXPRESSION_TOO_DEEP"),
    ],
)
def test_what_could_never_end_well_is_refused_when_it_is_published(text: str, reason: str) -> None:
    expression, (problem, *_) = ENVIRONMENT.check(text, path="when")
    assert (expression, problem.field, problem.reason) == (None, "when", reason)


@pytest.mark.parametrize(
    ("text", "values", "why"),
    [
        ("l.map(x, x).size() > 0", {"l": [0] * 2_000}, "it would take too long on values of this size"),
        ("s.replace('a', s) == ''", {"s": "a" * 2_000}, "it would take too long on values of this size"),
        ("l.size() > 0", {"l": [0] * 10_001}, "l holds more than 10,000 values"),
        ("a.b == 1", {"a": {"b": [[0] * 200] * 51}}, "a holds more than 10,000 values"),
    ],
)
def test_a_value_that_is_too_large_is_the_reason_why_there_is_no_result(
    text: str, values: dict[str, Any], why: str
) -> None:
    result = ENVIRONMENT.compile(text, wants="boolean").evaluate(values)
    assert (result.holds, result.value, result.unknown) == (False, None, why)


def test_what_is_not_looked_at_may_be_as_large_as_it_likes() -> None:
    values = {"m": {"plan": "pro", "log": [0] * 1_000_000}}
    assert ENVIRONMENT.compile('m.plan == "pro"').evaluate(values).holds


def test_a_value_nested_too_deeply_is_not_given_to_the_engine() -> None:
    deep: Any = 1
    for _ in range(5_000):
        deep = [deep]
    assert ENVIRONMENT.compile("a == 1").evaluate({"a": deep}).unknown == "a holds more than 10,000 values"


@pytest.mark.parametrize("text", ["a", "l", "m", "[null, {'k': null}]", "l.map(x, null)", "a == null", "m.x"])
def test_a_null_does_not_wear_out_the_interpreter(text: str) -> None:
    expression = ENVIRONMENT.compile(text)
    values = {"l": [None, 1], "m": {"x": None}}
    expression.evaluate(values)
    gc.collect()
    before = sys.getrefcount(None)
    for _ in range(2_000):
        expression.evaluate(values)
    gc.collect()
    assert abs(sys.getrefcount(None) - before) < 500


def test_the_forms_an_expression_keeps_are_few() -> None:
    kinds: dict[str, Kind] = {f"t{number}": "instant" for number in range(8)}
    expression = Environment(kinds).compile(" || ".join(f"{name} == null" for name in kinds))
    for known in range(2**8):
        expression.evaluate({name: "2026-01-01" for at, name in enumerate(kinds) if known >> at & 1})
    assert len(expression._programs) <= 64


@pytest.mark.parametrize(
    ("pattern", "least", "most"),
    [
        ("abc", 3, 5),
        ("a{30}", 30, 35),
        ("(a{30}){30}", 900, 950),
        ("(.{1,30}){1,30}b", 900, 8_000),
        ("(ab|cd){10}x", 40, 60),
        (r"^[\w.+-]+@[\w-]+\.[\w.]+$", 6, 40),
        ("[^a]{100}", 100, 900),
        (r"\pL{20}", 400, 900),
        ("((((a{10}){10}){10}){10}){10}", 100_000, 150_000),
        ("[]a]{5}[^]]{5}[[:alpha:]]{5}", 15, 100),
        ("a{2,}b{,3}(((", 3, 20),
    ],
)
def test_the_size_a_pattern_stands_for_is_about_right(pattern: str, least: int, most: int) -> None:
    assert least <= pattern_cost.states(pattern) <= most


@settings(max_examples=200, deadline=None)
@given(st.text("(){}[]|*+?.^$\\pLd,0193ab", max_size=40))
def test_no_pattern_is_counted_as_nothing(pattern: str) -> None:
    assert pattern_cost.states(pattern) >= 1
