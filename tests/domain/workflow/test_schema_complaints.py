"""All that keeps an answer from fitting its schema, at once and in our own words."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.workflow import json_schemas
from core.domain.workflow.schema_complaints import MOST, complaints

ACCOUNT = {
    "type": "object",
    "required": ["name", "mood"],
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "mood": {"enum": ["warm", "cold", 3]},
        "people": {"type": "array", "maxItems": 2, "items": {"type": "object", "required": ["email"]}},
        "size": {"type": ["integer", "null"], "minimum": 1, "multipleOf": 2},
        "code": {"pattern": "^[A-Z]+$"},
        "either": {"anyOf": [{"type": "string"}, {"type": "boolean"}]},
    },
    "additionalProperties": False,
}
GOOD = {"name": "Ada", "mood": "warm"}

CASES = [
    (GOOD, []),
    ({}, [("output.name", "is required"), ("output.mood", "is required")]),
    ([1], [("output", "must be an object")]),
    (
        {**GOOD, "name": 5, "mood": "hot"},
        [("output.name", "must be text"), ("output.mood", "must be one of warm, cold, 3")],
    ),
    ({**GOOD, "people": [{}]}, [("output.people[0].email", "is required")]),
    ({**GOOD, "people": [{"email": 1}] * 3}, [("output.people", "must have at most 2 items")]),
    ({**GOOD, "size": -1}, [("output.size", "must be at least 1"), ("output.size", "must be a multiple of 2")]),
    ({**GOOD, "size": "many"}, [("output.size", "must be a whole number or null")]),
    ({**GOOD, "code": "a"}, [("output.code", "must match ^[A-Z]+$")]),
    ({**GOOD, "either": 1}, [("output.either", "does not hold what `anyOf` of the schema asks for")]),
]


def found(value: Any, schema: Any = ACCOUNT) -> Any:
    checked, _ = json_schemas.read(schema, "output_schema")
    assert checked is not None
    return complaints(checked, value, "output")


@pytest.mark.parametrize(("value", "told"), CASES)
def test_everything_that_does_not_fit_is_told_at_once(value: Any, told: list[tuple[str, str]]) -> None:
    assert sorted((one.field, one.message) for one in found(value)) == sorted(told)


def test_a_name_and_a_choice_that_are_nearly_right_are_proposed() -> None:
    unknown, choice = sorted(
        found({"name": "Ada", "mood": "warmm", "naem": 1}), key=lambda one: one.field, reverse=True
    )
    assert (unknown.field, unknown.reason, unknown.nearest) == ("output.naem", "UNKNOWN_KEY", "name")
    assert (choice.field, choice.nearest) == ("output.mood", "warm")


def test_of_very_many_complaints_the_first_are_told_and_what_takes_too_long_is_one() -> None:
    strict = {"items": {"type": "string"}}
    assert len(found([1] * 200, strict)) == MOST
    (one,) = found([[0] * 100] * 2_000, {"items": {"items": {"type": "string"}}})
    assert one.message == "it is too large to be checked"
