"""The stand-in's query language reads what clients of records send, and says what it cannot read."""

from __future__ import annotations

from typing import Any

import pytest

from core.fakes import soql
from core.fakes.soql import BadQuery

RECORD: dict[str, Any] = {"Email": "O'Dd\\@example.com", "Size": 5, "SystemModstamp": "2026-03-02T09:00:00.000+0000"}


@pytest.mark.parametrize(
    ("where", "fits"),
    [
        (r"Email = 'o\'dd\\@EXAMPLE.com'", True),
        ("Email IN ('a', 'b')", False),
        (r"Email IN ('a', 'O\'Dd\\@example.com') AND Size >= 5", True),
        ("Size > 5", False),
        ("Size != 4", True),
        ("SystemModstamp >= 2026-03-02T09:00:00Z", True),
        ("SystemModstamp > 2026-03-02T09:00:00Z", False),
        ("Missing = null", True),
    ],
)
def test_conditions(where: str, fits: bool) -> None:
    query = soql.read(f"SELECT Id, Email FROM Lead WHERE {where} ORDER BY SystemModstamp, Id LIMIT 5")
    assert (query.object, query.fields, query.order, query.limit) == (
        "Lead",
        ("Id", "Email"),
        ("SystemModstamp", "Id"),
        5,
    )
    assert soql.fits(query, RECORD) is fits


@pytest.mark.parametrize(
    "text",
    ["", "DELETE FROM Lead", "SELECT Id FROM Lead WHERE Size LIKE 'x'", "SELECT Id FROM L WHERE a = b"],
)
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadQuery):
        soql.read(text)
