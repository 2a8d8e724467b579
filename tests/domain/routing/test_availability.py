"""Availability: who is there when, what a day is, and what is wrong with what was sent."""

from __future__ import annotations

from datetime import UTC, datetime

from core.domain.routing import availability
from core.domain.routing.availability import Absence, Availability, Hours, problems

WEEK = Availability(
    hours=(Hours("monday", "09:00", "12:00"), Hours("monday", "13:00", "17:00"), Hours("sunday", "01:00", "06:00")),
    timezone="Europe/Berlin",
    calendar="DE",
)


def berlin(day: int, hour: int, minute: int = 0, month: int = 3) -> datetime:
    """Return an instant by a clock there, an hour ahead of UTC until 29 March."""
    return datetime(2026, month, day, hour - 1, minute, tzinfo=UTC)


def test_working_hours_are_those_of_the_person_s_own_zone() -> None:
    zone = WEEK.zone("America/New_York")
    assert zone.name == "Europe/Berlin"
    times = [(2, 8, 59), (2, 9, 0), (2, 12, 30), (2, 16, 59), (2, 17, 0), (3, 10, 0)]
    assert [WEEK.is_working(berlin(*at), zone) for at in times] == [False, True, False, True, False, False]


def test_nobody_works_on_a_holiday_and_the_hour_that_is_skipped_is_none() -> None:
    zone = WEEK.zone("")
    assert not WEEK.is_working(datetime(2026, 4, 6, 8, 0, tzinfo=UTC), zone)  # Easter Monday
    # On 29 March the clock goes from 02:00 to 03:00: from 01:00 to 06:00 are four hours.
    morning = [datetime(2026, 3, 29, hour, 30, tzinfo=UTC) for hour in range(6)]
    assert [at.hour for at in morning if WEEK.is_working(at, zone)] == [0, 1, 2, 3]


def test_a_day_begins_at_the_person_s_midnight() -> None:
    zone = WEEK.zone("")
    assert WEEK.day_began(datetime(2026, 3, 29, 12, 0, tzinfo=UTC), zone) == datetime(2026, 3, 28, 23, 0, tzinfo=UTC)
    assert WEEK.day_began(datetime(2026, 3, 30, 12, 0, tzinfo=UTC), zone) == datetime(2026, 3, 29, 22, 0, tzinfo=UTC)


def test_of_absences_that_overlap_the_longer_one_counts() -> None:
    short, long = (Absence(berlin(2, 8), berlin(day, 8), f"until {day}") for day in (3, 9))
    away = Availability(absences=(long, short))
    assert away.absence(berlin(2, 9)) == long
    assert away.absence(berlin(9, 8)) is None


def test_without_a_word_a_person_is_always_there() -> None:
    assert Availability().is_working(berlin(1, 3), Availability().zone("Nowhere/At_All"))
    assert Availability().zone("Nowhere/At_All").name == "UTC"
    assert not Availability(calendar="DE").is_working(datetime(2026, 12, 25, 12, tzinfo=UTC), Availability().zone(""))


def test_everything_that_is_wrong_is_told_at_once() -> None:
    bad = Availability(
        hours=(Hours("mondy", "9:00", "25:00"), Hours("friday", "12:00", "12:00")),
        absences=(Absence(berlin(3, 8), berlin(3, 8)),),
        timezone="Europe/Berln",
        daily_capacity=-1,
        open_capacity=200_000,
        territories=("", "x" * 64),
        skills=("german", "german"),
        calendar="XX",
    )
    assert [(one.field.removeprefix("availability."), one.reason) for one in problems(bad)] == [
        ("working_hours[0].day", "UNKNOWN_WEEKDAY"),
        ("working_hours[0].start", "NOT_A_TIME"),
        ("working_hours[0].end", "NOT_A_TIME"),
        ("working_hours[1].end", "NOT_LATER"),
        ("absences[0].end_time", "NOT_LATER"),
        ("timezone", "UNKNOWN_TIMEZONE"),
        ("daily_capacity", "OUT_OF_RANGE"),
        ("open_capacity", "OUT_OF_RANGE"),
        ("calendar", "UNKNOWN_PLACE"),
        ("territories[0]", "BAD_NAME"),
        ("territories[1]", "BAD_NAME"),
        ("skills[1]", "DUPLICATE"),
    ]
    assert problems(WEEK) == []


def test_what_is_stored_is_read_back() -> None:
    whole = Availability(
        (Hours("monday", "09:00", "17:00"),), (Absence(berlin(2, 8), berlin(3, 8), "away"),), "UTC", 3, 5
    )
    assert availability.from_json(availability.to_json(whole)) == whole
