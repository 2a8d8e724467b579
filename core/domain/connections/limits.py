"""How many messages a connection may begin: at a rate, a day, at once. What must wait is held, and told until when.

All of it is decided on what the connection's row holds, which is locked meanwhile: so limits hold across processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, replace
from datetime import datetime, timedelta

from core.domain.frozen import frozen
from core.domain.webhooks import throttle
from core.domain.workflow.zones import MIDNIGHT, Zone, instant_of

HELD = "held: "
"""How the outcome of a message begins that waits for its connection."""

DAILY_LIMIT = "daily_message_limit_reached"
"""The reason that prospects' systems know for a day's limit."""

USUAL_IN_FLIGHT = 4
LEASE = timedelta(seconds=90)
"""After so long a call under way is taken for that of a dead process, as the mailer's lease is."""

PAUSED_FOR = timedelta(hours=1)
"""How long a message waits for a paused connection before it asks again; resuming brings it back at once."""

_SOON = timedelta(seconds=1)
_CALL_TAKES = timedelta(milliseconds=250)
"""What a call is expected to take, to spread those that wait for a free place."""

_SPREAD = timedelta(days=30)


@frozen
class Limits:
    """What the owner of a connection allows; 0 for no limit, in flight 0 for the usual."""

    rate_per_second: float = 0.0
    daily_limit: int = 0
    max_in_flight: int = 0


@frozen
class Usage:
    """What of it is used up."""

    rate_until: datetime | None = None
    """Until when the rate is used up."""
    queued_until: datetime | None = None
    """Up to which instant those who wait have been given a time to ask again."""
    gate_until: datetime | None = None
    """Until when the other system asked to be left alone."""
    day: str = ""
    """The organization's day that is counted."""
    sent: int = 0
    """Messages sent on that day."""
    calls: Mapping[str, datetime] = field(default_factory=dict, hash=False)
    """Messages under way, with the end of each lease."""


@frozen
class Turn:
    """What a message gets when it asks."""

    usage: Usage
    held_until: datetime | None = None
    """None when it may begin."""
    reason: str = ""


def begin(
    limits: Limits, usage: Usage, *, paused: bool, zone: Zone, message_id: str, created_at: datetime, now: datetime
) -> Turn:
    """Return whether a message may begin now; a place is taken for it then."""
    usage = _of_today(usage, zone, now)
    calls = {one: until for one, until in usage.calls.items() if until > now and one != message_id}
    usage = replace(usage, calls=calls)
    if paused:
        return Turn(usage, now + PAUSED_FOR, "the connection is paused")
    if usage.gate_until is not None and now < usage.gate_until:
        return Turn(usage, usage.gate_until, f"the other system asks to wait until {_iso(usage.gate_until)}")
    if limits.daily_limit and usage.sent + len(calls) >= limits.daily_limit:
        return _tomorrow(limits, usage, zone, created_at, now)
    places = limits.max_in_flight or USUAL_IN_FLIGHT
    if len(calls) >= places:
        return _queued(usage, _CALL_TAKES / places, now, f"{len(calls)} calls are under way, the most at once")
    rate = limits.rate_per_second
    if rate:
        if throttle.allowed(rate, usage.rate_until, now) < 1:
            reason = f"{rate:g} a second is the most"
            return _queued(usage, timedelta(seconds=1 / rate), now, reason)
        usage = replace(usage, rate_until=throttle.used(rate, usage.rate_until, now, 1))
    return Turn(replace(usage, calls={**calls, message_id: now + LEASE}))


def ended(
    usage: Usage, message_id: str, *, sent: bool, zone: Zone, now: datetime, gate_until: datetime | None = None
) -> Usage:
    """Return what is used up once a call is over; `gate_until` is what the other system asked for."""
    usage = _of_today(usage, zone, now)
    if gate_until is not None and (usage.gate_until is None or gate_until > usage.gate_until):
        usage = replace(usage, gate_until=gate_until)
    calls = {one: until for one, until in usage.calls.items() if one != message_id}
    return replace(usage, calls=calls, sent=usage.sent + sent)


def sent_today(usage: Usage, zone: Zone, now: datetime) -> int:
    """Return how many messages were sent today."""
    return _of_today(usage, zone, now).sent


def _of_today(usage: Usage, zone: Zone, now: datetime) -> Usage:
    today = zone.local(now).date().isoformat()
    return usage if usage.day == today else replace(usage, day=today, sent=0)


def _tomorrow(limits: Limits, usage: Usage, zone: Zone, created_at: datetime, now: datetime) -> Turn:
    if usage.sent < limits.daily_limit:  # those under way may yet fail
        return _queued(usage, _CALL_TAKES, now, f"{DAILY_LIMIT}, if what is under way is sent")
    day = zone.local(now).date()
    midnight = instant_of(day + timedelta(days=1), MIDNIGHT, zone)
    # Those who wait longest come first: a second of waiting is worth a microsecond of the order.
    later = max(created_at - (now - _SPREAD), timedelta(0)) // timedelta(seconds=1)
    reason = f"{DAILY_LIMIT}: {usage.sent} were sent on {day} ({zone.spoken}), {limits.daily_limit} are the most"
    return Turn(usage, midnight + timedelta(microseconds=later), reason)


def _queued(usage: Usage, apart: timedelta, now: datetime, reason: str) -> Turn:
    until = max(usage.queued_until or now, now + _SOON)
    return Turn(replace(usage, queued_until=until + apart), until, reason)


def _iso(instant: datetime) -> str:
    return instant.replace(microsecond=0).isoformat().replace("+00:00", "Z")
