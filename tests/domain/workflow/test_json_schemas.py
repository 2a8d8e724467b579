"""JSON Schemas of authors: what is refused, what fits, and that nothing takes long."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from core.domain.workflow.json_schemas import MOST_WORK, JsonSchema, read

PERSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z]"},
        "tags": {"type": "array", "uniqueItems": True, "items": {"$ref": "#/$defs/tag"}},
        "pattern": {"enum": ["(", 1]},
    },
    "additionalProperties": False,
    "$defs": {"tag": {"type": "string", "maxLength": 5}},
}
DOUBLING = {f"d{number}": {"anyOf": [{"$ref": f"#/$defs/d{number + 1}"}] * 2} for number in range(60)} | {"d60": {}}


def made(raw: Any) -> JsonSchema:
    schema, problems = read(raw, "answer")
    assert problems == ()
    assert schema is not None
    return schema


@pytest.mark.parametrize(
    ("value", "misfit"),
    [
        ({"name": "Ada"}, ""),
        ({"name": "Ada", "tags": ["a", "b"], "pattern": "("}, ""),
        ({"name": "ada"}, "name: 'ada' does not match '^[A-Z]'"),
        ({"name": 3}, "name: 3 is not of type 'string'"),
        ({}, "'name' is a required property"),
        ({"name": "Ada", "tags": ["a", "a"]}, "tags: ['a', 'a'] has non-unique elements"),
        ({"name": "Ada", "tags": ["a", "bbbbbb"]}, "tags[1]: 'bbbbbb' is too long"),
        ({"name": "Ada", "age": 3}, "Additional properties are not allowed ('age' was unexpected)"),
        (None, "None is not of type 'object'"),
    ],
)
def test_what_does_not_fit_is_told_with_its_place(value: Any, misfit: str) -> None:
    assert made(PERSON).misfit(value) == misfit


@pytest.mark.parametrize(
    ("raw", "field", "reason"),
    [
        ({"type": "person"}, "answer.type", "NOT_A_SCHEMA"),
        ({"required": "name"}, "answer.required", "NOT_A_SCHEMA"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}}, "answer.properties.a.$ref", "UNKNOWN_REFERENCE"),
        ({"$ref": "https://example.com/person.json"}, "answer.$ref", "UNKNOWN_REFERENCE"),
        ({"items": {"$ref": "#"}}, "answer", "TOO_LARGE"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "answer", "TOO_LARGE"),
        ({"$ref": "#/$defs/d0", "$defs": DOUBLING}, "answer", "TOO_LARGE"),
        ({"anyOf": [{"pattern": "(?=a)"}]}, "answer.anyOf[0].pattern", "BAD_PATTERN"),
        ({"patternProperties": {"^a": {}}}, "answer.patternProperties", "UNSUPPORTED_KEYWORD"),
        ({"not": {"unevaluatedProperties": False}}, "answer.not.unevaluatedProperties", "UNSUPPORTED_KEYWORD"),
        (
            {"items": {"$schema": "http://json-schema.org/draft-07/schema#"}},
            "answer.items.$schema",
            "UNSUPPORTED_KEYWORD",
        ),
        ({"description": "x" * 20_000}, "answer", "TOO_LARGE"),
        ({"default": {1, 2}}, "answer", "NOT_JSON"),
    ],
)
def test_a_schema_that_cannot_be_held_to_is_refused(raw: Any, field: str, reason: str) -> None:
    schema, problems = read(raw, "answer")
    assert schema is None
    assert [(one.field, one.reason) for one in problems] == [(field, reason)]
    assert all(one.hint for one in problems)


def test_everything_wrong_with_a_schema_is_told_with_the_nearest_type() -> None:
    raw = {"type": "objct", "required": "a", "properties": {"a": {"type": ["strng", "null"]}}}
    problems = read(raw, "answer")[1]
    assert [(one.field, one.message) for one in problems] == [
        ("answer.required", "'a' is not of type 'array'"),
        ("answer.type", "there is no type objct"),
        ("answer.properties.a.type", "there is no type strng"),
    ]
    assert [one.hint for one in problems][1:] == ["Did you mean object?", "Did you mean string?"]


def test_a_schema_nested_too_deeply_is_refused() -> None:
    raw: dict[str, Any] = {}
    for _ in range(30):
        raw = {"not": raw}
    assert [one.reason for one in read(raw, "answer")[1]] == ["TOO_DEEP"]


@pytest.mark.parametrize(
    ("raw", "value", "misfit"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 60_000 + "b", "does not match"),
        ({"uniqueItems": True}, [{}] * 501, "a list of 501 items is too long to tell whether they all differ"),
        (
            {"items": {"anyOf": [{"const": number} for number in range(400)]}},
            [0] * MOST_WORK,
            "it is too large to be checked",
        ),
        ({"multipleOf": 0.5}, 10**400, "it cannot be checked"),
    ],
)
def test_no_answer_takes_long(raw: Any, value: Any, misfit: str) -> None:
    assert misfit in made(raw).misfit(value)


SCHEMAS = st.recursive(
    st.sampled_from(
        [{}, {"type": "string"}, {"type": "integer"}, {"minimum": 1}, {"enum": [1, "a"]}, {"pattern": "a"}, True, False]
    ),
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from("ab"), inner, max_size=2).map(lambda found: {"properties": found}),
        st.lists(inner, min_size=1, max_size=2).map(lambda found: {"anyOf": found}),
        inner.map(lambda found: {"items": found}),
        inner.map(lambda found: {"not": found}),
    ),
    max_leaves=5,
).filter(lambda schema: isinstance(schema, dict))
VALUES = st.recursive(
    st.sampled_from([None, True, 0, 1, 2.0, "a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(SCHEMAS, VALUES)
def test_it_agrees_with_a_check_without_limits(raw: dict[str, Any], value: Any) -> None:
    assert (made(raw).misfit(value) == "") == Draft202012Validator(raw).is_valid(value)


_ITEMS = st.recursive(
    st.none() | st.booleans() | st.sampled_from([0, 1, 0.0, 1.0, -1, 1.5]) | st.sampled_from(["", "0", "1"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=4,
)


@given(st.lists(_ITEMS, max_size=5))
def test_items_differ_where_the_usual_comparison_says_so(items: list[Any]) -> None:
    assert bool(made({"uniqueItems": True}).misfit(items)) is not Draft202012Validator({"uniqueItems": True}).is_valid(
        items
    )


def test_many_long_items_are_compared_at_once() -> None:
    checked = made({"uniqueItems": True})
    begun = time.process_time()
    assert checked.misfit([{"n": number, "of": list(range(20))} for number in range(500)]) == ""
    assert time.process_time() - begun < 0.2
