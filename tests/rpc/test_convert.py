"""What goes into protobuf's free-form messages comes out the same, empty lists and objects too."""

from __future__ import annotations

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rpc.convert import from_struct, from_value, to_struct, to_value

_SCALARS = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(st.characters(codec="utf-8"))
_KEYS = st.text(st.characters(codec="utf-8"), max_size=5)
_JSON = st.recursive(
    _SCALARS | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=10,
)


@given(_JSON)
def test_plain_json_comes_back_as_it_was(value: Any) -> None:
    assert from_value(to_value(value)) == value
    assert from_struct(to_struct({"value": value})) == {"value": value}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (datetime(2026, 3, 2, 9, tzinfo=UTC), "2026-03-02T09:00:00+00:00"),
        ((1, ()), [1, []]),
        (MappingProxyType({"a": {}}), {"a": {}}),
        (True, True),
        (UTC, "UTC"),
    ],
)
def test_what_is_no_json_becomes_the_nearest(value: Any, kept: Any) -> None:
    told = from_value(to_value(value))
    assert (told, type(told)) == (kept, type(kept))
