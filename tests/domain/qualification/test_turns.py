"""Whose turn it is among several."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from core.domain.qualification.turns import choose

_OWNERS = st.lists(st.integers(1, 9), min_size=1, max_size=6).map(
    lambda weights: [(f"mem_{index}", weight) for index, weight in enumerate(weights)]
)


def _turns(owners: list[tuple[str, int]], available: frozenset[str], count: int) -> list[str]:
    position, chosen = 0, []
    for _ in range(count):
        turn = choose(owners, available=available, position=position)
        assert turn is not None
        position = turn.position
        chosen.append(turn.member)
    return chosen


@given(_OWNERS, st.integers(1, 4))
def test_in_every_round_each_gets_as_many_turns_as_their_weight(owners: list[tuple[str, int]], rounds: int) -> None:
    total = sum(weight for _, weight in owners)
    chosen = _turns(owners, frozenset(member for member, _ in owners), rounds * total)
    assert Counter(chosen) == {member: rounds * weight for member, weight in owners}


def test_the_turns_of_a_heavy_owner_are_spread() -> None:
    chosen = _turns([("a", 3), ("b", 1)], frozenset("ab"), 8)
    assert "".join(chosen) == "aabaaaba"


def test_who_cannot_own_is_passed_over_and_holds_nobody_up() -> None:
    assert _turns([("a", 1), ("b", 1), ("c", 1)], frozenset("ac"), 5) == ["a", "c", "a", "c", "a"]


def test_nobody_available_is_told() -> None:
    assert choose([("a", 1)], available=frozenset(), position=7) is None


def test_a_record_stays_with_an_owner_who_is_one_of_them() -> None:
    everybody = frozenset("abz")
    kept = choose([("a", 1), ("b", 1)], available=everybody, position=0, keep="b")
    assert kept is not None
    assert (kept.member, kept.position) == ("b", 0)
    other = choose([("a", 1), ("b", 1)], available=everybody, position=0, keep="z")
    assert other is not None
    assert other.member == "a"
