"""Schedules in cron's notation, where clocks are changed too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.workflow.cron import Cron
from core.domain.workflow.zones import Zone

BERLIN = Zone("Europe/Berlin", "workflow")


def runs(text: str, after: str, count: int, zone: Zone = BERLIN) -> list[str]:
    """Return the next times as the clock on the wall shows them, with the offset."""
    cron, found = Cron(text, zone), datetime.fromisoformat(after).replace(tzinfo=UTC)
    times = []
    for _ in range(count):
        found = cron.next_after(found)
        times.append(f"{zone.local(found):%m-%d %H:%M %z}")
    return times


@pytest.mark.parametrize(
    ("text", "after", "expected"),
    [
        ("0 9 * * mon-fri", "2026-03-06T08:00", ["03-09 09:00 +0100", "03-10 09:00 +0100"]),
        ("0 9 * * 1", "2026-03-28T08:00", ["03-30 09:00 +0200", "04-06 09:00 +0200"]),
        ("@daily", "2026-03-02T08:00", ["03-03 00:00 +0100", "03-04 00:00 +0100"]),
        ("0 0 29 2 *", "2026-03-02T08:00", ["02-29 00:00 +0100", "02-29 00:00 +0100"]),
        ("0 8 L * *", "2026-02-01T08:00", ["02-28 08:00 +0100", "03-31 08:00 +0200"]),
        # Skipped: right after the gap, once.
        ("30 2 * * *", "2026-03-28T12:00", ["03-29 03:00 +0200", "03-30 02:30 +0200"]),
        ("*/20 2 * * *", "2026-03-29T00:00", ["03-29 03:00 +0200", "03-30 02:00 +0200"]),
        ("30 2,3 * * *", "2026-03-29T00:00", ["03-29 03:00 +0200", "03-29 03:30 +0200"]),
        # Twice: the first time only.
        ("30 2 * * *", "2026-10-24T12:00", ["10-25 02:30 +0200", "10-26 02:30 +0100"]),
        ("30 2 * * *", "2026-10-25T00:45", ["10-26 02:30 +0100"]),
        ("45 2 * * *", "2026-10-25T01:30", ["10-26 02:45 +0100"]),
        # Every hour: as the clock shows it.
        ("*/30 * * * *", "2026-03-29T00:00", ["03-29 01:30 +0100", "03-29 03:00 +0200", "03-29 03:30 +0200"]),
        ("7 * * * *", "2026-03-29T00:00", ["03-29 01:07 +0100", "03-29 03:07 +0200"]),
        (
            "*/30 * * * *",
            "2026-10-25T00:00",
            ["10-25 02:30 +0200", "10-25 02:00 +0100", "10-25 02:30 +0100", "10-25 03:00 +0100"],
        ),
        ("0 * 1 1 *", "2026-03-02T08:00", ["01-01 00:00 +0100", "01-01 01:00 +0100"]),
        ("0 * 1 7 *", "2026-03-02T08:00", ["07-01 00:00 +0200", "07-01 01:00 +0200"]),
    ],
)
def test_the_next_times_are_found(text: str, after: str, expected: list[str]) -> None:
    assert runs(text, after, len(expected)) == expected


def test_a_zone_that_moves_by_half_an_hour_is_met() -> None:
    zone = Zone("Australia/Lord_Howe")
    assert runs("*/30 * * * *", "2026-10-03T15:00", 3, zone) == [
        "10-04 02:30 +1100", "10-04 03:00 +1100", "10-04 03:30 +1100",
    ]  # fmt: skip
    assert runs("*/10 3 * * *", "2026-10-03T15:00", 2, zone) == ["10-04 03:00 +1100", "10-04 03:10 +1100"]
    assert runs("*/15 * * * *", "2026-04-04T14:30", 4, zone) == [
        "04-05 01:45 +1100", "04-05 01:30 +1030", "04-05 01:45 +1030", "04-05 02:00 +1030",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'' is no schedule of five fields"),
        ("soon", "'soon' is no schedule of five fields"),
        ("* * * * * *", "is no schedule of five fields"),
        ("60 * * * *", "'60' is no minute"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 9 * * someday", "'someday' is no day of week"),
        ("0 9 * foo *", "'foo' is no month"),
        ("0 9 32 * *", "'32' is no day of month"),
        ("*/0 * * * *", "'*/0' is no minute"),
        ("0 9 30 2 *", "'0 9 30 2 *' names a day that never comes"),
        ("0 9 31 4,6 *", "'0 9 31 4,6 *' names a day that never comes"),
        ("0 0 * 2 MON#6", "'MON#6' is no day of week"),
    ],
)
def test_what_is_no_schedule_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"is no |never comes") as refused:
        Cron(text, BERLIN)
    assert message in str(refused.value)


ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/Santiago", "America/Havana", "Australia/Lord_Howe", "Africa/Casablanca"]
).map(Zone)
MINUTES = st.sampled_from(["*", "*/15", "0", "7", "0,30", "59"])
HOURS = st.sampled_from(["*", "*/6", "0", "1", "2", "0-3", "23"])
DATES = st.sampled_from(["* * *", "1 * *", "* * 0", "* * mon-fri", "* 3 sun", "* 10 sun", "15 6 *"])
INSTANTS = st.timedeltas(timedelta(), timedelta(days=730)).map(lambda one: datetime(2025, 1, 1, tzinfo=UTC) + one)


@given(MINUTES, HOURS, DATES, ZONES, INSTANTS)
def test_times_come_in_order_and_show_what_is_named(
    minute: str, hour: str, days: str, zone: Zone, after: datetime
) -> None:
    cron = Cron(f"{minute} {hour} {days}", zone)
    found = [after]
    for _ in range(5):
        found.append(cron.next_after(found[-1]))
    assert all(one < other for one, other in pairwise(found))
    for one in found[1:]:
        local = zone.local(one)
        moved = zone.local(one - datetime.resolution).utcoffset() != local.utcoffset()
        assert moved or minute != "7" or local.minute == 7
        assert moved or hour not in ("0", "1", "2", "23") or local.hour == int(hour)


@given(MINUTES, HOURS, ZONES, INSTANTS, st.timedeltas(timedelta(), timedelta(days=3)))
def test_whoever_asks_later_is_not_answered_earlier(
    minute: str, hour: str, zone: Zone, after: datetime, later: timedelta
) -> None:
    cron = Cron(f"{minute} {hour} * * *", zone)
    assert cron.next_after(after) <= cron.next_after(after + later)


@given(ZONES, INSTANTS)
def test_every_quarter_of_an_hour_is_just_that_whatever_the_clocks_do(zone: Zone, after: datetime) -> None:
    cron = Cron("*/15 * * * *", zone)
    first = cron.next_after(after)
    assert first - after <= timedelta(minutes=15)
    assert cron.next_after(first) - first == timedelta(minutes=15)
