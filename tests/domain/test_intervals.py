"""Shares and their intervals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.intervals import difference, wilson


@pytest.mark.parametrize(
    ("successes", "of", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe 1998, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_the_interval_of_a_share_is_as_published(successes: int, of: int, low: float, high: float) -> None:
    share = wilson(successes, of)
    assert (round(share.low, 4), round(share.high, 4)) == (low, high)


@pytest.mark.parametrize(
    ("one", "other", "low", "high"),
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),  # Newcombe 1998 (differences), table II, method 10
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_the_interval_of_a_difference_is_as_published(
    one: tuple[int, int], other: tuple[int, int], low: float, high: float
) -> None:
    lift = difference(wilson(*one), wilson(*other))
    assert (round(lift.low, 4), round(lift.high, 4)) == (low, high)


@given(st.integers(0, 500), st.integers(0, 500), st.integers(0, 500), st.integers(0, 500))
def test_an_interval_holds_its_value_and_stays_within_bounds(a: int, b: int, c: int, d: int) -> None:
    one, other = wilson(min(a, b), max(a, b)), wilson(min(c, d), max(c, d))
    lift = difference(one, other)
    for share, least in ((one, 0.0), (other, 0.0), (lift, -1.0)):
        assert least <= share.low <= share.value <= share.high <= 1.0
    mirrored = difference(other, one)
    assert (mirrored.value, mirrored.low, mirrored.high) == pytest.approx((-lift.value, -lift.high, -lift.low))
