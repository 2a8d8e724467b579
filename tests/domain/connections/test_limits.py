"""Limits of connections: by the second, by the day, at once; whoever waits is told until when, and why."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from core.domain.connections import limits
from core.domain.connections.limits import LEASE, Limits, Turn, Usage
from core.domain.workflow.zones import Zone

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)
BERLIN = Zone("Europe/Berlin", "organization")


def ask(allowed: Limits, usage: Usage, now: datetime = NOW, message: str = "msg_1", *, paused: bool = False) -> Turn:
    return limits.begin(
        allowed, usage, paused=paused, zone=BERLIN, message_id=message, created_at=NOW - SECOND, now=now
    )


def end(usage: Usage, message: str = "msg_1", now: datetime = NOW, *, sent: bool = True) -> Usage:
    return limits.ended(usage, message, sent=sent, zone=BERLIN, now=now)


def test_without_limits_four_are_under_way_at_once() -> None:
    usage = Usage()
    for number in range(4):
        turn = ask(Limits(), usage, message=f"msg_{number}")
        assert turn.held_until is None
        usage = turn.usage
    turn = ask(Limits(), usage, message="msg_5")
    assert (turn.held_until, turn.reason) == (NOW + SECOND, "4 calls are under way, the most at once")
    assert ask(Limits(), end(turn.usage, "msg_0"), message="msg_5").held_until is None


def test_the_same_message_takes_no_second_place_and_dead_ones_give_theirs_back() -> None:
    usage = ask(Limits(max_in_flight=1), Usage()).usage
    assert ask(Limits(max_in_flight=1), usage).held_until is None
    assert ask(Limits(max_in_flight=1), usage, message="msg_2").held_until is not None
    assert ask(Limits(max_in_flight=1), usage, NOW + LEASE, "msg_2").held_until is None


def test_the_day_is_the_organizations_and_ends_at_its_midnight() -> None:
    allowed, usage = Limits(daily_limit=2), Usage()
    for number in range(2):
        usage = end(ask(allowed, usage, message=f"msg_{number}").usage, f"msg_{number}")
    turn = ask(allowed, usage, message="msg_3")
    midnight = datetime(2026, 3, 2, 23, tzinfo=UTC)
    assert turn.held_until is not None
    assert midnight <= turn.held_until < midnight + timedelta(seconds=3)
    assert turn.reason == (
        "daily_message_limit_reached: 2 were sent on 2026-03-02 (Europe/Berlin, the organization's zone), "
        "2 are the most"
    )
    assert ask(allowed, usage, turn.held_until, "msg_3").held_until is None
    assert limits.sent_today(usage, BERLIN, NOW) == 2
    assert limits.sent_today(usage, BERLIN, midnight) == 0


def test_what_failed_does_not_count_and_what_is_under_way_may_fail() -> None:
    allowed = Limits(daily_limit=1)
    usage = ask(allowed, Usage()).usage
    turn = ask(allowed, usage, message="msg_2")
    assert turn.held_until == NOW + SECOND
    assert ask(allowed, end(turn.usage, sent=False), NOW + SECOND, "msg_2").held_until is None


def test_who_waits_longest_goes_first_the_next_day() -> None:
    allowed, usage = Limits(daily_limit=1), end(ask(Limits(daily_limit=1), Usage()).usage)
    early, late = (
        limits.begin(
            allowed, usage, paused=False, zone=BERLIN, message_id="m", created_at=NOW - age, now=NOW
        ).held_until
        for age in (timedelta(days=3), timedelta(minutes=1))
    )
    assert early is not None
    assert late is not None
    assert early < late


def test_a_paused_connection_and_one_that_asked_for_time_hold() -> None:
    assert ask(Limits(), Usage(), paused=True).reason == "the connection is paused"
    usage = limits.ended(Usage(), "m", sent=False, zone=BERLIN, now=NOW, gate_until=NOW + 30 * SECOND)
    turn = ask(Limits(), usage)
    assert (turn.held_until, turn.reason) == (
        NOW + 30 * SECOND,
        "the other system asks to wait until 2026-03-02T09:00:30Z",
    )
    assert ask(Limits(), usage, NOW + 30 * SECOND).held_until is None


@given(
    st.sampled_from([0.5, 1.0, 3.0, 10.0, 25.0]),
    st.lists(st.integers(0, 1_500_000), min_size=1, max_size=60),
)
def test_in_no_second_do_more_begin_than_the_rate_says(rate: float, waits: list[int]) -> None:
    allowed, usage, now, begun = Limits(rate_per_second=rate, max_in_flight=64), Usage(), NOW, []
    for number, wait in enumerate(waits):
        now += timedelta(microseconds=wait)
        turn = ask(allowed, usage, now, f"msg_{number}")
        usage = turn.usage
        if turn.held_until is None:
            begun.append(now)
            usage = end(usage, f"msg_{number}", now)
        else:
            assert turn.held_until >= now + SECOND
    window = SECOND if rate >= 1 else timedelta(seconds=1 / rate)
    for first in begun:
        assert len([one for one in begun if first <= one < first + window]) <= max(1, rate)


def test_those_who_wait_for_the_rate_are_spread() -> None:
    allowed, usage = Limits(rate_per_second=2, max_in_flight=64), Usage()
    held = []
    for number in range(4):
        turn = ask(allowed, usage, message=f"msg_{number}")
        usage = replace(turn.usage, calls={})
        held.append(turn.held_until)
    assert held == [None, NOW + SECOND, NOW + 1.5 * SECOND, NOW + 2 * SECOND]
