"""The circuit breaker of an endpoint: after so many failures in a row only one attempt at a time, ever more rarely.

What else waits for the endpoint is left alone meanwhile: it uses up no attempts.
"""

from __future__ import annotations

from datetime import timedelta

OPENS_AFTER = 10
"""Failed attempts in a row, of whichever deliveries, after which the breaker is open."""

SHORTEST_INTERVAL = timedelta(seconds=30)
LONGEST_INTERVAL = timedelta(hours=1)

_MOST_DOUBLINGS = 16


def is_open(failures: int) -> bool:
    """Tell whether only single attempts are made."""
    return failures >= OPENS_AFTER


def interval(failures: int) -> timedelta | None:
    """Return the wait until the next single attempt after so many failures in a row; None while the breaker is shut."""
    if not is_open(failures):
        return None
    return min(SHORTEST_INTERVAL * (1 << min(failures - OPENS_AFTER, _MOST_DOUBLINGS)), LONGEST_INTERVAL)
