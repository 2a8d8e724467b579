"""Examples made from JSON Schemas fit them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.workflow import json_schemas
from core.simulation.examples import example

SCALARS: st.SearchStrategy[dict[str, Any]] = st.one_of(
    st.sampled_from([{"type": "string"}, {"type": "boolean"}, {"type": "null"}, {"type": "string", "format": "email"}]),
    st.builds(
        lambda a, b: {"type": "integer", "minimum": a, "maximum": a + b}, st.integers(-50, 50), st.integers(0, 9)
    ),
    st.builds(lambda a, b: {"type": "number", "minimum": a, "maximum": a + b}, st.integers(-50, 50), st.integers(0, 9)),
    st.builds(
        lambda a, b: {"type": "string", "minLength": a, "maxLength": a + b}, st.integers(0, 20), st.integers(0, 9)
    ),
    st.lists(st.integers() | st.text(max_size=5), min_size=1, max_size=4).map(lambda items: {"enum": items}),
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.builds(
            lambda of, required: {
                "type": "object",
                "properties": of,
                "required": [name for name in required if name in of],
            },
            st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
            st.lists(st.sampled_from("abc"), max_size=3, unique=True),
        ),
        st.builds(lambda of, least: {"type": "array", "items": of, "minItems": least}, inner, st.integers(0, 3)),
        st.lists(inner, min_size=1, max_size=3).map(lambda items: {"anyOf": items}),
    ),
    max_leaves=8,
)


@given(SCHEMAS, st.floats(0, 1, exclude_max=True))
def test_an_example_fits_its_schema(schema: dict[str, Any], point: float) -> None:
    read, problems = json_schemas.read(schema, "schema")
    assert read is not None, problems
    made = example(schema, point)
    assert read.misfit(made) == "", made


@pytest.mark.parametrize(
    ("schema", "made"),
    [
        ({"const": 4}, 4),
        ({"type": "string", "examples": ["Yes."]}, "Yes."),
        ({"type": ["null", "integer"], "minimum": 3}, 3),
        ({"$defs": {"mood": {"enum": ["good"]}}, "properties": {"mood": {"$ref": "#/$defs/mood"}}}, {"mood": "good"}),
        ({"allOf": [{"type": "integer"}, {"minimum": 5, "maximum": 5}]}, 5),
        ({"type": "integer", "minimum": 0, "maximum": 100, "multipleOf": 10}, 30),
        (True, "An example."),
    ],
)
def test_what_a_schema_says_is_taken(schema: Any, made: Any) -> None:
    assert example(schema) == made


def test_a_schema_that_goes_in_a_circle_ends() -> None:
    assert example({"properties": {"child": {"$ref": "#"}}, "required": ["child"]}) is not None
