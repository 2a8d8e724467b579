"""Turns are fair: in turn nobody is more than one ahead, by weight nobody is a whole turn away from their share."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from core.domain.routing import turns as turning
from core.domain.routing.turns import Turns

MEMBERS = tuple("abcdefg")
EVERYBODY = dict.fromkeys(MEMBERS, 1)


@given(st.lists(st.sets(st.sampled_from(MEMBERS[:4]), min_size=1), max_size=60))
def test_those_who_can_always_take_a_lead_are_never_more_than_one_apart(able: list[set[str]]) -> None:
    turns, got = Turns(), Counter[str]()
    always = set.intersection(set(MEMBERS), *able)
    for now in able:
        chosen = turning.longest_ago([member for member in MEMBERS if member in now], turns)
        turns = turning.served(chosen, EVERYBODY, sorted(now), turns)
        got[chosen] += 1
        counts = [got[member] for member in always]
        assert max(counts, default=0) - min(counts, default=0) <= 1
        assert all(got[member] <= min(counts) + 1 for member in MEMBERS if counts)  # an absence is not made up for


def test_whoever_is_passed_over_is_next_once_they_are_back() -> None:
    turns, order = Turns(), []
    for able in ("abc", "ac", "ac", "abc", "abc", "abc"):
        chosen = turning.longest_ago(able, turns)
        turns = turning.served(chosen, EVERYBODY, able, turns)
        order.append(chosen)
    assert order == ["a", "c", "a", "b", "c", "a"]


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 90))
def test_by_weight_everybody_stays_within_one_turn_of_their_exact_share(weights: list[int], count: int) -> None:
    listed = dict(zip(MEMBERS, weights, strict=False))
    turns, got = Turns(), Counter[str]()
    for number in range(1, count + 1):
        chosen = turning.most_owed(listed, turns)
        turns = turning.served(chosen, listed, list(listed), turns)
        got[chosen] += 1
        for member, weight in listed.items():
            assert abs(got[member] - Fraction(number * weight, sum(weights))) < 1
    assert sum(turns.credit.values()) == 0


@given(st.lists(st.sets(st.sampled_from(MEMBERS[:3]), min_size=1), max_size=60))
def test_by_weight_nobody_gains_or_loses_while_they_cannot_take_a_lead(able: list[set[str]]) -> None:
    listed, turns = {"a": 3, "b": 2, "c": 1}, Turns()
    for now in able:
        before = dict(turns.credit)
        chosen = turning.most_owed({member: listed[member] for member in sorted(now)}, turns)
        turns = turning.served(chosen, listed, sorted(now), turns)
        assert chosen in now
        assert all(turns.credit.get(member, 0) == before.get(member, 0) for member in listed if member not in now)
        assert all(abs(credit) <= 6 for credit in turns.credit.values())


def test_whoever_is_no_longer_named_is_forgotten_and_the_rest_keep_their_turns() -> None:
    turns = turning.served("a", {"a": 1, "b": 1}, ["a", "b"], Turns())
    after = turning.served("c", {"b": 1, "c": 1}, ["b", "c"], turns)
    assert (set(after.last), after.count) == ({"c"}, 2)
    assert turning.longest_ago(["b", "c"], after) == "b"
    assert turning.from_json(after.as_json) == after
