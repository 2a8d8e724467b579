"""The limits of late and early, to the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.domain.records import lateness

NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)
TICK = timedelta(microseconds=1)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@pytest.mark.parametrize(
    ("before", "ahead", "late", "history"),
    [
        (-DAY - TICK, True, False, False),
        (-DAY, False, False, False),
        (timedelta(0), False, False, False),
        (HOUR, False, False, False),
        (HOUR + TICK, False, True, False),
        (7 * DAY, False, True, False),
        (7 * DAY + TICK, False, True, True),
    ],
)
def test_how_late_an_event_is(before: timedelta, ahead: bool, late: bool, history: bool) -> None:
    at = NOW - before
    assert (lateness.is_ahead(at, NOW), lateness.is_late(at, NOW), lateness.is_history(at, NOW)) == (
        ahead, late, history
    )  # fmt: skip


@pytest.mark.parametrize(("before", "was"), [(-DAY, False), (HOUR, False), (HOUR + TICK, True), (30 * DAY, True)])
def test_what_happened_before_a_wait(before: timedelta, was: bool) -> None:
    assert lateness.was_before(NOW - before, NOW) is was


def test_the_first_and_the_last_instant_there_is_are_judged_like_any_other() -> None:
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    assert lateness.is_history(first, NOW)
    assert lateness.is_ahead(last, NOW)
    assert lateness.was_before(first, last)
