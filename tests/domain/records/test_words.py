"""Words by which records are found: the same of what is stored and of what is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.records import words
from core.domain.records.schema import STANDARD
from core.domain.records.words import Asked

CONTACT = STANDARD.of("contact")


def _found(query: str, **fields: str) -> bool:
    there = {entry.word for entry in words.of_record(CONTACT, fields)}
    asked = words.asked(query)
    return bool(asked) and all(_has(one, there) for one in asked)


def _has(asked: Asked, there: set[str]) -> bool:
    return asked.text in there or (asked.is_beginning and any(asked.text <= word < asked.end for word in there))


@pytest.mark.parametrize(
    ("query", "fields", "found"),
    [
        ("ada", {"first_name": "Ada"}, True),
        ("ADA king", {"first_name": "Ada", "last_name": "King"}, True),
        ("ki", {"last_name": "King"}, True),
        ("k", {"last_name": "King"}, False),
        ("ki ada", {"first_name": "Ada", "last_name": "King"}, False),
        ("muller", {"last_name": "Müller"}, True),
        ("strasse", {"company_name": "Straße 7"}, True),
        ("ada@example.com", {"email": "Ada@Example.com"}, True),
        ("ada@exam", {"email": "ada@example.com"}, True),
        ("example.com", {"email": "ada@example.com"}, True),
        ("king", {"email": "ada.king@example.com"}, True),
        ("+44 20 7946 0000", {"phone": "+44 20 7946 0000"}, True),
        ("020 7946 0000", {"phone": "+44 (0)20-7946-0000"}, True),
        ("anne marie", {"first_name": "Anne-Marie"}, True),
        ("O'Brien", {"last_name": "O'Brien"}, True),
        ("東京", {"company_name": "東京 株式会社"}, True),
        ("...", {"first_name": "Ada"}, False),
        ("123456789", {"company_name": "Order 123456789"}, True),
        ("2026-11-22", {"company_name": "2026-11-22"}, True),
    ],
)
def test_what_is_asked_finds_what_is_stored(query: str, fields: dict[str, str], found: bool) -> None:
    assert _found(query, **fields) is found


@given(st.text(min_size=1, max_size=60) | st.from_regex(r"\A[0-9 ()./+-]{4,45}\Z"))
def test_a_name_finds_itself(name: str) -> None:
    if words.asked(name):
        assert _found(f"{name} ", company_name=name)


@given(st.text(max_size=200))
def test_a_question_is_never_too_much(query: str) -> None:
    asked = words.asked(query)
    assert len(asked) <= words.MOST_ASKED
    assert all(one.text and len(one.text) <= words.LONGEST_WORD for one in asked)


def test_a_long_text_has_a_bounded_number_of_words() -> None:
    assert len(words.of_text(" ".join(f"w{number}" for number in range(5_000)))) == words.MOST_WORDS
