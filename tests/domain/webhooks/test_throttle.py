"""The pace of an endpoint: exact in every second, whoever sends, and slower while the receiver has too much to do."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.webhooks import throttle
from tests.conftest import START

SECOND = timedelta(seconds=1)


@given(
    rate=st.one_of(st.integers(1, 500).map(float), st.floats(0.05, 500)),
    pauses=st.lists(st.integers(0, 300_000), min_size=1, max_size=120),
    greed=st.lists(st.integers(1, 200), min_size=1, max_size=5),
)
def test_no_second_sees_more_attempts_than_the_limit(rate: float, pauses: list[int], greed: list[int]) -> None:
    now, used_until = START, None
    begun: list[datetime] = []
    for number, pause in enumerate(pauses):
        now += timedelta(microseconds=pause)
        count = min(throttle.allowed(rate, used_until, now), greed[number % len(greed)])
        if count:
            used_until = throttle.used(rate, used_until, now, count)
            begun += [now] * count
    for first in range(len(begun)):
        within = sum(begun[first] <= at < begun[first] + SECOND for at in begun)
        assert within <= max(1, -(-rate // 1))


@pytest.mark.parametrize("rate", [0.5, 1, 7, 10, 50, 100, 1000])
def test_who_always_takes_what_is_allowed_gets_nine_tenths_of_the_limit(rate: float) -> None:
    now, used_until, begun = START, None, 0
    while now < START + timedelta(seconds=20):
        if count := throttle.allowed(rate, used_until, now):
            used_until = throttle.used(rate, used_until, now, count)
            begun += count
        assert used_until is not None
        now = max(used_until, now + timedelta(microseconds=100))
    assert 0.89 * rate * 20 <= begun <= rate * 20 + 1 + rate / 10


def test_nothing_is_allowed_before_the_limit_is_free_again() -> None:
    used_until = throttle.used(2.0, None, START, 1)
    assert used_until == START + timedelta(milliseconds=500)
    assert throttle.allowed(2.0, used_until, used_until - timedelta(microseconds=1)) == 0
    assert throttle.allowed(2.0, used_until, used_until) == 1


def test_the_pace_halves_to_a_floor_and_comes_back_slowly() -> None:
    pace = throttle.FULL_PACE
    for _ in range(20):
        pace = throttle.slowed(pace)
    assert pace == throttle.SLOWEST_PACE
    assert throttle.recovered(throttle.slowed(1.0), 10) == pytest.approx(0.52)
    assert throttle.recovered(0.999) == throttle.FULL_PACE


@pytest.mark.parametrize(
    ("limit", "pace", "rate"),
    [(0, 1, 0), (20, 1, 20), (0, 0.5, 50), (20, 0.5, 10), (1, 1 / 64, 1 / 64)],
)
def test_a_reduced_pace_is_a_share_of_the_limit(limit: float, pace: float, rate: float) -> None:
    assert throttle.effective_rate(limit, pace) == rate
