"""Schedules in cron's five fields, in the local time of a zone.

A schedule with named hours, such as `30 2 * * *`, means local times: one that the zone skips comes right after the gap,
one that comes twice comes once. A schedule for every hour, such as `*/15 * * * *`, goes by what the clock on the wall
shows: it goes on through the hour that comes twice, and has nothing to do in the one that is skipped.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cronsim import CronSim, CronSimError

from core.domain.frozen import frozen
from core.domain.workflow.zones import Zone, instant_of

EXAMPLE = "Write minute, hour, day of month, month and day of week, such as 0 9 * * mon-fri."
LONGEST_TEXT = 200

_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_FIELDS = 5
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
_ANY_TIME = datetime(2024, 1, 1, tzinfo=UTC)
"""What every schedule must come round after."""


@frozen
class Cron:
    """A schedule."""

    text: str
    """As the author wrote it."""
    zone: Zone

    def __post_init__(self) -> None:
        check(self.text)

    def next_after(self, instant: datetime) -> datetime:
        """Return the first instant after this one, in UTC, at which the schedule comes round."""
        fields = _fields(self.text)
        if fields[1] in ("*", "*/1"):
            return _next_shown(" ".join(fields), instant, self.zone)
        shown = self.zone.local(instant).replace(tzinfo=None)
        for following in CronSim(" ".join(fields), shown):
            found = instant_of(following.date(), following.time(), self.zone)
            if found > instant:  # not so in the second round of an hour that comes twice
                return found
        raise _never(self.text)


def check(text: str) -> None:
    """Raise ValueError, with a sentence for the author, when a text is no schedule or one that never comes round."""
    fields = _fields(text)
    try:
        coming = CronSim(" ".join(fields), _ANY_TIME)
    except CronSimError as error:
        part = str(error).removeprefix("Bad ").replace("-", " ")
        value = dict(zip(("minute", "hour", "day of month", "month", "day of week"), fields, strict=True)).get(part, "")
        if part == "day of month" and _readable_alone(value):
            raise _never(text) from None
        raise ValueError(f"{value[:40] or text[:40]!r} is no {part}") from None
    if next(coming, None) is None:
        raise _never(text)


def _fields(text: str) -> list[str]:
    fields = _NICKNAMES.get(text.strip().lower(), text).split()
    if len(fields) != _FIELDS or len(text) > LONGEST_TEXT:
        raise ValueError(f"{text[:40]!r} is no schedule of five fields")
    return fields


def _readable_alone(day_of_month: str) -> bool:
    """Tell whether a day of month is well formed, and it is the months that do not have it."""
    try:
        CronSim(f"0 0 {day_of_month} * *", _ANY_TIME)
    except CronSimError:
        return False
    return True


def _never(text: str) -> ValueError:
    return ValueError(f"{text!r} names a day that never comes")


def _next_shown(text: str, instant: datetime, zone: Zone) -> datetime:
    """Return the first instant after this one at which the clock on the wall shows what the schedule names."""
    offset = _offset(instant, zone)
    while True:
        shown = instant.astimezone(UTC).replace(tzinfo=None) + offset
        found = (next(CronSim(text, shown)) - offset).replace(tzinfo=UTC)
        if _offset(found, zone) == offset:
            return found
        changed = _change(instant, found, zone)
        instant, offset = changed - _SECOND, _offset(changed, zone)


def _offset(instant: datetime, zone: Zone) -> timedelta:
    return instant.astimezone(zone.rules).utcoffset() or timedelta()


def _change(before: datetime, after: datetime, zone: Zone) -> datetime:
    """Return the first instant with another offset; there is one between the two."""
    offset, before = _offset(before, zone), before.replace(microsecond=0)
    while (near := min(before + _DAY, after)) < after and _offset(near, zone) == offset:
        before = near
    while near - before > _SECOND:
        middle = before + (near - before) // _SECOND // 2 * _SECOND
        if _offset(middle, zone) == offset:
            before = middle
        else:
            near = middle
    return near
