"""Budgets: how much a principal may do a day, counted in the organization's zone."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta

from core.domain.frozen import frozen
from core.domain.workflow.zones import Zone, instant_of

KINDS = ("agent", "service", "member")
"""Kinds of principals that can have a budget for each of theirs."""

METRICS: Mapping[str, tuple[str, str]] = {
    "enrollments": ("contacts", "enrolled"),
    "messages": ("messages", "sent"),
    "writes": ("calls", "made"),
    "records": ("records", "written"),
    "executions": ("executions", "started"),
    "cost": ("units of cost", "spent"),
}
"""What is counted, and how it is told: 14 of these 40 contacts may be enrolled today."""

LARGEST = 2**53
UNLIMITED = -1


@frozen
class Share:
    """How much of a budget is left."""

    metric: str
    limit: int
    used: int
    resets_at: datetime

    @property
    def left(self) -> int:
        """Return how much may still be done today."""
        return max(0, self.limit - self.used)


def day_of(now: datetime, zone: Zone) -> int:
    """Return the day in a zone, counted since 1970."""
    return (zone.local(now).date() - date(1970, 1, 1)).days


def reset_time(now: datetime, zone: Zone) -> datetime:
    """Return when the day ends in a zone."""
    return instant_of(zone.local(now).date() + timedelta(days=1), time(), zone)


def told(share: Share, wanted: int) -> str:
    """Return what would be allowed, as a clause such as `14 of these 40 contacts may be enrolled today`."""
    what, done = METRICS[share.metric]
    if share.left == 0:
        return f"No more {what} may be {done} today"
    return f"{share.left:,} of these {wanted:,} {what} may be {done} today"
