"""Changes are found, applied, and undone exactly."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from core.domain.records.changes import Change, apply, as_of, diff, patched, value_at

_NAMES = st.sampled_from(["tier", "score", "custom.a", "custom.b", "custom.a.x", "custom.a.y", "custom"])
_VALUES = st.none() | st.booleans() | st.integers(0, 3) | st.text(max_size=2) | st.lists(st.integers(0, 2), max_size=2)
_PATCHES = st.dictionaries(_NAMES.filter(lambda name: name != "custom"), _VALUES, max_size=5)


def test_a_value_that_is_there_already_is_no_change() -> None:
    assert diff({"tier": "A", "custom": {"plan": "pro"}}, {"tier": "A", "custom.plan": "pro", "score": None}) == ()


def test_a_change_tells_before_and_after() -> None:
    changes = diff({"tier": "B", "custom": {"plan": "pro"}}, {"tier": "A", "custom.plan": None, "custom.seats": 3})
    assert changes == (
        Change("tier", "B", "A"),
        Change("custom.plan", "pro", None),
        Change("custom.seats", None, 3),
    )
    assert apply({"tier": "B", "custom": {"plan": "pro"}}, changes) == {"tier": "A", "custom": {"seats": 3}}


def test_one_and_true_are_different_values() -> None:
    assert diff({"score": 1}, {"score": True}) == (Change("score", 1, True),)


def test_a_value_gives_way_to_an_object_and_comes_back() -> None:
    before = {"custom": {"a": "text"}}
    changes = diff(before, {"custom.a.x": 1})
    assert changes == (Change("custom.a", "text", None), Change("custom.a.x", None, 1))
    assert as_of({"custom": {"a": {"x": 1}}}, reversed(changes)) == before


@given(st.lists(_PATCHES, min_size=1, max_size=4))
def test_undoing_the_newer_changes_gives_every_earlier_state(patches: list[dict[str, Any]]) -> None:
    states: list[dict[str, Any]] = [{}]
    history: list[Change] = []
    marks = [0]
    for patch in patches:
        changes = diff(states[-1], patch)
        states.append(apply(states[-1], changes))
        history += changes
        marks.append(len(history))
    for state, mark in zip(states, marks, strict=True):
        assert as_of(states[-1], reversed(history[mark:])) == state


@given(_PATCHES)
def test_a_patch_of_the_same_values_changes_nothing_more(patch: dict[str, Any]) -> None:
    after = apply({}, diff({}, patch))
    assert all(value_at(after, change.field) == change.new for change in diff({}, patch)[-1:])
    settled = {path: value_at(after, path) for path in patch if value_at(after, path) is not None}
    assert diff(after, settled) == ()


@given(_PATCHES, _PATCHES)
def test_a_patch_makes_what_its_changes_make_and_leaves_what_was_before(
    first: dict[str, Any], patch: dict[str, Any]
) -> None:
    before, _ = patched({"tags": ["a"]}, first)
    kept = copy.deepcopy(before)
    after, changes = patched(before, patch)
    assert after == apply(before, changes)
    assert changes == diff(before, patch)
    assert before == kept
