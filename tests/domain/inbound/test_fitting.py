"""A schema says what an event's fields must be, and the first that is not is named."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.inbound.fitting import misfit, problems

SCHEMA = {
    "type": "object",
    "properties": {
        "email": {"type": "string", "pattern": "@"},
        "seats": {"type": "integer", "minimum": 1},
        "items": {"type": "array", "items": {"type": "object", "required": ["sku"]}},
    },
    "required": ["email"],
}


@pytest.mark.parametrize("schema", [None, {}, SCHEMA])
def test_what_fits_fits(schema: dict[str, Any] | None) -> None:
    assert misfit(schema, {"email": "ada@example.com", "seats": 3, "items": [{"sku": "1"}]}) is None


@pytest.mark.parametrize(
    ("fields", "place", "message"),
    [
        ({}, "fields", "'email' is a required property"),
        ({"email": "ada"}, "fields.email", "'ada' does not match '@'"),
        ({"email": "a@b", "seats": 0}, "fields.seats", "0 is less than the minimum of 1"),
        ({"email": "a@b", "items": [{"sku": 1}, {}]}, "fields.items[1]", "'sku' is a required property"),
        ({"email": "a@b", "items": [0] * 200_000}, "fields", "it is too large to be checked"),
    ],
)
def test_what_does_not_fit_names_the_field(fields: dict[str, Any], place: str, message: str) -> None:
    wrong = misfit(SCHEMA, fields)
    assert wrong is not None
    assert (wrong.field, wrong.reason, wrong.message) == (place, "SCHEMA_MISFIT", message)


def test_a_schema_is_checked_when_it_is_set() -> None:
    assert problems(SCHEMA) == ()
    (wrong,) = problems({"type": "objekt"})
    assert (wrong.field, wrong.reason) == ("schema.type", "NOT_A_SCHEMA")
