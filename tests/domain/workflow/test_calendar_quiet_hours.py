"""Quiet hours: whether they hold, and until when."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.workflow.quiet_hours import QuietHours, quiet_until
from core.domain.workflow.windows import EVERY_DAY, WORKING_DAYS
from core.domain.workflow.zones import Zone

UTC_ZONE = Zone("UTC")
BERLIN = Zone("Europe/Berlin", "contact")
NIGHT = QuietHours(time(21), time(8))
WORKING_NIGHT = QuietHours(time(21), time(8), WORKING_DAYS)
NOON = QuietHours(time(12), time(14))
SUNDAY = QuietHours(time(), time(), frozenset({6}))
NIGHT_AND_SUNDAY = QuietHours(time(21), time(8), EVERY_DAY, (SUNDAY,))


@pytest.mark.parametrize(
    ("quiet", "zone", "instant", "until"),
    [
        (NIGHT, UTC_ZONE, "2026-03-02T20:59", None),
        (NIGHT, UTC_ZONE, "2026-03-02T21:00", "2026-03-03T08:00"),
        (NIGHT, UTC_ZONE, "2026-03-03T07:59", "2026-03-03T08:00"),
        (NIGHT, UTC_ZONE, "2026-03-03T08:00", None),
        (NIGHT, BERLIN, "2026-03-02T20:30", "2026-03-03T07:00"),
        (NIGHT, BERLIN, "2026-03-28T21:00", "2026-03-29T06:00"),  # a shorter night
        (WORKING_NIGHT, UTC_ZONE, "2026-03-07T07:00", "2026-03-07T08:00"),  # Friday's night
        (WORKING_NIGHT, UTC_ZONE, "2026-03-07T22:00", None),
        (NOON, UTC_ZONE, "2026-03-02T13:00", "2026-03-02T14:00"),
        (SUNDAY, UTC_ZONE, "2026-03-08T00:00", "2026-03-09T00:00"),
        (NIGHT_AND_SUNDAY, UTC_ZONE, "2026-03-07T22:00", "2026-03-09T08:00"),  # night, Sunday, night
        (NIGHT_AND_SUNDAY, UTC_ZONE, "2026-03-09T12:00", None),
    ],
)
def test_quiet_hours_hold_until_they_end(quiet: QuietHours, zone: Zone, instant: str, until: str | None) -> None:
    found = quiet_until(quiet, datetime.fromisoformat(instant).replace(tzinfo=UTC), zone)
    assert found == (datetime.fromisoformat(until).replace(tzinfo=UTC) if until else None)


TIMES = st.integers(0, 1439).map(lambda minutes: time(minutes // 60, minutes % 60))
QUIET = st.builds(QuietHours, TIMES, TIMES, st.frozensets(st.integers(0, 6), min_size=1, max_size=6))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago"]).map(Zone)
INSTANTS = st.timedeltas(timedelta(), timedelta(days=365)).map(lambda one: datetime(2026, 1, 1, tzinfo=UTC) + one)


@given(QUIET, QUIET, INSTANTS, ZONES)
def test_when_quiet_hours_end_it_is_not_quiet(
    quiet: QuietHours, other: QuietHours, instant: datetime, zone: Zone
) -> None:
    both = QuietHours(quiet.start, quiet.end, quiet.days & other.days or quiet.days, (other,))
    if both.days | other.days == EVERY_DAY:
        return
    until = quiet_until(both, instant, zone)
    if until is not None:
        assert until > instant
        assert quiet_until(both, until, zone) is None
        assert quiet_until(both, instant + (until - instant) / 2, zone) == until
