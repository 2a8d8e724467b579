"""Event types of organizations' own: what can be declared, what fits, and what a new version breaks."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.webhooks import own_types
from core.domain.webhooks.own_types import OwnType, breaking_changes

DEAL: dict[str, Any] = {
    "type": "object",
    "required": ["id", "amount"],
    "properties": {
        "id": {"type": "string", "maxLength": 20},
        "amount": {"type": "integer", "minimum": 0},
        "stage": {"enum": ["won", "lost"]},
        "items": {"type": "array", "items": {"type": "object", "required": ["sku"], "properties": {"sku": {}}}},
    },
}


def changed(**properties: Any) -> dict[str, Any]:
    return {**DEAL, "properties": {**DEAL["properties"], **properties}}


@pytest.mark.parametrize(
    ("name", "schema", "told"),
    [
        ("deal.won", DEAL, []),
        ("deal.won", {}, []),
        ("deal", DEAL, [("name", "EVENT_TYPE_MALFORMED")]),
        ("Deal.won", DEAL, [("name", "EVENT_TYPE_MALFORMED")]),
        ("lead.qualified", DEAL, [("name", "RESERVED_NAME")]),
        ("deal.won", {"type": "array"}, [("schema.type", "NEVER_FITS")]),
        ("deal.won", {"type": ["object", "null"]}, []),
        ("deal.won", {"type": "objekt"}, [("schema.type", "NOT_A_SCHEMA")]),
        ("deal.won", {"$ref": "https://example.com/x"}, [("schema.$ref", "UNKNOWN_REFERENCE")]),
        ("deal.won", {"properties": {"a": {"pattern": "(?=x)"}}}, [("schema.properties.a.pattern", "BAD_PATTERN")]),
        ("Deal", {"type": 3}, [("name", "EVENT_TYPE_MALFORMED"), ("schema.type", "NOT_A_SCHEMA")]),
        ("deal.won", {"description": "x" * 20_001}, [("schema", "TOO_LARGE")]),
    ],
)
def test_what_cannot_be_declared_is_told_by_field(
    name: str, schema: dict[str, Any], told: list[tuple[str, str]]
) -> None:
    assert [(one.field, one.reason) for one in own_types.problems(name, schema)] == told


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"id": "d1", "amount": 3}, []),
        ({"id": "d1", "amount": 3, "more": True}, []),
        ({"id": "d1"}, ["'amount' is a required property"]),
        ({"id": "d1", "amount": -1}, ["amount: -1 is less than the minimum of 0"]),
    ],
)
def test_data_fits_or_is_refused_with_a_place(data: Any, told: list[str]) -> None:
    found = OwnType("deal.won", 2, "", DEAL).problems(data)
    assert [one.message for one in found] == told
    assert all("version 2 of deal.won" in one.hint for one in found)


@pytest.mark.parametrize(
    ("new", "told"),
    [
        (DEAL, ()),
        ({**DEAL, "description": "Now with words."}, ()),
        (changed(note={"type": "string"}), ()),
        ({**DEAL, "required": ["id", "amount", "stage"]}, ()),
        (changed(stage={"enum": ["won"]}), ()),
        (changed(stage={"const": "won"}), ()),
        (changed(amount={"type": "integer", "minimum": 10}), ()),
        ({**DEAL, "required": ["id"]}, ("data.amount may now be missing.",)),
        (changed(amount={"type": "number", "minimum": 0}), ("data.amount may now have a fraction.",)),
        (changed(amount={"type": ["integer", "null"], "minimum": 0}), ("data.amount may now be null.",)),
        (changed(amount={"minimum": 0}), ("data.amount may now be of any type.",)),
        (changed(amount={"type": "integer"}), ("data.amount: minimum was 0 and is gone.",)),
        (changed(amount={"type": "integer", "minimum": -5}), ("data.amount: minimum was 0 and is -5.",)),
        (changed(id={"type": "string", "maxLength": 99}), ("data.id: maxLength was 20 and is 99.",)),
        (changed(stage={"enum": ["won", "lost", "open"]}), ('data.stage may now be "open".',)),
        (changed(stage={}), ("data.stage may now have values beside those listed before.",)),
        (
            changed(items={"type": "array", "items": {"type": "object", "properties": {"sku": {}}}}),
            ("data.items[].sku may now be missing.",),
        ),
        (
            {"type": "object", "properties": {"id": DEAL["properties"]["id"]}, "required": ["id"]},
            (
                "data.amount is no longer declared.",
                "data.stage is no longer declared.",
                "data.items is no longer declared.",
            ),
        ),
        ({**DEAL, "anyOf": [{"required": ["stage"]}]}, ("data: anyOf is another one.",)),
    ],
)
def test_what_receivers_may_trip_over_is_told(new: dict[str, Any], told: tuple[str, ...]) -> None:
    assert breaking_changes(DEAL, new) == told


def test_a_closed_object_that_opens_is_told() -> None:
    closed = {**DEAL, "additionalProperties": False}
    assert breaking_changes(closed, DEAL) == ("data may now have fields that are not declared.",)
    assert breaking_changes(DEAL, closed) == ()


def test_a_great_many_changes_are_counted() -> None:
    many = {"type": "object", "properties": {f"f{number}": {} for number in range(80)}}
    told = breaking_changes(many, {"type": "object"})
    assert (len(told), told[-1]) == (51, "And 30 more.")


schemas = st.recursive(
    st.sampled_from([{}, {"type": "string"}, {"type": ["integer", "null"]}, {"enum": [1, "a", None]}, {"const": {}}]),
    lambda inner: st.builds(
        lambda properties, required, items: {
            "type": ["object", "array"],
            "properties": properties,
            "required": [name for name in properties if required],
            "items": items,
        },
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
        st.booleans(),
        inner,
    ),
    max_leaves=8,
)
values = st.recursive(
    st.sampled_from([None, 1, 1.5, "a", "b", True]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)


@given(old=schemas, new=schemas, value=values)
def test_where_nothing_breaks_whatever_fits_the_new_version_fitted_the_old_one(old: Any, new: Any, value: Any) -> None:
    before, after = own_types.compiled(old), own_types.compiled(new)
    assert before is not None
    assert after is not None
    if not breaking_changes(old, new) and not after.misfit(value):
        assert before.misfit(value) == ""
