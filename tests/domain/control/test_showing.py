"""What those who decide are shown: every path, whatever is put in front of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.control.showing import LARGEST, _size, differences, shown

CHANGE = {"owner_id": "mem_eve"}


@pytest.mark.parametrize(
    "padding",
    [
        {"note": "x" * 21_000},
        {"notes": ["x" * 50] * 1_000},
        {"deep": {"er": {"note": "x" * 200_000}}},
        {f"note{number}": "x" * 500 for number in range(100)},
    ],
)
def test_padding_hides_nothing_beside_it(padding: dict[str, Any]) -> None:
    request, paths = shown({"fields": {**padding, **CHANGE}})
    assert request["fields"]["owner_id"] == "mem_eve"
    assert "fields.owner_id" in paths
    assert _size(request) <= LARGEST


def test_what_is_small_is_shown_whole_and_what_has_too_many_fields_is_counted() -> None:
    assert shown({"fields": CHANGE}) == ({"fields": CHANGE}, [])
    request, paths = shown({f"a_field_with_a_long_name_{number}": number for number in range(2_000)})
    assert (request, len(paths), paths[-1]) == ({}, 501, "and 1,500 others")
    among = [{"email": f"p{number}@example.com", "note": "x" * 90} for number in range(400)] + [CHANGE]
    _, paths = shown({"contacts": among})
    assert paths == ["contacts[].email (400 times)", "contacts[].note (400 times)", "contacts[].owner_id"]


def test_documents_differ_path_by_path_and_in_the_order_of_their_steps() -> None:
    before = {"title": "T", "steps": [{"id": "a", "text": "Hello"}, {"id": "b", "kind": "log"}]}
    after = {"title": "T", "steps": [{"id": "b", "kind": "log"}, {"id": "a", "text": "Buy"}]}
    assert differences(before, after) == {
        "steps": {"old": ["a", "b"], "new": ["b", "a"]},
        "steps[a].text": {"old": "Hello", "new": "Buy"},
    }
    assert differences({}, before)["steps[a].text"] == {"old": None, "new": "Hello"}


_NAMES = st.text("abc", min_size=1, max_size=2)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(_NAMES, _JSON, max_size=4), st.dictionaries(_NAMES, _JSON, max_size=4))
def test_no_difference_goes_unseen(before: dict[str, Any], after: dict[str, Any]) -> None:
    if differences(before, after) == {}:
        assert before == after
