"""When and how much a person can take on: working hours, days away, capacity, territories and skills."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, time
from typing import Any

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.records.values import zone_names
from core.domain.workflow import calendar, public_holidays
from core.domain.workflow.calendar import Calendar
from core.domain.workflow.windows import WEEKDAYS, Window
from core.domain.workflow.zones import DEFAULT, MIDNIGHT, Zone, instant_of

MOST_CAPACITY = 100_000
LONGEST_NAME = 63
"""Of a territory or a skill, in characters."""

_WHOLE_DAY = (Window(MIDNIGHT, MIDNIGHT),)


@frozen
class Hours:
    """Working hours of one day of the week, as they were written."""

    day: str
    start: str
    end: str


@frozen
class Absence:
    """Time out of office."""

    start: datetime
    end: datetime
    """The first instant back."""
    reason: str = ""


@frozen
class Availability:
    """When and how much a person can take on; as it is, always and without limit."""

    hours: tuple[Hours, ...] = ()
    absences: tuple[Absence, ...] = ()
    timezone: str = ""
    """IANA name; empty for the organization's."""
    daily_capacity: int = 0
    """Most leads a day; 0 for no limit."""
    open_capacity: int = 0
    """Most leads that are open at once; 0 for no limit."""
    territories: tuple[str, ...] = ()
    skills: tuple[str, ...] = ()
    calendar: str = ""
    """Whose public holidays the person keeps, such as `DE-BY`."""

    def zone(self, organization: str) -> Zone:
        """Return the zone the person lives in."""
        name = self.timezone or organization
        return Zone(name, "organization") if name in zone_names() else DEFAULT

    def absence(self, at: datetime) -> Absence | None:
        """Return the absence that an instant falls into, the one that ends last."""
        away = [one for one in self.absences if one.start <= at < one.end]
        return max(away, key=lambda one: one.end, default=None)

    def is_working(self, at: datetime, zone: Zone) -> bool:
        """Tell whether an instant is in the person's working hours."""
        opening = self._opening()
        return opening is None or calendar.is_open(opening, at, zone)

    def day_began(self, at: datetime, zone: Zone) -> datetime:
        """Return when the person's day began in which an instant lies."""
        return instant_of(zone.local(at).date(), MIDNIGHT, zone)

    def _opening(self) -> Calendar | None:
        if not self.hours and not self.calendar:
            return None
        holidays = (self.calendar,) if self.calendar else ()
        if not self.hours:
            return Calendar((_WHOLE_DAY,) * 7, holidays)
        by_day = tuple(
            tuple(Window(_clock(one.start), _clock(one.end)) for one in self.hours if one.day == day)
            for day in WEEKDAYS
        )
        return Calendar(by_day, holidays)


def _clock(text: str) -> time:
    return time.fromisoformat(text)


def problems(given: Availability, at: str = "availability") -> list[Violation]:
    """Return everything that is wrong with an availability; `at` is where it stands."""
    found = [one for index, hours in enumerate(given.hours) for one in _of_hours(hours, f"{at}.working_hours[{index}]")]
    for index, absence in enumerate(given.absences):
        if absence.end <= absence.start:
            hint = "Send the first instant back, later than start_time."
            found.append(Violation(f"{at}.absences[{index}].end_time", "NOT_LATER", "is not after start_time", hint))
    if given.timezone and given.timezone not in zone_names():
        hint = did_you_mean(given.timezone, zone_names()) or "Send an IANA name, such as Europe/Berlin."
        found.append(Violation(f"{at}.timezone", "UNKNOWN_TIMEZONE", f"there is no zone {given.timezone[:64]}", hint))
    for name, most in (("daily_capacity", given.daily_capacity), ("open_capacity", given.open_capacity)):
        if not 0 <= most <= MOST_CAPACITY:
            hint = f"Send a number from 0 to {MOST_CAPACITY:,}; 0 is no limit."
            found.append(Violation(f"{at}.{name}", "OUT_OF_RANGE", f"is {most}", hint))
    if given.calendar and (complaint := public_holidays.complaint(given.calendar)):
        found.append(Violation(f"{at}.calendar", "UNKNOWN_PLACE", *complaint))
    for name, words in (("territories", given.territories), ("skills", given.skills)):
        found += _of_words(words, f"{at}.{name}")
    return found


def _of_hours(hours: Hours, at: str) -> list[Violation]:
    found = []
    if hours.day not in WEEKDAYS:
        hint = did_you_mean(hours.day, WEEKDAYS) or f"Use {', '.join(WEEKDAYS)}."
        found.append(Violation(f"{at}.day", "UNKNOWN_WEEKDAY", f"there is no weekday {hours.day[:9]}", hint))
    times = {}
    for name, text in (("start", hours.start), ("end", hours.end)):
        try:
            if len(text) != 5:
                raise ValueError
            times[name] = _clock(text)
        except ValueError:
            hint = "Write hours and minutes, such as 09:00."
            found.append(Violation(f"{at}.{name}", "NOT_A_TIME", f"`{text[:5]}` is not a time of day", hint))
    if len(times) == 2 and times["end"] <= times["start"]:
        found.append(Violation(f"{at}.end", "NOT_LATER", "is not later than start", "Split a night over two days."))
    return found


def _of_words(words: tuple[str, ...], at: str) -> list[Violation]:
    found = []
    for index, word in enumerate(words):
        if not word.strip() or len(word) > LONGEST_NAME:
            message = f"must have 1 to {LONGEST_NAME} characters"
            found.append(Violation(f"{at}[{index}]", "BAD_NAME", message, "Write it as routing rules name it."))
        elif word in words[:index]:
            found.append(Violation(f"{at}[{index}]", "DUPLICATE", f"{word} is in the list already", "Name it once."))
    return found


def to_json(given: Availability) -> dict[str, Any]:
    """Return an availability as it is stored."""
    return {
        "hours": [[one.day, one.start, one.end] for one in given.hours],
        "absences": [[one.start.isoformat(), one.end.isoformat(), one.reason] for one in given.absences],
        "timezone": given.timezone,
        "daily_capacity": given.daily_capacity,
        "open_capacity": given.open_capacity,
        "territories": list(given.territories),
        "skills": list(given.skills),
        "calendar": given.calendar,
    }


def from_json(stored: Mapping[str, Any]) -> Availability:
    """Return a stored availability."""
    return Availability(
        hours=tuple(Hours(*one) for one in stored["hours"]),
        absences=tuple(
            Absence(datetime.fromisoformat(start), datetime.fromisoformat(end), reason)
            for start, end, reason in stored["absences"]
        ),
        timezone=stored["timezone"],
        daily_capacity=stored["daily_capacity"],
        open_capacity=stored["open_capacity"],
        territories=tuple(stored["territories"]),
        skills=tuple(stored["skills"]),
        calendar=stored["calendar"],
    )
