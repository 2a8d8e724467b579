"""What an event that comes early, late or out of order still does; docs/events.md says it to those who send them.

An event has two times: when it happened, as its sender says, and when it arrived. Events are taken in the order in
which they arrive, and what each of them may still do depends on how long ago it happened.
"""

from __future__ import annotations

from datetime import datetime, timedelta

FARTHEST_AHEAD = timedelta(days=1)
"""Clocks of senders differ; what claims to happen later than this is a mistake."""

LATE = timedelta(hours=1)
"""What took longer than this to arrive is late: senders' queues and clocks account for less."""

LATEST_TRIGGER = timedelta(days=7)
"""What happened longer ago than this when it arrived is history: it is kept, and starts and wakes nothing."""

EVENT, HISTORY = "event", "history"
"""How the cause of a change begins that an event brought; workflows are not told of what history changed."""


def is_ahead(occurred_at: datetime, received_at: datetime) -> bool:
    """Tell whether an event claims to have happened too far in the future."""
    return occurred_at - received_at > FARTHEST_AHEAD


def is_late(occurred_at: datetime, received_at: datetime) -> bool:
    """Tell whether an event is about the past, so that what is known since goes before it."""
    return received_at - occurred_at > LATE


def is_history(occurred_at: datetime, received_at: datetime) -> bool:
    """Tell whether an event is too old to start or wake anything."""
    return received_at - occurred_at > LATEST_TRIGGER


def was_before(occurred_at: datetime, since: datetime) -> bool:
    """Tell whether an event happened before a wait began, by more than queues and clocks account for."""
    return since - occurred_at > LATE
