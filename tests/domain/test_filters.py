"""Filters: what they accept, what they mean, and that they mean the same in SQL on both databases."""

from __future__ import annotations

import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.errors import Invalid
from core.domain.filters import And, Comparison, Expression, Kind, Not, Or, Present, parse, to_text

FIELDS: dict[str, Kind] = {
    "tier": "string",
    "score": "integer",
    "revenue": "number",
    "unsubscribed": "boolean",
    "qualified_at": "instant",
    "born": "date",
    "custom.*": "any",
}


def holds(expression: Expression, fields: dict[str, Any]) -> bool:
    """Evaluate an expression in Python, over flat paths."""
    match expression:
        case And(items):
            return all(holds(item, fields) for item in items)
        case Or(items):
            return any(holds(item, fields) for item in items)
        case Not(inner):
            return not holds(inner, fields)
        case Present(field):
            return fields.get(field) is not None
        case Comparison(field, "!=", value, kind):
            return not holds(Comparison(field, "=", value, kind), fields)
        case Comparison(field, ":", value, _):
            have = fields.get(field)
            if isinstance(have, list):
                return any(_alike(item, value) and item == value for item in have)
            if isinstance(have, str) and isinstance(value, str):
                return value in have
            return _alike(have, value) and have == value
        case Comparison(field, sign, value, _):
            compare = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
            have = fields.get(field)
            return _alike(have, value) and bool(compare[sign](have, value))


def _alike(have: object, value: object) -> bool:
    if isinstance(have, bool) or isinstance(value, bool):
        return isinstance(have, bool) and isinstance(value, bool)
    return isinstance(have, str) == isinstance(value, str) and have is not None and not isinstance(have, list)


_texts = st.text(st.sampled_from("Aab%_'\"\\é 0"), min_size=1, max_size=4)
_numbers = st.integers(-3, 3) | st.sampled_from([0.5, -1.5, 2.0**40])
_orders = st.sampled_from(["=", "!=", "<", "<=", ">", ">="])
_comparisons = st.one_of(
    st.builds(Comparison, st.just("tier"), _orders | st.just(":"), _texts, st.just("string")),
    st.builds(Comparison, st.just("score"), _orders, _numbers, st.just("integer")),
    st.builds(Comparison, st.just("revenue"), _orders, _numbers, st.just("number")),
    st.builds(Comparison, st.just("unsubscribed"), st.sampled_from(["=", "!="]), st.booleans(), st.just("boolean")),
    st.builds(Comparison, st.just("custom.x"), _orders | st.just(":"), _texts | _numbers, st.just("any")),
    st.builds(Comparison, st.just("custom.x"), st.sampled_from(["=", "!=", ":"]), st.booleans(), st.just("any")),
    st.sampled_from([Present("tier", "string"), Present("custom.x", "any"), Present("custom.a.b", "any")]),
)
expressions = st.recursive(
    _comparisons,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=6,
)


@given(expressions)
def test_a_printed_filter_reads_as_the_same_expression(expression: Expression) -> None:
    assert parse(to_text(expression), FIELDS) == expression


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ('tier="A" AND score>=70', 'tier = "A" AND score >= 70'),
        ("tier = A", 'tier = "A"'),
        ("tier = 'it\\'s'", 'tier = "it\'s"'),
        ("NOT (tier = A OR score < 3)", 'NOT (tier = "A" OR score < 3)'),
        ("tier:ab", 'tier:"ab"'),
        ("custom.plan:*", "custom.plan:*"),
        ("custom.seats >= 3 AND custom.ok = true", "custom.seats >= 3 AND custom.ok = true"),
        ('custom.seats = "3"', 'custom.seats = "3"'),
        ("unsubscribed = true", "unsubscribed = true"),
        ('qualified_at > "2026-03-02T10:00:00+01:00"', 'qualified_at > "2026-03-02T09:00:00+00:00"'),
        ("born < 2000-01-31", 'born < "2000-01-31"'),
        ("tier = 007", 'tier = "007"'),
    ],
)
def test_filters_are_read(text: str, printed: str) -> None:
    expression = parse(text, FIELDS)
    assert expression is not None
    assert to_text(expression) == printed


