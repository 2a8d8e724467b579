"""Time zones: which one counts, and what a local time means in it.

A local time that a zone skips means the first instant after the gap; one that comes twice means its first time. Both
are the same rule: the earliest instant at which a clock on the wall shows that time or a later one.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from core.domain.frozen import frozen
from core.domain.records.values import zone_names

ZoneSource = Literal["contact", "workflow", "organization", "default", "calendar"]

MIDNIGHT = time()
_DAY = timedelta(days=1)
_SECOND = timedelta(seconds=1)


@frozen
class Zone:
    """A time zone, and who said that it counts."""

    name: str
    """IANA name."""
    source: ZoneSource = "default"

    @property
    def spoken(self) -> str:
        """Return it as it stands in a sentence, with why it is this one."""
        return (
            f"{self.name}, as no zone is set" if self.source == "default" else f"{self.name}, the {self.source}'s zone"
        )

    @property
    def rules(self) -> ZoneInfo:
        """Return its offsets."""
        return ZoneInfo(self.name)

    def local(self, instant: datetime) -> datetime:
        """Return an instant as the clock on the wall shows it there."""
        return instant.astimezone(self.rules)


DEFAULT = Zone("UTC")


@lru_cache(maxsize=1024)
def zone_of(contact: str | None, workflow: str | None, organization: str | None) -> Zone:
    """Return the first of the three that is the name of a zone; UTC when none is."""
    named: tuple[tuple[str | None, ZoneSource], ...] = (
        (contact, "contact"),
        (workflow, "workflow"),
        (organization, "organization"),
    )
    return next((Zone(name, source) for name, source in named if name and name in zone_names()), DEFAULT)


def instant_of(day: date, at: time, zone: Zone) -> datetime:
    """Return the instant in UTC at which it is `at` o'clock there on that day.

    A time in a gap gives the first instant after the gap, one that comes twice its first time.
    """
    shown, rules = datetime.combine(day, at), zone.rules
    instant = shown.replace(tzinfo=rules).astimezone(UTC)
    if instant.astimezone(rules).replace(tzinfo=None) == shown:
        return instant
    # Skipped: read with the offset before the gap it lies after the gap's end, with the offset after it lies before.
    before = shown.replace(tzinfo=rules, fold=1).astimezone(UTC).replace(microsecond=0) - _SECOND
    after = instant.replace(microsecond=0) + _SECOND
    while after - before > _SECOND:  # zones change on whole seconds
        middle = before + (after - before) // _SECOND // 2 * _SECOND
        if middle.astimezone(rules).replace(tzinfo=None) >= shown:
            after = middle
        else:
            before = middle
    return after


def next_local(after: datetime, at: time | None, weekdays: frozenset[int] | None, zone: Zone) -> datetime:
    """Return the first instant, `after` itself included, at which it is `at` o'clock there on one of the weekdays.

    Without `at` any time of such a day will do, so that a day that fits gives `after` itself and a later one its first
    moment. None for the weekdays means every day; 0 is Monday. Where `after` itself must not count, ask for the first
    instant after it: `after + datetime.resolution`.
    """
    if weekdays is not None and not weekdays:
        raise ValueError("there is no day of the week without days")
    day = zone.local(after).date()
    for ahead in range(-1, 9):  # from yesterday, whose time may lie in a gap that ends today
        found = _on(day + ahead * _DAY, after, at, weekdays, zone)
        if found is not None:
            return found
    raise AssertionError("every weekday comes within eight days")


def _on(day: date, after: datetime, at: time | None, weekdays: frozenset[int] | None, zone: Zone) -> datetime | None:
    """Return the first instant of a day that will do and is not before `after`."""
    if weekdays is not None and day.weekday() not in weekdays:
        return None
    found = instant_of(day, at or MIDNIGHT, zone)
    if found >= after:
        return found
    return after if at is None and zone.local(after).date() == day else None
