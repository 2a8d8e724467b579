"""Likeness is the same from both sides, whole for the same, and blind to case and blanks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.records.duplicates import USUAL_LIKENESS, compare, keys, mailbox

_WORDS = st.sampled_from(["Ada", "A", "Adah", "Lovelace", "Lovelance", "Müller", "Mueller", "Grace Hopper", "", "x"])
_PEOPLE = st.fixed_dictionaries(
    {},
    optional={
        "email": st.sampled_from(
            ["ada@example.com", "a.da+x@gmail.com", "ada@gmail.com", "bob@acme.io", "Bob@ACME.io"]
        ),
        "phone": st.sampled_from(["+49 170 1234567", "+491701234567", "0170 1234567", "+1 202 555 0143"]),
        "first_name": _WORDS,
        "last_name": _WORDS,
        "company_name": st.sampled_from(["Acme Inc", "ACME", "Bolt GmbH"]),
    },
)
_FIRMS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["Acme Inc.", "ACME", "Acme Holding", "Bolt GmbH", "Bold AG"]),
        "domain": st.sampled_from(["acme.io", "www.acme.io", "https://acme.io/about", "bolt.de", "gmail.com"]),
        "phone": st.sampled_from(["+49 30 1234567", "+49301234567"]),
    },
)


@pytest.mark.parametrize("record_type", ["contact", "company"])
@given(st.data())
def test_likeness_is_symmetric_and_within_bounds(record_type: str, data: st.DataObject) -> None:
    records = _PEOPLE if record_type == "contact" else _FIRMS
    one, other = data.draw(records), data.draw(records)
    there, back = compare(record_type, one, other), compare(record_type, other, one)
    assert there.value == back.value
    assert 0 <= there.value <= 1


@given(_PEOPLE)
def test_a_record_is_wholly_like_itself_where_it_says_anything(person: dict[str, Any]) -> None:
    if keys("contact", person):
        assert compare("contact", person, person).value == 1


@given(_PEOPLE, _PEOPLE)
def test_case_and_blanks_change_nothing(one: dict[str, Any], other: dict[str, Any]) -> None:
    shouted = {name: f"  {value.upper()} " for name, value in other.items()}
    assert compare("contact", one, shouted).value == compare("contact", one, other).value
    assert keys("contact", shouted) == keys("contact", other)


@pytest.mark.parametrize(
    ("record_type", "one", "other", "alike"),
    [
        ("contact", {"email": "ada.l@gmail.com"}, {"email": "adal+news@googlemail.com"}, True),
        ("contact", {"email": "ada@gmail.com"}, {"email": "ada@example.com"}, False),
        (
            "contact",
            {"first_name": "Ada", "last_name": "Lovelace", "email": "ada@acme.io"},
            {"first_name": "Ada", "last_name": "Lovelace", "email": "a.lovelace@acme.io"},
            True,
        ),
        ("contact", {"first_name": "John", "last_name": "Smith"}, {"first_name": "John", "last_name": "Smyth"}, False),
        (
            "contact",
            {"phone": "+491701234567", "first_name": "Ada", "last_name": "L"},
            {"phone": "+49 170 1234567", "first_name": "Bob", "last_name": "Z"},
            False,
        ),
        (
            "company",
            {"name": "Acme Inc.", "domain": "acme.io"},
            {"name": "ACME", "website": "https://www.acme.io/"},
            True,
        ),
        ("company", {"name": "Acme", "domain": "acme.io"}, {"name": "Acme", "domain": "acme-tools.de"}, False),
    ],
)
def test_who_is_probably_one(record_type: str, one: dict[str, Any], other: dict[str, Any], alike: bool) -> None:
    found = compare(record_type, one, other)
    assert (found.value >= USUAL_LIKENESS) is alike, found
    if alike:
        assert keys(record_type, one) & keys(record_type, other)
        assert found.reasons


def test_providers_ignore_dots_and_what_follows_a_plus() -> None:
    assert mailbox("A.da+x@GMail.com") == mailbox("ada@googlemail.com") == "ada@gmail.com"
    assert mailbox("a.da+x@example.com") == "a.da+x@example.com"
