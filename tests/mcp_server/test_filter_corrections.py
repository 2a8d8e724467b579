"""Filters in the words of other languages are put into ours, and what stands in quotes is left alone."""

from __future__ import annotations

import pytest

from core.domain import filters
from mcp_server.filter_corrections import in_our_words, of_fields, respelt

FIELDS: dict[str, filters.Kind] = {
    "first_name": "string", "last_name": "string", "email": "string", "tier": "string", "score": "integer",
    "unsubscribed": "boolean",
}  # fmt: skip

WRITTEN = [
    ('first_name == "Jane"', 'first_name = "Jane"'),
    ('first_name LIKE "%Jane%"', 'first_name:"Jane"'),
    ('first_name contains "a == b"', 'first_name:"a == b"'),
    ("score > 70 and tier = A", "score > 70 AND tier = A"),
    ("score > 70 && tier = A || tier = B", "(score > 70 AND tier = A) OR tier = B"),
    ('score <> 3 and not tier = "and"', 'score != 3 AND NOT tier = "and"'),
    ("!unsubscribed = true", "NOT unsubscribed = true"),
    ("score IS NOT NULL", "score:*"),
    ("first_name = “Jane”", 'first_name = "Jane"'),
    ('tier != "A"', 'tier != "A"'),
]


@pytest.mark.parametrize(("written", "ours"), WRITTEN)
def test_operators_of_other_languages_become_ours(written: str, ours: str) -> None:
    assert in_our_words(written) == ours
    assert filters.parse(ours, FIELDS)


def test_a_name_is_respelt_where_it_is_a_name() -> None:
    written = 'firstName = "firstName" AND tier = A'
    assert respelt(written, "first_name") == 'first_name = "firstName" AND tier = A'
    assert respelt('"only text"', "first_name") == '"only text"'


def test_fields_become_a_filter_that_can_be_read() -> None:
    assert of_fields({"tier": "A", "score": 7}) == 'tier = "A" AND score = 7'
    assert of_fields({"tier": ["A"]}) == ""
