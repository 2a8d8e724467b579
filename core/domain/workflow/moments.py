"""Moments as records and authors write them: a date, a local time of a date, or an instant."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

from core.domain.workflow.time_notation import DATE_PATTERN
from core.domain.workflow.windows import DAY
from core.domain.workflow.zones import Zone, instant_of

EXAMPLE = "Write a date such as 2026-12-24, or an instant such as 2026-12-24T09:00:00Z; without a zone it is local."

_YEARS = range(1800, 2400)

Moment = date | datetime
"""A date; a datetime without a zone, which is local; or an instant."""


def parse(text: str) -> Moment:
    """Return the moment a text stands for.

    Raises ValueError, with a sentence for the author, when it stands for none.
    """
    text = text.strip()
    try:
        found = date.fromisoformat(text) if re.fullmatch(DATE_PATTERN[1:-1], text) else datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text[:60]!r} is not a date") from None
    if found.year not in _YEARS:
        raise ValueError(f"{text[:60]!r} is out of range")
    return found


def instant(moment: Moment, offset: timedelta, zone: Zone) -> datetime:
    """Return a moment, moved by an offset, as an instant in UTC.

    A date is its first moment in the zone. Dates and local times move by calendar days and keep their time of day;
    instants move by exactly that length.
    """
    if isinstance(moment, datetime) and moment.tzinfo is not None:
        return moment.astimezone(UTC) + offset
    days, rest = divmod(offset, DAY)
    day, at = (moment.date(), moment.time()) if isinstance(moment, datetime) else (moment, time())
    return instant_of(day + days * DAY, at, zone) + rest
