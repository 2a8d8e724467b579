"""When an endpoint that keeps failing is warned about and turned off, and when one that is off is tried again.

Time and count both have to be met: time alone would turn off who gets few messages, count alone who gets many.
"""

from __future__ import annotations

from datetime import datetime, timedelta

REASON_FAILING = "failing"
"""Why such an endpoint is disabled; only then is it tried again by itself."""

FAILING_FOR = timedelta(days=5)
"""For so long no attempt may have succeeded."""

FAILURES = 20
"""So many attempts must have failed meanwhile."""

FAILURES_OVER = timedelta(hours=12)
"""The failures must lie at least so far apart, whatever `FAILING_FOR` is set to."""

WARNINGS = (50, 70, 90)
"""Percent of the way at which a warning is sent, each once."""

FIRST_PROBE = timedelta(hours=1)
LONGEST_PROBE = timedelta(hours=24)
_MOST_DOUBLINGS = 8


def progress_percent(failing_since: datetime | None, failures: int, now: datetime) -> int:
    """Return how far an endpoint is on the way to being disabled; at 100 it is."""
    if failing_since is None:
        return 0
    share = min((now - failing_since) / max(FAILING_FOR, FAILURES_OVER), failures / FAILURES, 1.0)
    return max(int(share * 100), 0)


def warning(percent: int, warned_percent: int) -> int:
    """Return the warning that is due now, as one of `WARNINGS`; 0 for none."""
    reached = max((step for step in WARNINGS if step <= percent), default=0)
    return reached if reached > warned_percent and percent < 100 else 0


def disable_at(failing_since: datetime) -> datetime:
    """Return the earliest instant at which a failing endpoint is disabled."""
    return failing_since + max(FAILING_FOR, FAILURES_OVER)


def probe_interval(probes: int) -> timedelta:
    """Return the wait until a disabled endpoint is tried by itself, after so many tries."""
    return min(FIRST_PROBE * (1 << min(probes, _MOST_DOUBLINGS)), LONGEST_PROBE)
