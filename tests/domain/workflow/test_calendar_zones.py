"""Which zone counts, and what a local time means where clocks are changed."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from core.domain.workflow.zones import Zone, instant_of, next_local, zone_of

BERLIN = Zone("Europe/Berlin", "contact")
ODD = [
    "UTC",
    "Europe/Berlin",
    "Europe/Dublin",  # its winter is the exception
    "America/New_York",
    "America/Santiago",  # changes at midnight
    "America/Havana",
    "Asia/Beirut",
    "Australia/Lord_Howe",  # changes by half an hour
    "Africa/Casablanca",  # changes for Ramadan
    "Pacific/Apia",  # skipped 30 December 2011
    "Pacific/Kiritimati",
    "Asia/Kathmandu",
    "Asia/Pyongyang",
    "Antarctica/Troll",  # changes by two hours
    "America/Caracas",
]
ZONES = st.sampled_from(ODD).map(lambda name: Zone(name, "contact"))
DAYS = st.dates(date(2000, 1, 1), date(2037, 12, 31))
TIMES = st.times().map(lambda one: one.replace(fold=0))
INSTANTS = st.timedeltas(timedelta(), timedelta(days=37 * 365)).map(lambda one: datetime(2000, 1, 2, tzinfo=UTC) + one)
WEEKDAYS = st.none() | st.frozensets(st.integers(0, 6), min_size=1)
MOMENT = datetime.resolution


@pytest.mark.parametrize(
    ("names", "name", "source", "spoken"),
    [
        (("Europe/Berlin", "Asia/Tokyo", "UTC"), "Europe/Berlin", "contact", "Europe/Berlin, the contact's zone"),
        (("", "Asia/Tokyo", "UTC"), "Asia/Tokyo", "workflow", "Asia/Tokyo, the workflow's zone"),
        (("Berlin", "", "Asia/Tokyo"), "Asia/Tokyo", "organization", "Asia/Tokyo, the organization's zone"),
        ((None, None, None), "UTC", "default", "UTC, as no zone is set"),
        (("../etc/passwd", "Europe", "no\0ne"), "UTC", "default", "UTC, as no zone is set"),
    ],
)
def test_the_first_zone_there_is_counts(names: tuple[str, str, str], name: str, source: str, spoken: str) -> None:
    zone = zone_of(*names)
    assert (zone.name, zone.source, zone.spoken) == (name, source, spoken)


@pytest.mark.parametrize(
    ("zone", "local", "instant"),
    [
        ("Europe/Berlin", "2026-03-02T09:00", "2026-03-02T08:00"),
        ("Europe/Berlin", "2026-03-29T02:30", "2026-03-29T01:00"),  # skipped: 03:00
        ("Europe/Berlin", "2026-10-25T02:30", "2026-10-25T00:30"),  # twice: the first
        ("Australia/Lord_Howe", "2026-10-04T02:15", "2026-10-03T15:30"),  # skipped: 02:30
        ("Australia/Lord_Howe", "2026-04-05T01:45", "2026-04-04T14:45"),  # twice: the first
        ("America/Santiago", "2026-09-06T00:00", "2026-09-06T04:00"),  # the day begins at 01:00
        ("Pacific/Apia", "2011-12-30T09:00", "2011-12-30T10:00"),  # skipped: 31 December, 00:00
        ("Africa/Casablanca", "2026-03-22T02:30", "2026-03-22T02:00"),  # skipped after Ramadan: 03:00
    ],
)
def test_a_local_time_is_an_instant(zone: str, local: str, instant: str) -> None:
    shown = datetime.fromisoformat(local)
    assert instant_of(shown.date(), shown.time(), Zone(zone)) == datetime.fromisoformat(instant).replace(tzinfo=UTC)


@given(ZONES, DAYS, TIMES)
@example(Zone("Pacific/Apia"), date(2011, 12, 30), time(23, 59))
@example(Zone("Africa/Casablanca"), date(2026, 2, 15), time(2, 30))
def test_a_local_time_is_the_earliest_instant_at_which_the_clock_shows_it_or_a_later_one(
    zone: Zone, day: date, at: time
) -> None:
    found = instant_of(day, at, zone)
    shown = datetime.combine(day, at)
    assert zone.local(found).replace(tzinfo=None) >= shown
    for before in (MOMENT, timedelta(minutes=29), timedelta(hours=1), timedelta(hours=2), timedelta(hours=25)):
        assert zone.local(found - before).replace(tzinfo=None) < shown


@given(ZONES, DAYS, TIMES, DAYS, TIMES)
def test_a_later_local_time_is_no_earlier_instant(zone: Zone, day: date, at: time, other: date, then: time) -> None:
    (day, at), (other, then) = sorted([(day, at), (other, then)])
    assert instant_of(day, at, zone) <= instant_of(other, then, zone)


@pytest.mark.parametrize(
    ("after", "at", "weekdays", "expected"),
    [
        ("2026-03-02T07:00", "09:00", None, "2026-03-02T08:00"),
        ("2026-03-02T08:00", "09:00", None, "2026-03-02T08:00"),
        ("2026-03-02T08:00:00.000001", "09:00", None, "2026-03-03T08:00"),
        ("2026-03-02T08:00", "09:00", {1}, "2026-03-03T08:00"),
        ("2026-03-02T09:00", "09:00", {0}, "2026-03-09T08:00"),
        ("2026-03-02T09:00", None, {0}, "2026-03-02T09:00"),
        ("2026-03-02T09:00", None, {2, 5}, "2026-03-03T23:00"),
        ("2026-03-02T09:00", None, None, "2026-03-02T09:00"),
        ("2026-03-28T12:00", "02:30", {6}, "2026-03-29T01:00"),
        ("2026-10-25T00:45", "02:30", None, "2026-10-26T01:30"),  # the second 02:30 of that day does not count
    ],
)
def test_the_next_local_time_is_found(after: str, at: str | None, weekdays: set[int] | None, expected: str) -> None:
    found = next_local(
        datetime.fromisoformat(after).replace(tzinfo=UTC),
        time.fromisoformat(at) if at else None,
        frozenset(weekdays) if weekdays else None,
        BERLIN,
    )
    assert found == datetime.fromisoformat(expected).replace(tzinfo=UTC)


@given(INSTANTS, st.none() | TIMES, WEEKDAYS, ZONES)
def test_the_next_local_time_is_not_before_and_shows_what_was_asked_for(
    after: datetime, at: time | None, weekdays: frozenset[int] | None, zone: Zone
) -> None:
    found = next_local(after, at, weekdays, zone)
    local = zone.local(found).replace(tzinfo=None)
    assert after <= found <= after + timedelta(days=9)
    in_gap = zone.local(found - MOMENT).utcoffset() != zone.local(found).utcoffset()
    assert in_gap or at is None or local.time() == at
    assert in_gap or weekdays is None or local.weekday() in weekdays
    assert next_local(found, at, weekdays, zone) == found


@given(INSTANTS, st.timedeltas(timedelta(), timedelta(days=10)), st.none() | TIMES, WEEKDAYS, ZONES)
def test_whoever_asks_later_is_not_answered_earlier(
    after: datetime, later: timedelta, at: time | None, weekdays: frozenset[int] | None, zone: Zone
) -> None:
    assert next_local(after, at, weekdays, zone) <= next_local(after + later, at, weekdays, zone)


def test_no_day_of_the_week_is_refused() -> None:
    with pytest.raises(ValueError, match="without days"):
        next_local(datetime(2026, 3, 2, tzinfo=UTC), None, frozenset(), BERLIN)
