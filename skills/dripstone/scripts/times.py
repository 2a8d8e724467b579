#!/usr/bin/env python3
"""Show when a cron schedule comes round, or when quiet hours let a message out, in the local time of a zone.

    times.py --cron "0 9 * * mon" --zone Europe/Berlin --count 5
    times.py --quiet 20:00-08:00 --zone Europe/Berlin --from 2026-03-28T21:30:00Z

Prints JSON: each time in the zone and in UTC. A local time that the clocks skip in spring is the first one after the
gap; one that comes twice in autumn is the first. A schedule for every hour goes by what the clock on the wall shows.
Exit code 0; 2 with {"error": …} when something is not understood.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from datetime import date, datetime, time, timedelta, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

UTC = timezone.utc  # noqa: UP017 -- Python 3.10 is enough
NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
FIELDS = ("minute", "hour", "day of month", "month", "day of week")
MOST_YEARS = 9


class NotUnderstood(ValueError):
    """What was given is not understood; the text says what."""


class Schedule:
    """Cron's five fields: numbers, names, lists, ranges and steps."""

    def __init__(self, text: str):
        parts = NICKNAMES.get(text.strip().lower(), text).split()
        if len(parts) != len(FIELDS):
            raise NotUnderstood(f"{text!r} has {len(parts)} fields; a schedule has five: {', '.join(FIELDS)}")
        self.every_hour = parts[1] in ("*", "*/1")
        self.minutes, self.hours, self.days, self.months, weekdays = (
            _numbers(part, place) for place, part in enumerate(parts)
        )
        self.weekdays = {day % 7 for day in weekdays}
        # Where both are limited, either is enough, as cron has it.
        self.either = not parts[2].startswith("*") and not parts[4].startswith("*")

    def on(self, day: date) -> bool:
        """Tell whether it comes round on a day."""
        in_month, in_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        fits = (in_month or in_week) if self.either else (in_month and in_week)
        return day.month in self.months and fits

    def times(self) -> list[time]:
        """Return its times of day, in order."""
        return [time(hour, minute) for hour in sorted(self.hours) for minute in sorted(self.minutes)]


def _numbers(text: str, place: int) -> set[int]:
    low, high = BOUNDS[place]
    found: set[int] = set()
    for part in text.lower().split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        if span == "*":
            start, end = low, high
        else:
            start = _number(first, place, text)
            end = _number(last, place, text) if dash else (high if slash else start)
        by = int(step) if step.isdigit() else (1 if not slash else 0)
        if not (low <= start <= end <= high and by):
            raise NotUnderstood(f"{text!r} is no {FIELDS[place]}")
        found |= set(range(start, end + 1, by))
    return found


def _number(text: str, place: int, whole: str) -> int:
    names = {3: {name: number for number, name in enumerate(MONTHS, 1)}, 4: {n: i for i, n in enumerate(DAYS)}}
    number = names.get(place, {}).get(text[:3]) if text.isalpha() else None
    if number is None and not text.isdigit():
        raise NotUnderstood(f"{whole!r} is no {FIELDS[place]}")
    return int(text) if number is None else number


