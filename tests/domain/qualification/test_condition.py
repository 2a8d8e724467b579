from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.qualification.condition import Verdict, check
from core.domain.workflow.expressions import Environment

KNOWN = Environment(
    {
        "contact.country": "string",
        "contact.employees": "integer",
        "contact.custom": "map",
        "contact.partner": "boolean",
    }
)


def judge(text: str, values: dict[str, Any]) -> Verdict:
    condition, problems = check(text, KNOWN, "when")
    assert condition is not None, problems
    return condition.judge(values)


DE = {"contact.country": "DE"}


@pytest.mark.parametrize(
    ("text", "values", "value", "missing"),
    [
        ('contact.country == "DE"', DE, True, ()),
        ('contact.country == "DE"', {}, None, ("contact.country",)),
        ('contact.country != "DE"', {}, None, ("contact.country",)),
        ('contact.country in ["DE", "AT"]', {}, None, ("contact.country",)),
        ('contact.country == "DE" && contact.employees > 5', {"contact.country": "FR"}, False, ()),
        ('contact.country == "DE" && contact.employees > 5', DE, None, ("contact.employees",)),
        ('contact.country == "DE" || contact.employees > 5', DE, True, ()),
        ('contact.country == "FR" || contact.employees > 5', DE, None, ("contact.employees",)),
        ("has(contact.country)", {}, False, ()),
        ("!has(contact.country)", {}, True, ()),
        ("contact.country == null", {}, True, ()),
        ("!(contact.employees > 5)", {}, None, ("contact.employees",)),
        ("!contact.partner", {"contact.partner": False}, True, ()),
        ("!contact.partner", {}, None, ("contact.partner",)),
        ('has(contact.country) && contact.country == "DE"', {}, False, ()),
        ('(contact.country == "a || b" || contact.employees > 5) && !(contact.partner)', {}, None, None),
        ('contact.custom.plan == "pro"', {"contact.custom": {"plan": "pro"}}, True, ()),
        ('contact.custom.plan == "pro"', {}, None, ("contact.custom.plan",)),
        ('contact.custom.tags.exists(t, t == "a" || t == "b")', {"contact.custom": {"tags": ["b"]}}, True, ()),
        ("contact.partner ? true : contact.employees > 5", {"contact.partner": True}, None, ("contact.employees",)),
        ('contact.country.startsWith("D") // || true', {}, None, ("contact.country",)),
        ("true", {}, True, ()),
    ],
)
def test_what_is_not_known_counts_neither_for_nor_against(
    text: str, values: dict[str, Any], value: bool | None, missing: tuple[str, ...] | None
) -> None:
    verdict = judge(text, values)
    assert verdict.value is value
    if missing is not None:
        assert verdict.missing == missing


def test_every_value_it_looked_at_is_shown() -> None:
    assert judge('contact.country == "DE" && contact.employees > 5', DE).inputs == {
        "contact.country": "DE",
        "contact.employees": None,
    }


def test_a_condition_that_cannot_be_checked_is_refused_with_its_place() -> None:
    condition, problems = check("contact.emplyees > 5", KNOWN, "fit.rules[0].when")
    assert condition is None
    assert [(one.field, one.hint) for one in problems] == [("fit.rules[0].when", "Did you mean contact.employees?")]


ATOMS = ('contact.country == "DE"', "contact.employees > 5", "contact.partner", 'contact.custom.plan != "pro"')
TEXTS = st.recursive(
    st.sampled_from(ATOMS),
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        st.builds("!({})".format, inner),
    ),
    max_leaves=6,
)
COMPLETE = st.fixed_dictionaries(
    {
        "contact.country": st.sampled_from(["DE", "FR"]),
        "contact.employees": st.integers(0, 10),
        "contact.partner": st.booleans(),
        "contact.custom": st.fixed_dictionaries({"plan": st.sampled_from(["pro", "free"])}),
    }
)


@given(TEXTS, COMPLETE, st.sets(st.sampled_from(["contact.country", "contact.employees", "contact.partner"])))
def test_a_known_answer_stays_when_more_becomes_known(text: str, complete: dict[str, Any], left_out: set[str]) -> None:
    partial = {name: value for name, value in complete.items() if name not in left_out}
    with_gaps, whole = judge(text, partial), judge(text, complete)
    assert whole.value is not None
    assert with_gaps.value in (None, whole.value)
    assert bool(with_gaps.missing) is (with_gaps.value is None)


@given(TEXTS, COMPLETE)
def test_with_everything_known_it_says_what_the_expression_says(text: str, complete: dict[str, Any]) -> None:
    assert judge(text, complete).value is KNOWN.compile(text, wants="boolean").evaluate(complete).holds
