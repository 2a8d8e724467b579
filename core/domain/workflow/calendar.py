"""Business calendars: on which days and in which hours somebody is there, and how waits count in them.

A day counts with the local times of the calendar's own zone, or of the contact's where it has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.workflow import public_holidays
from core.domain.workflow import time_notation as notation
from core.domain.workflow.durations import LONGEST
from core.domain.workflow.findings import Findings
from core.domain.workflow.windows import DAY, EVERY_DAY, WEEKDAYS, WORKING_DAYS, Window, days_from
from core.domain.workflow.zones import DEFAULT, MIDNIGHT, instant_of, next_local
from core.domain.workflow.zones import Zone as Zone  # what has calendars has zones
from core.domain.workflow.zones import zone_of as zone_of

HINT = "Write {days: [monday, friday], hours: 09:00-17:00, holidays: DE-BY}."
KEYS = ("days", "hours", "holidays", "closed", "open", "timezone")
MOST_DATES = 1_000
MOST_PLACES = 10

_WHOLE_DAY = (Window(MIDNIGHT, MIDNIGHT),)
_PROBE = datetime(2026, 1, 1, tzinfo=UTC)
"""Any instant will do to find out whether a calendar ever opens."""
_HORIZON = LONGEST.days + 40
"""Days that are looked at; nothing waits longer than ten years."""
_MOST_SLOTS = 1_000
"""Candidates that are tried for a time that fits everything."""


class NeverOpen(ValueError):
    """A calendar is closed for ten years on end."""


@frozen
class Calendar:
    """When somebody is there."""

    hours: tuple[tuple[Window, ...], ...]
    """The openings by weekday, seven of them, Monday first; none where it is closed."""
    holidays: tuple[str, ...] = ()
    """Places whose public holidays it keeps, such as `DE-BY`."""
    closed: frozenset[date] = frozenset()
    """Further days on which it is closed."""
    open: frozenset[date] = frozenset()
    """Days on which it is open all the same."""
    usual: tuple[Window, ...] = ()
    """The openings of such a day when its weekday has none."""
    timezone: str = ""
    """IANA zone of its hours; empty for the zone of whoever waits."""

    def openings(self, day: date) -> tuple[Window, ...]:
        """Return the openings that begin on a day."""
        windows = self.hours[day.weekday()]
        if day in self.open:
            return windows or self.usual
        closed = day in self.closed or (windows and any(public_holidays.falls(place, day) for place in self.holidays))
        return () if closed else windows

    def may_open(self, weekday: int, at: time | None) -> bool:
        """Tell whether it is ever open on a weekday, at that time; with exceptions or a zone of its own, it may be."""
        tonight = (at is None or (one.start <= at and (one.overnight or at < one.end)) for one in self.hours[weekday])
        last_night = (one.overnight and one.end > (at or MIDNIGHT) for one in self.hours[weekday - 1])
        return bool(self.open or self.timezone) or any(tonight) or any(last_night)

    def zone(self, asking: Zone) -> Zone:
        """Return the zone of its hours."""
        return Zone(self.timezone, "calendar") if self.timezone else asking


def next_open(calendar: Calendar, instant: datetime, zone: Zone) -> datetime:
    """Return the first instant, this one included, at which a calendar is open.

    Raises NeverOpen when there is none for ten years.
    """
    here = calendar.zone(zone)
    for start, end in _spans(calendar, here.local(instant).date() - DAY, here):
        if end > instant:
            return max(start, instant)
    raise NeverOpen


def is_open(calendar: Calendar, instant: datetime, zone: Zone) -> bool:
    """Tell whether a calendar is open at an instant."""
    here = calendar.zone(zone)
    yesterday = here.local(instant).date() - DAY
    return any(start <= instant < end for start, end in _spans(calendar, yesterday, here, 2))


def _spans(calendar: Calendar, day: date, zone: Zone, count: int = _HORIZON) -> Iterator[tuple[datetime, datetime]]:
    """Return the openings from a day on, in order; those of the night before begin on the day before."""
    for one in days_from(day, count):
        for window in calendar.openings(one):
            start, end = window.on(one, zone)
            if start < end:
                yield start, end


def add_open(calendar: Calendar, instant: datetime, length: timedelta, zone: Zone) -> datetime | None:
    """Return when a length of time is over that only passes while a calendar is open; None when it takes ten years.

    Whole days are open days: two of them lead from Friday 15:00 to Tuesday 15:00, or to the next opening where it is
    closed then. What is left counts by the hour, and may end at the very moment of closing. Counting begins when the
    calendar is open.
    """
    try:
        start = next_open(calendar, instant, zone)
        days, rest = divmod(length, DAY)
        if days:
            start = _open_days_later(calendar, start, days, zone)
        return _open_time_later(calendar, start, rest, zone) if rest else start
    except NeverOpen:
        return None


def _open_days_later(calendar: Calendar, start: datetime, days: int, zone: Zone) -> datetime:
    here = calendar.zone(zone)
    shown = here.local(start).replace(tzinfo=None)
    first = shown.date()
    if any(begin <= start < end for begin, end in _spans(calendar, first - DAY, here, 1)):
        first -= DAY  # a night belongs to the day on which it began
    left = days
    for day in days_from(first + DAY, _HORIZON):
        left -= bool(calendar.openings(day))
        if not left:
            later = shown + (day - first)
            return next_open(calendar, instant_of(later.date(), later.time(), here), zone)
    raise NeverOpen


def _open_time_later(calendar: Calendar, start: datetime, length: timedelta, zone: Zone) -> datetime:
    here = calendar.zone(zone)
    passed = start
    for begin, end in _spans(calendar, here.local(start).date() - DAY, here):
        begin = max(begin, passed)
        if end - begin >= length:
            return begin + length
        if end > begin:
            length -= end - begin
            passed = end
    raise NeverOpen


def next_slot(
    instant: datetime, at: time | None, weekdays: frozenset[int] | None, calendar: Calendar | None, zone: Zone
) -> datetime | None:
    """Return the first instant, this one included, that fits all: local time, weekday, an open calendar.

    None when nothing fits in the foreseeable future.
    """
    found = next_local(instant, at, weekdays, zone) if at is not None or weekdays is not None else instant
    if calendar is None:
        return found
    for _ in range(_MOST_SLOTS):
        try:
            opened = next_open(calendar, found, zone)
        except NeverOpen:
            return None
        if opened == found:
            return found
        found = next_local(opened, at, weekdays, zone) if at is not None or weekdays is not None else opened
        if found == opened:
            return found
    return None


def calendar_schema() -> dict[str, Any]:
    """Return the JSON Schema of a calendar in a document."""
    openings = notation.openings_schema()
    by_day = {
        "type": "object",
        "properties": {day: {**openings, "description": f"When it is open on {day.title()}s."} for day in WEEKDAYS},
        "minProperties": 1,
        "additionalProperties": False,
    }
    place = {"type": "string", "minLength": 2, "maxLength": 40, "examples": ["DE", "US-CA"]}
    places = {"anyOf": [place, {"type": "array", "minItems": 1, "maxItems": MOST_PLACES, "items": place}]}
    properties = {
        "days": ("Days on which it is open; Monday to Friday when nothing is said.", notation.weekdays_schema()),
        "hours": ("When it is open on these days, or by weekday.", {"anyOf": [*openings["anyOf"], by_day]}),
        "holidays": ("Countries, or parts of countries, whose public holidays it keeps.", places),
        "closed": ("Further dates on which it is closed.", notation.dates_schema(MOST_DATES)),
        "open": ("Dates on which it is open all the same.", notation.dates_schema(MOST_DATES)),
        "timezone": ("IANA zone of its hours; the contact's when nothing is said.", {"type": "string"}),
    }
    return {
        "type": "object",
        "properties": {key: {"description": says, **schema} for key, (says, schema) in properties.items()},
        "additionalProperties": False,
    }


def read_calendar(raw: Any, findings: Findings, path: str) -> Calendar | None:
    """Return the calendar that a document describes; None when something is wrong, which the findings then hold."""
    if not isinstance(raw, Mapping):
        notation.wrong_type(raw, "a calendar", HINT, findings, path)
        return None
    before = len(findings.problems)
    notation.unknown_keys(raw, KEYS, "a calendar", findings, path)
    given = {key: raw[key] for key in KEYS if raw.get(key) is not None}
    hours, usual = _read_hours(given, findings, path)
    holidays: tuple[str, ...] = ()
    if "holidays" in given:
        hint = public_holidays.EXAMPLE
        holidays = notation.read_list(
            given["holidays"], MOST_PLACES, _read_place, "places", hint, findings, f"{path}.holidays"
        )
    closed, opened = (notation.read_dates(given.get(key, []), MOST_DATES, findings, f"{path}.{key}") for key in _DATES)
    for day in sorted(closed & opened):
        findings.add(f"{path}.open", "CONFLICT", f"{day} is both closed and open", "Keep it in one of the lists.")
    zone = notation.read_zone(given["timezone"], findings, f"{path}.timezone") if "timezone" in given else ""
    calendar = Calendar(hours, holidays, closed, opened, usual, zone)
    if len(findings.problems) == before and not _ever_opens(calendar):
        findings.add(path, "NEVER_OPEN", "this calendar is never open", HINT)
    return calendar if len(findings.problems) == before else None


_DATES = ("closed", "open")


def _read_hours(
    given: Mapping[str, Any], findings: Findings, path: str
) -> tuple[tuple[tuple[Window, ...], ...], tuple[Window, ...]]:
    """Return the openings by weekday, and those of a day that is open by exception."""
    hours, place = given.get("hours"), f"{path}.hours"
    if not isinstance(hours, Mapping):
        days = notation.read_weekdays(given["days"], findings, f"{path}.days") if "days" in given else WORKING_DAYS
        usual = notation.read_openings(hours, findings, place) if hours is not None else _WHOLE_DAY
        return tuple(usual if day in days else () for day in sorted(EVERY_DAY)), usual
    if "days" in given:
        findings.add(f"{path}.days", "CONFLICT", "hours name the days already", "Remove days.")
    for name in hours:
        if name not in WEEKDAYS:
            hint = did_you_mean(str(name), WEEKDAYS) or f"Use {', '.join(WEEKDAYS)}."
            findings.add(f"{place}.{name}", "UNKNOWN_WEEKDAY", f"there is no weekday {str(name)[:40]}", hint)
    by_day = tuple(
        notation.read_openings(hours[name], findings, f"{place}.{name}") if hours.get(name) is not None else ()
        for name in WEEKDAYS
    )
    return by_day, next(filter(None, by_day), ())


def _read_place(raw: Any, findings: Findings, path: str) -> str:
    if not isinstance(raw, str):
        notation.wrong_type(raw, "the code of a country", public_holidays.EXAMPLE, findings, path)
        return ""
    if found := public_holidays.complaint(raw):
        findings.add(path, "UNKNOWN_PLACE", *found)
    return raw


def _ever_opens(calendar: Calendar) -> bool:
    if not any(calendar.hours):
        return False
    try:
        return next_open(calendar, _PROBE, DEFAULT) >= _PROBE
    except NeverOpen:
        return False
