"""Schedules of retries, walked through in full."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.webhooks import retry
from core.domain.webhooks.retry import Preset

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
presets = st.sampled_from(Preset)
jitters = st.floats(min_value=0, max_value=1)


def walk(preset: Preset, jitter: float) -> list[datetime]:
    """Return the instants of every attempt when each one fails."""
    at, made = [NOW], 1
    while (due := retry.next_attempt(preset, made, at[-1], jitter)) is not None:
        at.append(due)
        made += 1
    return at


def test_the_standard_schedule_has_ten_attempts_over_about_76_hours():
    times = walk(Preset.STANDARD, 0.5)
    assert len(times) == retry.attempts(Preset.STANDARD) == 10
    assert times[-1] - times[0] == timedelta(hours=75, minutes=35, seconds=5)


def test_the_quick_schedule_has_five_attempts_doubling_from_one_second():
    times = walk(Preset.QUICK, 0.5)
    assert [(later - earlier).total_seconds() for earlier, later in pairwise(times)] == [1, 2, 4, 8]


@given(preset=presets, jitter=jitters)
def test_jitter_moves_a_delay_by_a_fifth_at_most(preset, jitter):
    times = walk(preset, jitter)
    for delay, (earlier, later) in zip(retry.DELAYS[preset], pairwise(times), strict=True):
        assert delay * 0.8 <= later - earlier + timedelta(microseconds=1)
        assert later - earlier <= delay * 1.2 + timedelta(microseconds=1)


@given(preset=presets, made=st.integers(1, 9), jitter=jitters, asked=st.timedeltas(timedelta(0), timedelta(days=400)))
def test_retry_after_makes_a_wait_longer_never_shorter_and_at_most_a_day(preset, made, jitter, asked):
    plain = retry.next_attempt(preset, made, NOW, jitter)
    due = retry.next_attempt(preset, made, NOW, jitter, asked)
    assert (plain is None) == (due is None)
    if plain is not None and due is not None:
        assert due == max(plain, NOW + min(asked, timedelta(hours=24)))


@pytest.mark.parametrize(
    ("text", "wait"),
    [
        ("120", timedelta(minutes=2)),
        (" 0 ", timedelta(0)),
        ("999999999999999999", timedelta(hours=24)),
        (format_datetime(NOW + timedelta(hours=1), usegmt=True), timedelta(hours=1)),
        (format_datetime(NOW - timedelta(hours=1), usegmt=True), timedelta(0)),
        (format_datetime(NOW + timedelta(days=30), usegmt=True), timedelta(hours=24)),
        ("Mon, 02 Mar 2026 10:00:00 -0000", timedelta(hours=1)),
        ("Sunday, 06-Nov-94 08:4909999937 GMT", None),
        ("31 Dec 94999 23:59:59 -2400235999999", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(text, wait):
    assert retry.parse_retry_after(text, NOW) == wait


@given(st.text())
def test_any_retry_after_text_is_survived(text):
    wait = retry.parse_retry_after(text, NOW)
    assert wait is None or timedelta(0) <= wait <= retry.LONGEST_RETRY_AFTER


@given(st.lists(st.timedeltas(retry.SHORTEST_DELAY, retry.LONGEST_DELAY), min_size=1, max_size=retry.MOST_DELAYS))
def test_an_endpoints_own_waits_take_the_place_of_the_presets(own):
    at, made = [NOW], 1
    while (due := retry.next_attempt(Preset.QUICK, made, at[-1], 0.5, own=own)) is not None:
        at.append(due)
        made += 1
    assert [later - earlier for earlier, later in pairwise(at)] == own
    assert made == retry.attempts(Preset.QUICK, own) == len(own) + 1
