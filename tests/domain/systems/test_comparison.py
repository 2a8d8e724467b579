"""The comparison of both sides: who changed what, who wins, and that nothing travels in a circle."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.systems.comparison import Conflict, FieldMapping, compare, same

NAME = FieldMapping("first_name", "firstname")
OURS = FieldMapping("first_name", "firstname", conflict="ours")
NEWEST = FieldMapping("first_name", "firstname", conflict="newest")
PULLED = FieldMapping("first_name", "firstname", direction="pull")
PUSHED = FieldMapping("first_name", "firstname", direction="push")

CASES: list[tuple[str, FieldMapping, str | None, str | None, str | None, str, str, bool]] = [
    # what, mapping, base, ours, theirs, pulled to ours, pushed to theirs, conflict
    ("both the same", NAME, "A", "B", "B", "", "", False),
    ("only there", NAME, "A", "A", "B", "B", "", False),
    ("only here", NAME, "A", "B", "A", "", "B", False),
    ("both, the system wins", NAME, "A", "B", "C", "C", "", True),
    ("both, ours wins", OURS, "A", "B", "C", "", "B", True),
    ("both, the newest is theirs", NEWEST, "A", "B", "C", "C", "", True),
    ("removed there", NAME, "A", "A", None, "None", "", False),
    ("removed here", NAME, "A", None, "A", "", "None", False),
    ("met for the first time, only there", NAME, None, None, "B", "B", "", False),
    ("met for the first time, only here", NAME, None, "B", None, "", "B", False),
    ("met for the first time, both", NAME, None, "B", "C", "C", "", True),
    ("only from there, changed here", PULLED, "A", "B", "A", "A", "", False),
    ("only to there, changed there", PUSHED, "A", "A", "B", "", "A", False),
]


@pytest.mark.parametrize(
    ("mapping", "base", "ours", "theirs", "pulled", "pushed", "contested"),
    [case[1:] for case in CASES],
    ids=[case[0] for case in CASES],
)
def test_who_wins(
    mapping: FieldMapping, base: Any, ours: Any, theirs: Any, pulled: str, pushed: str, contested: bool
) -> None:
    known = None if base is None else {"first_name": base}
    sides = {"first_name": ours}, {"first_name": theirs}, known
    here, there = compare((mapping,), *sides, "pull"), compare((mapping,), *sides, "push")
    assert (dict(here.to_ours), dict(there.to_theirs)) == (
        {"first_name": None if pulled == "None" else pulled} if pulled else {},
        {"first_name": None if pushed == "None" else pushed} if pushed else {},
    )
    winner = "ours" if pushed else "theirs"
    assert here.conflicts == ((Conflict("first_name", ours, theirs, winner),) if contested else ())  # type: ignore[arg-type]
    assert here.pending == bool(pushed)


@pytest.mark.parametrize(
    ("one", "other"),
    [(5, "5"), (5.0, "5"), (5, "5.0"), (True, "true"), (None, ""), ("a ", "a"), ([1, 2], ["1", "2"])],
)
def test_systems_write_the_same_in_their_own_ways(one: Any, other: Any) -> None:
    assert same(one, other)


@pytest.mark.parametrize(("one", "other"), [(5, "6"), ("a", "A"), ("007", "7"), (None, False), ("1.2.3", "1.2")])
def test_what_differs_stays_different(one: Any, other: Any) -> None:
    assert not same(one, other)


def test_an_email_is_the_same_in_any_case() -> None:
    mapping = FieldMapping("email", "email")
    found = compare((mapping,), {"email": "Ada@example.com"}, {"email": "ada@example.com"}, None, "pull")
    assert (dict(found.to_ours), found.conflicts) == ({}, ())


_VALUES = st.sampled_from([None, "A", "B", "C", 1, True])
_MAPPINGS = st.sampled_from([NAME, OURS, NEWEST])


@given(_MAPPINGS, _VALUES, _VALUES, st.none() | st.fixed_dictionaries({"first_name": _VALUES}))
def test_a_pull_and_a_push_bring_both_sides_in_step_and_then_nothing_moves(
    mapping: FieldMapping, ours: Any, theirs: Any, base: Any
) -> None:
    here, there = {"first_name": ours}, {"first_name": theirs}
    pulled = compare((mapping,), here, there, base, "pull")
    here |= pulled.to_ours
    pushed = compare((mapping,), here, there, pulled.base, "push")
    there |= pushed.to_theirs
    assert same(here["first_name"], there["first_name"])
    assert not pushed.conflicts  # what was decided once is not decided again
    again = compare((mapping,), here, there, pushed.base, "pull")
    assert (dict(again.to_ours), again.conflicts, again.pending) == ({}, (), False)
