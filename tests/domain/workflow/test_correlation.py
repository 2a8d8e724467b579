"""The keys by which an event finds who waits for it."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.workflow.correlation import LONGEST_KEY, MOST_KEYS, correlation_key, event_keys

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("A-1", "x=A-1"),
        (" A-1\n", "x=A-1"),
        ("a\0b", "x=ab"),
        (7, "x=7"),
        (7.0, "x=7"),
        (-7.5, "x=-7.5"),
        ("7", "x=7"),
        (True, "x=true"),
        (False, "x=false"),
        (2**70, f"x={2**70}"),
        (None, ""),
        ("", ""),
        ("  ", ""),
        ([1], ""),
        ({"a": 1}, ""),
        (math.nan, ""),
        (math.inf, ""),
        (1e300, ""),
        (10**1_000, ""),
        ("y" * 198, "x=" + "y" * 198),
        ("y" * 199, ""),
    ],
)
def test_a_value_has_one_key_or_none(value: Any, key: str) -> None:
    assert correlation_key("x", value) == key


def test_an_event_is_found_by_its_contact_and_by_its_fields() -> None:
    fields = {"order_id": 7, "total": 9.5, "note": "", "items": [1], "vip": True}
    assert event_keys("cnt_1", fields) == ("cnt_1", "order_id=7", "vip=true", "total=9.5")
    assert event_keys(None, fields) == ("order_id=7", "vip=true", "total=9.5")
    assert event_keys("cnt_1", {}) == ("cnt_1",)


def test_of_many_fields_those_named_like_ids_come_first() -> None:
    fields = {**{f"field_{number:03}": "some text" for number in range(80)}, "subscription_id": "s" * 100, "orderId": 1}
    keys = event_keys("cnt_1", fields)
    assert len(keys) == MOST_KEYS
    assert keys[:3] == ("cnt_1", "orderId=1", "subscription_id=" + "s" * 100)


@given(st.dictionaries(st.text(max_size=120), JSON, max_size=80), st.sampled_from(["cnt_1", "", None]))
def test_keys_are_few_short_different_and_those_that_a_wait_would_have(
    fields: dict[str, Any], contact: str | None
) -> None:
    keys = event_keys(contact, fields)
    assert keys == event_keys(contact, dict(reversed(fields.items())))
    assert len(keys) <= MOST_KEYS
    assert all(0 < len(key) <= LONGEST_KEY for key in keys)
    waits = {correlation_key(name, value) for name, value in fields.items()}
    assert set(keys) - {contact} <= waits