def test_or_binds_tighter_than_and() -> None:
    assert parse("tier = A AND score = 1 OR score = 2", FIELDS) == parse(
        "tier = A AND (score = 1 OR score = 2)", FIELDS
    )


def test_an_empty_filter_is_none() -> None:
    assert parse("  ", FIELDS) is None


@pytest.mark.parametrize(
    ("text", "reason", "way_out"),
    [
        ("teir = A", "UNKNOWN_FILTER_FIELD", "Did you mean tier?"),
        ("zzz = A", "UNKNOWN_FILTER_FIELD", "Filter by"),
        ("custom.x.. = 1", "UNKNOWN_FILTER_FIELD", ""),
        ("custom.' = 1", "FILTER_SYNTAX", ""),
        ("tier", "FILTER_SYNTAX", "Compare by = != <"),
        ("tier =", "FILTER_SYNTAX", "tier ="),
        ("tier = A score = 1", "FILTER_SYNTAX", "AND, OR"),
        ("tier = A and score = 1", "FILTER_SYNTAX", "AND, OR"),
        ("(tier = A", "FILTER_SYNTAX", ""),
        ("tier = A)", "FILTER_SYNTAX", ""),
        ('tier = "A', "FILTER_SYNTAX", "quotes"),
        ("AND", "FILTER_SYNTAX", ""),
        ("tier = AND", "FILTER_SYNTAX", ""),
        ("score = many", "FILTER_VALUE", "number"),
        ("score = 99999999999999999999", "FILTER_VALUE", ""),
        ("score = 1e999", "FILTER_VALUE", ""),
        ("unsubscribed = yes", "FILTER_VALUE", "true or false"),
        ("unsubscribed < true", "FILTER_OPERATOR", "="),
        ("score : 3", "FILTER_OPERATOR", "="),
        ('tier:""', "FILTER_VALUE", "tier:*"),
        ('qualified_at > "soon"', "FILTER_VALUE", "2026"),
        ("born > 2000-13-01", "FILTER_VALUE", "2026"),
        ('tier = "a\x00"', "FILTER_VALUE", ""),
        ("x" * 1001, "FILTER_TOO_LONG", ""),
        ("(" * 11 + "tier = A" + ")" * 11, "FILTER_TOO_DEEP", ""),
        ("NOT " * 11 + "tier = A", "FILTER_TOO_DEEP", ""),
        (" OR ".join(["score = 1"] * 51), "FILTER_TOO_LARGE", ""),
    ],
)
def test_a_filter_that_cannot_be_read_says_why(text: str, reason: str, way_out: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(text, FIELDS)
    (violation,) = caught.value.violations
    assert (violation.field, violation.reason) == ("filter", reason)
    assert way_out in violation.hint


@given(st.text(max_size=60))
def test_no_text_makes_the_parser_fail_in_another_way(text: str) -> None:
    try:
        parse(text, FIELDS)
    except Invalid:
        return


_PIECES = st.sampled_from(
    [
        "tier",
        "score",
        "custom.x",
        "price",
        "AND",
        "OR",
        "NOT",
        "(",
        ")",
        "=",
        "!=",
        "<=",
        ":",
        "*",
        '"',
        "'a'",
        '"1 EUR"',
        " ",
        "7",
    ]
)


@given(
    st.text(max_size=60) | st.lists(_PIECES, max_size=25).map(" ".join) | st.lists(_PIECES, max_size=25).map("".join)
)
def test_whatever_is_written_is_read_or_refused_with_a_position(text: str) -> None:
    try:
        expression = parse(text, {**FIELDS, "price": "money"})
    except Invalid as refused:
        (violation,) = refused.violations
        reason = violation.reason
    else:
        reason = "FILTER"
        assert expression is None or parse(to_text(expression), {**FIELDS, "price": "money"}) == expression
    assert reason.startswith(("FILTER", "UNKNOWN_FILTER_FIELD"))


def test_amounts_are_compared_in_the_form_in_which_they_are_stored() -> None:
    assert parse("price = '1200.5 eur'", {"price": "money"}) == Comparison("price", "=", "1200.50 EUR", "money")
    for wrong in ("price > '1 EUR'", "price = 7"):
        with pytest.raises(Invalid):
            parse(wrong, {"price": "money"})
