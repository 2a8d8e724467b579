"""The pace of an endpoint: how many attempts may begin now, by its own limit and by what its answers ask for.

A limit is exact: in no second do more attempts begin than it says, however many processes send. A tenth of it may begin
in one instant; to make up for that, the rest is spaced a little wider.
"""

from __future__ import annotations

from datetime import datetime, timedelta

THROTTLING = frozenset({429, 502, 503, 504})
"""Answers of a receiver that has too much to do: each halves the pace."""

FULL_PACE = 1.0
SLOWEST_PACE = 1 / 64
RECOVERY = 0.002
"""Added to the pace by each message that is taken."""

SLOWED_RATE = 100.0
"""Attempts a second that a reduced pace is a share of, where an endpoint has no limit of its own."""

_SHARE_AT_ONCE = 10


def slowed(pace: float) -> float:
    """Return the pace after an answer that throttles."""
    return max(pace / 2, SLOWEST_PACE)


def recovered(pace: float, delivered: int = 1) -> float:
    """Return the pace after so many messages were taken."""
    return min(pace + RECOVERY * delivered, FULL_PACE)


def effective_rate(rate_per_second: float, pace: float) -> float:
    """Return the attempts that may begin in a second; 0 for any number."""
    if pace >= FULL_PACE:
        return rate_per_second
    return (rate_per_second or SLOWED_RATE) * pace


def allowed(rate: float, used_until: datetime | None, now: datetime) -> int:
    """Return how many attempts may begin now under a limit, which is above 0."""
    if used_until is not None and now < used_until:
        return 0
    burst = _burst(rate)
    if used_until is None or burst == 1:
        return burst
    return min(1 + (now - used_until) // _apart(rate), burst)


def used(rate: float, used_until: datetime | None, now: datetime, begun: int) -> datetime:
    """Return until when a limit is used up once so many attempts that it allows have begun."""
    apart = _apart(rate)
    ahead = apart * (_burst(rate) - 1)
    before = now if used_until is None else max(now, used_until + ahead)
    return before + apart * begun - ahead


def _burst(rate: float) -> int:
    return max(1, int(rate / _SHARE_AT_ONCE))


def _apart(rate: float) -> timedelta:
    """Return the time between two attempts, which with a burst makes just the limit in any second."""
    micros = -(-1_000_000 // (rate - _burst(rate) + 1)) if rate >= 1 else 1_000_000 / rate
    return timedelta(microseconds=micros)
