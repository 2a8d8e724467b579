"""Shares of contacts with their intervals, so that nobody takes chance for a result."""

from __future__ import annotations

import math

from core.domain.frozen import frozen

Z = 1.959963984540054
"""Of a two-sided interval of 95 %."""


@frozen
class Share:
    """A share and its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, of: int) -> Share:
    """Return a share with its Wilson score interval (Wilson 1927); of nobody, anything from 0 to 1 may be true."""
    if of <= 0:
        return Share(0.0, 0.0, 1.0)
    rate = successes / of
    spread = Z * Z / of
    centre = (rate + spread / 2) / (1 + spread)
    half = Z * math.sqrt(rate * (1 - rate) / of + spread / (4 * of)) / (1 + spread)
    return Share(rate, 0.0 if successes == 0 else centre - half, 1.0 if successes == of else centre + half)


def difference(one: Share, other: Share) -> Share:
    """Return the first share minus the second, with Newcombe's hybrid score interval (Newcombe 1998, method 10)."""
    low = math.hypot(one.value - one.low, other.high - other.value)
    high = math.hypot(one.high - one.value, other.value - other.low)
    value = one.value - other.value
    return Share(value, max(-1.0, value - low), min(1.0, value + high))
