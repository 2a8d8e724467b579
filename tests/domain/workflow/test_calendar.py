"""Business calendars: when they open, and how waits count in them."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.workflow.calendar import Calendar, NeverOpen, add_open, is_open, next_open, next_slot
from core.domain.workflow.public_holidays import complaint, of_year
from core.domain.workflow.windows import Window
from core.domain.workflow.zones import Zone

UTC_ZONE = Zone("UTC")
BERLIN = Zone("Europe/Berlin", "contact")
NINE_TO_FIVE = (Window(time(9), time(17)),)
WHOLE_DAY = (Window(time(), time()),)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def weekly(*openings: tuple[Window, ...], **more: object) -> Calendar:
    """Return a calendar with these openings from Monday on; no others."""
    return Calendar((*openings, *[()] * (7 - len(openings))), **more)  # type: ignore[arg-type]


OFFICE = weekly(*[NINE_TO_FIVE] * 5)
BAVARIA = weekly(
    *[NINE_TO_FIVE] * 5,
    holidays=("DE-BY",),
    closed=frozenset({date(2026, 12, 24)}),
    open=frozenset({date(2026, 12, 27), date(2026, 1, 6)}),
    usual=NINE_TO_FIVE,
)
NIGHTS = weekly(*[(Window(time(22), time(6)),)] * 5)
SPLIT = weekly(*[(Window(time(9), time(12)), Window(time(13), time(17)))] * 4, (Window(time(9), time(13)),))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("calendar", "zone", "instant", "expected"),
    [
        (OFFICE, UTC_ZONE, "2026-03-02T10:00", "2026-03-02T10:00"),
        (OFFICE, UTC_ZONE, "2026-03-02T08:59", "2026-03-02T09:00"),
        (OFFICE, UTC_ZONE, "2026-03-02T17:00", "2026-03-03T09:00"),
        (OFFICE, UTC_ZONE, "2026-03-06T18:00", "2026-03-09T09:00"),
        (OFFICE, BERLIN, "2026-03-27T17:00", "2026-03-30T07:00"),
        (BAVARIA, UTC_ZONE, "2026-12-23T18:00", "2026-12-27T09:00"),  # closed, Christmas twice, open on a Sunday
        (BAVARIA, UTC_ZONE, "2026-01-05T18:00", "2026-01-06T09:00"),  # Epiphany, open all the same
        (BAVARIA, UTC_ZONE, "2026-05-01T10:00", "2026-05-04T09:00"),
        (NIGHTS, UTC_ZONE, "2026-03-07T05:00", "2026-03-07T05:00"),  # Friday's night
        (NIGHTS, UTC_ZONE, "2026-03-07T06:00", "2026-03-09T22:00"),
        (NIGHTS, UTC_ZONE, "2026-03-09T05:00", "2026-03-09T22:00"),
        (SPLIT, UTC_ZONE, "2026-03-02T12:30", "2026-03-02T13:00"),
        (weekly(WHOLE_DAY), UTC_ZONE, "2026-03-02T23:59", "2026-03-02T23:59"),
        (weekly(*[NINE_TO_FIVE] * 5, timezone="Asia/Tokyo"), BERLIN, "2026-03-02T10:00", "2026-03-03T00:00"),
        (weekly((Window(time(2), time(3)),) * 1, *[(Window(time(2), time(3)),)] * 6), BERLIN, "2026-03-28T12:00",
         "2026-03-30T00:00"),  # the hour that the zone skips is no opening
    ],
)  # fmt: skip
def test_the_next_opening_is_found(calendar: Calendar, zone: Zone, instant: str, expected: str) -> None:
    assert next_open(calendar, at(instant), zone) == at(expected)


@pytest.mark.parametrize(
    ("calendar", "instant", "length", "expected"),
    [
        (OFFICE, "2026-03-06T15:00", 2 * DAY, "2026-03-10T15:00"),
        (OFFICE, "2026-03-07T12:00", DAY, "2026-03-10T09:00"),  # counting begins on Monday
        (OFFICE, "2026-03-06T15:00", 8 * HOUR, "2026-03-09T15:00"),
        (OFFICE, "2026-03-06T09:00", 8 * HOUR, "2026-03-06T17:00"),
        (OFFICE, "2026-03-06T15:00", DAY + 3 * HOUR, "2026-03-10T10:00"),
        (OFFICE, "2026-03-06T15:00", timedelta(minutes=30), "2026-03-06T15:30"),
        (BAVARIA, "2026-12-23T10:00", DAY, "2026-12-27T10:00"),
        (SPLIT, "2026-03-02T11:00", 2 * HOUR, "2026-03-02T14:00"),
        (SPLIT, "2026-03-05T15:00", DAY, "2026-03-09T09:00"),  # Friday is closed by then
        (NIGHTS, "2026-03-03T02:00", DAY, "2026-03-04T02:00"),  # Monday's night, then Tuesday's
        (NIGHTS, "2026-03-07T02:00", 8 * HOUR, "2026-03-10T02:00"),
    ],
)
def test_a_length_counts_only_while_it_is_open(
    calendar: Calendar, instant: str, length: timedelta, expected: str
) -> None:
    assert add_open(calendar, at(instant), length, UTC_ZONE) == at(expected)


def test_an_hour_that_comes_twice_counts_twice() -> None:
    assert add_open(weekly(*[WHOLE_DAY] * 7), at("2026-10-24T22:00"), 25 * HOUR - DAY, BERLIN) == at("2026-10-24T23:00")
    only = weekly(*[()] * 6, (Window(time(1), time(4)),))
    assert add_open(only, at("2026-10-24T12:00"), 4 * HOUR, BERLIN) == at("2026-10-25T03:00")


def test_openings_that_overlap_count_once() -> None:
    both = weekly((Window(time(9), time(12)), Window(time(10), time(14))))
    assert add_open(both, at("2026-03-02T09:00"), 5 * HOUR, UTC_ZONE) == at("2026-03-02T14:00")


def test_what_takes_ten_years_has_no_end() -> None:
    rare = weekly((Window(time(9), time(9, 1)),))
    assert add_open(rare, at("2026-03-02T09:00"), timedelta(hours=10), UTC_ZONE) is None
    assert add_open(rare, at("2026-03-02T09:00"), timedelta(days=600), UTC_ZONE) is None


def test_a_calendar_that_never_opens_does_not_loop() -> None:
    with pytest.raises(NeverOpen):
        next_open(weekly(), at("2026-03-02T09:00"), UTC_ZONE)
    assert next_slot(at("2026-03-02T09:00"), None, None, weekly(), UTC_ZONE) is None


@pytest.mark.parametrize(
    ("clock", "weekdays", "calendar", "expected"),
    [
        ("10:00", None, OFFICE, "2026-03-06T10:00"),
        ("10:00", {5, 0}, OFFICE, "2026-03-09T10:00"),
        (None, {3}, OFFICE, "2026-03-12T09:00"),
        (None, None, OFFICE, "2026-03-06T09:00"),
        ("10:00", None, None, "2026-03-06T10:00"),
        ("20:00", None, OFFICE, None),
        (None, {6}, OFFICE, None),
        ("10:00", None, weekly(*[NINE_TO_FIVE] * 5, holidays=("DE",)), "2026-03-06T10:00"),
    ],
)
def test_a_slot_suits_time_weekday_and_calendar(
    clock: str | None, weekdays: set[int] | None, calendar: Calendar | None, expected: str | None
) -> None:
    found = next_slot(
        at("2026-03-06T08:00"),
        time.fromisoformat(clock) if clock else None,
        frozenset(weekdays) if weekdays else None,
        calendar,
        UTC_ZONE,
    )
    assert found == (at(expected) if expected else None)


@pytest.mark.parametrize(
    ("calendar", "weekday", "clock", "may"),
    [
        (OFFICE, 0, None, True),
        (OFFICE, 5, None, False),
        (OFFICE, 0, "16:59", True),
        (OFFICE, 0, "17:00", False),
        (NIGHTS, 5, None, True),  # until six in the morning
        (NIGHTS, 5, "05:00", True),
        (NIGHTS, 5, "22:00", False),
        (NIGHTS, 0, "05:00", False),
        (weekly(WHOLE_DAY), 1, None, False),
        (weekly(WHOLE_DAY), 0, "23:59", True),
        (BAVARIA, 6, "03:00", True),
    ],
)
def test_a_calendar_knows_when_it_may_be_open(calendar: Calendar, weekday: int, clock: str | None, may: bool) -> None:
    assert calendar.may_open(weekday, time.fromisoformat(clock) if clock else None) is may


TIMES = st.times().map(lambda one: one.replace(second=0, microsecond=0))
DAY_OPENINGS = st.lists(st.builds(Window, TIMES, TIMES), max_size=2).map(
    lambda windows: tuple(sorted(windows, key=lambda one: one.start))
)
CALENDARS = st.builds(
    Calendar,
    st.tuples(*[DAY_OPENINGS] * 7).filter(any),
    st.sampled_from([(), ("DE-BY",), ("US-CA", "GB")]),
    st.frozensets(st.dates(date(2026, 1, 1), date(2026, 12, 31)), max_size=5),
    timezone=st.sampled_from(["", "Asia/Tokyo", "America/New_York"]),
)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "Pacific/Apia"]).map(Zone)
INSTANTS = st.timedeltas(timedelta(), timedelta(days=365)).map(lambda one: datetime(2026, 1, 1, tzinfo=UTC) + one)


@given(CALENDARS, INSTANTS, ZONES)
def test_the_next_opening_is_open_and_nothing_before_it_is(calendar: Calendar, instant: datetime, zone: Zone) -> None:
    found = next_open(calendar, instant, zone)
    assert found >= instant
    assert is_open(calendar, found, zone)
    assert found == instant or not is_open(calendar, found - datetime.resolution, zone)
    assert found == instant or not is_open(calendar, instant + (found - instant) / 2, zone)


@given(CALENDARS, INSTANTS, st.timedeltas(timedelta(), timedelta(days=20)), ZONES)
def test_who_comes_later_finds_no_earlier_opening(
    calendar: Calendar, instant: datetime, later: timedelta, zone: Zone
) -> None:
    assert next_open(calendar, instant, zone) <= next_open(calendar, instant + later, zone)


LENGTHS = st.timedeltas(timedelta(minutes=1), timedelta(hours=23)).map(
    lambda one: one - timedelta(microseconds=one.microseconds)
)


@given(CALENDARS, INSTANTS, LENGTHS, LENGTHS, ZONES)
def test_open_hours_add_up(
    calendar: Calendar, instant: datetime, length: timedelta, more: timedelta, zone: Zone
) -> None:
    first = add_open(calendar, instant, length, zone)
    if first is None or length + more >= DAY:  # from a day on, days are counted
        return
    assert first >= instant + length
    assert add_open(calendar, first, more, zone) == add_open(calendar, instant, length + more, zone)


@given(CALENDARS, INSTANTS, st.integers(1, 9), ZONES)
def test_open_days_end_while_it_is_open(calendar: Calendar, instant: datetime, days: int, zone: Zone) -> None:
    found = add_open(calendar, instant, days * DAY, zone)
    assert found is not None
    assert found > instant
    assert is_open(calendar, found, zone)


def test_public_holidays_are_those_of_the_place_and_year() -> None:
    assert of_year("DE-BY", 2026)[date(2026, 1, 6)] == "Epiphany"
    assert date(2026, 1, 6) not in of_year("DE", 2026)
    assert date(2026, 7, 3) in of_year("US", 2026)  # observed: the fourth is a Saturday
    assert date(2090, 8, 15) in of_year("IN", 2090)  # beyond what is proclaimed, and no warning


@pytest.mark.parametrize(
    ("place", "message", "hint"),
    [
        ("DE", None, None),
        ("DE-BY", None, None),
        ("US-CA", None, None),
        ("de", "no public holidays are known for de", "Did you mean DE?"),
        ("Atlantis", "no public holidays are known for Atlantis", "code of a country"),
        ("DE-BX", "DE has no part BX with holidays of its own", "DE has BB, BE, BW, BY"),
        ("LU-X", "LU has no part X with holidays of its own", "Write LU."),
    ],
)
def test_a_place_without_holidays_is_explained(place: str, message: str | None, hint: str | None) -> None:
    found = complaint(place)
    assert (found is None) == (message is None)
    if found is not None:
        assert found[0] == message
        assert hint is not None
        assert hint in found[1]