def instant_of(day: date, at: time, zone: ZoneInfo) -> datetime:
    """Return the instant of a local time: the first after a gap, the first of two."""
    local = datetime.combine(day, at, zone)
    back = local.astimezone(UTC).astimezone(zone)
    if back.replace(tzinfo=None) == local.replace(tzinfo=None):
        return local.astimezone(UTC)
    # In a gap the first valid instant is where the offset changes; it lies between the two readings of the time.
    early, late = sorted(local.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    before = early.astimezone(zone).utcoffset()
    while late - early > timedelta(seconds=1):
        middle = early + (late - early) // timedelta(seconds=1) // 2 * timedelta(seconds=1)
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late


def coming(schedule: Schedule, zone: ZoneInfo, start: datetime, count: int) -> list[datetime]:
    """Return the next times of a schedule after an instant, in UTC."""
    found: list[datetime] = []
    times = schedule.times()
    day = start.astimezone(zone).date()
    last = day
    while len(found) < count and (day - last).days < 366 * MOST_YEARS:
        if schedule.on(day):
            instants = _on_the_wall(day, times, zone) if schedule.every_hour else _named(day, times, zone)
            found += [one for one in instants if one > start and one not in found[-1:]]
            last = day
        day += timedelta(days=1)
    if not found:
        raise NotUnderstood("the schedule names a day that never comes")
    return found[:count]


def _named(day: date, times: list[time], zone: ZoneInfo) -> list[datetime]:
    return sorted({instant_of(day, at, zone) for at in times})


def _on_the_wall(day: date, times: list[time], zone: ZoneInfo) -> list[datetime]:
    """Return every instant of a day at which the clock shows one of the times; in an hour that comes twice, both."""
    both = (datetime.combine(day, at, zone).replace(fold=fold) for at in times for fold in (0, 1))
    return sorted(
        {
            one.astimezone(UTC)
            for one in both
            if one.astimezone(UTC).astimezone(zone).replace(tzinfo=None) == one.replace(tzinfo=None)
        }
    )


def let_out(quiet: str, zone: ZoneInfo, at: datetime) -> datetime:
    """Return when a message that is due at an instant goes out: then, or when the quiet hours end."""
    parts = re.fullmatch(r"(\d\d?):(\d\d)-(\d\d?):(\d\d)", quiet)
    try:
        if parts is None:
            raise ValueError
        start, end = time(int(parts[1]), int(parts[2])), time(int(parts[3]), int(parts[4]))
    except ValueError:
        raise NotUnderstood(f"{quiet!r} is not like 20:00-08:00") from None
    today = at.astimezone(zone).date()
    for day in (today - timedelta(days=1), today):
        over = day if end > start else day + timedelta(days=1)
        begins, ends = instant_of(day, start, zone), instant_of(over, end, zone)
        if begins <= at < ends:
            return ends
    return at


def shown(instant: datetime, zone: ZoneInfo) -> dict[str, str]:
    """Return an instant as both clocks show it."""
    local = instant.astimezone(zone)
    return {
        "local": local.isoformat(timespec="minutes"),
        "weekday": local.strftime("%A"),
        "utc": instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def answer(given: argparse.Namespace) -> dict[str, object]:
    """Return what the command line asks for."""
    try:
        zone = ZoneInfo(given.zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise NotUnderstood(f"{given.zone!r} is no zone; write an IANA name such as Europe/Berlin") from None
    try:
        start = datetime.fromisoformat(given.start.replace("Z", "+00:00")) if given.start else datetime.now(UTC)  # noqa: TID251 -- runs at the user's
    except ValueError:
        raise NotUnderstood(f"{given.start!r} is not ISO 8601, such as 2026-03-02T09:00:00Z") from None
    start = start.replace(tzinfo=start.tzinfo or zone)
    told: dict[str, object] = {"zone": given.zone, "from": shown(start, zone)}
    if given.quiet:
        out = let_out(given.quiet, zone, start)
        told |= {"held": out > start, "goes_out": shown(out, zone)}
    else:
        told["times"] = [shown(one, zone) for one in coming(Schedule(given.cron), zone, start, given.count)]
    return told


def main() -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--cron", help="minute, hour, day of month, month, day of week")
    what.add_argument("--quiet", help="local quiet hours, such as 20:00-08:00")
    parser.add_argument("--zone", default="UTC", help="IANA zone (default UTC)")
    parser.add_argument("--from", dest="start", default="", help="ISO 8601; a time without zone is local (default now)")
    parser.add_argument("--count", type=int, choices=range(1, 101), default=5, metavar="1-100", help="how many times")
    try:
        print(json.dumps(answer(parser.parse_args()), indent=2))
    except NotUnderstood as error:
        print(json.dumps({"error": str(error)}))
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
