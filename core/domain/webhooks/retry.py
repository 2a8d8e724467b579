"""When a failed delivery is tried again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum

LONGEST_RETRY_AFTER = timedelta(hours=24)
SHORTEST_DELAY = timedelta(seconds=1)
LONGEST_DELAY = timedelta(days=7)
MOST_DELAYS = 20
SPREAD = 0.2
"""Jitter moves a delay by at most this share, either way."""


class Preset(StrEnum):
    """A named schedule."""

    STANDARD = "standard"
    QUICK = "quick"


DELAYS: dict[Preset, tuple[timedelta, ...]] = {
    Preset.STANDARD: (
        timedelta(seconds=5),
        timedelta(minutes=5),
        timedelta(minutes=30),
        timedelta(hours=2),
        timedelta(hours=5),
        timedelta(hours=10),
        timedelta(hours=14),
        timedelta(hours=20),
        timedelta(hours=24),
    ),
    Preset.QUICK: tuple(timedelta(seconds=2**exponent) for exponent in range(4)),
}
"""Waits between attempts; the first attempt is made at once. Standard: ten attempts in 75.6 h; quick: five in 15 s."""


def schedule(preset: Preset, own: Sequence[timedelta] = ()) -> tuple[timedelta, ...]:
    """Return the waits between attempts: an endpoint's own in place of the preset's."""
    return tuple(own) or DELAYS[preset]


def attempts(preset: Preset, own: Sequence[timedelta] = ()) -> int:
    """Return how many attempts a delivery gets."""
    return len(schedule(preset, own)) + 1


def next_attempt(
    preset: Preset,
    attempts_made: int,
    now: datetime,
    jitter: float,
    retry_after: timedelta | None = None,
    *,
    own: Sequence[timedelta] = (),
) -> datetime | None:
    """Return when to try again after so many attempts, or None when they are used up.

    `jitter` is from 0 to 1; `own` are the endpoint's waits in place of the preset's. A receiver's `retry_after` can
    only make the wait longer, at most 24 h.
    """
    delays = schedule(preset, own)
    if attempts_made > len(delays):
        return None
    wait = delays[max(attempts_made, 1) - 1] * (1 - SPREAD + 2 * SPREAD * jitter)
    if retry_after is not None:
        wait = max(wait, min(retry_after, LONGEST_RETRY_AFTER))
    return now + wait


def parse_retry_after(text: str | None, now: datetime) -> timedelta | None:
    """Return the wait that a `Retry-After` header asks for, in seconds or as an HTTP date; None for no wait."""
    if not text:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return timedelta(seconds=min(int(text[:12]), int(LONGEST_RETRY_AFTER.total_seconds())))
    try:
        instant = parsedate_to_datetime(text)
        if instant.tzinfo is None:
            instant = instant.replace(tzinfo=UTC)
        wait = instant - now
    except (ValueError, OverflowError):  # no date, or one that no calendar has room for
        return None
    return min(max(wait, timedelta(0)), LONGEST_RETRY_AFTER)
