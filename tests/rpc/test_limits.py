"""Rates: what is let in, how long who is refused has to wait, and that a clock put back shuts nobody out."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.domain.errors import RateLimited
from core.rpc.admission.limits import RateLimiter


def test_a_burst_over_the_limit_waits_as_long_as_it_is_told(clock: ManualClock) -> None:
    limiter = RateLimiter(clock, per_second=2)
    for _ in range(4):
        limiter.admit("key_1")
    with pytest.raises(RateLimited) as refused:
        limiter.admit("key_1")
    limiter.admit("key_2")
    clock.advance(timedelta(seconds=refused.value.retry_after or 0))
    limiter.admit("key_1")


def test_looking_takes_nothing_and_what_is_given_back_can_be_taken(clock: ManualClock) -> None:
    limiter = RateLimiter(clock, per_second=1)
    for _ in range(5):
        limiter.check("peer")
        limiter.admit("peer")
        limiter.give_back("peer")
    limiter.admit("peer")
    limiter.admit("peer")
    with pytest.raises(RateLimited):
        limiter.check("peer")
    limiter.give_back("peer")
    limiter.check("peer")
    limiter.give_back("stranger")  # who took nothing gets no more than anybody
    limiter.give_back("peer")
    limiter.give_back("peer")
    for _ in range(2):
        limiter.admit("peer")
    with pytest.raises(RateLimited):
        limiter.admit("peer")


def test_a_clock_that_is_put_back_takes_nothing_away(clock: ManualClock) -> None:
    limiter = RateLimiter(clock, per_second=1)
    limiter.admit("key_1")
    limiter = _put_back(limiter, clock)
    limiter.admit("key_1")
    with pytest.raises(RateLimited) as refused:
        limiter.admit("key_1")
    assert refused.value.retry_after == pytest.approx(1)


def _put_back(limiter: RateLimiter, clock: ManualClock) -> RateLimiter:
    earlier = ManualClock(clock.now() - timedelta(hours=1))
    limiter._clock = earlier  # as if the machine's had been set
    return limiter


def test_less_than_one_in_two_seconds_still_lets_one_in(clock: ManualClock) -> None:
    limiter = RateLimiter(clock, per_second=0.1)
    limiter.admit("key_1")
    clock.advance(timedelta(seconds=10))
    limiter.admit("key_1")
