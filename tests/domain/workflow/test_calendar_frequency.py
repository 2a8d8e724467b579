"""Frequency caps: when one message more is allowed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.enrollment import Sent
from core.domain.workflow.frequency import FrequencyCap, capped_until, lookback
from core.domain.workflow.zones import Zone

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
BERLIN = Zone("Europe/Berlin", "contact")
UTC_ZONE = Zone("UTC")


def sent(*hours_ago: float, channel: str = "email") -> tuple[Sent, ...]:
    return tuple(Sent(channel, NOW - hours * HOUR) for hours in hours_ago)


ONE_A_DAY = FrequencyCap(1, "day")
TWO_A_WEEK = FrequencyCap(2, "week")
TWO_IN_A_DAY = FrequencyCap(2, DAY)
ONE_EMAIL = FrequencyCap(1, DAY, "email")
SKIPPING = FrequencyCap(1, HOUR, otherwise="skip")


@pytest.mark.parametrize(
    ("caps", "before", "zone", "expected"),
    [
        ([], sent(1), UTC_ZONE, None),
        ([ONE_A_DAY], (), UTC_ZONE, None),
        ([ONE_A_DAY], sent(1), UTC_ZONE, (ONE_A_DAY, "2026-03-05T00:00")),
        ([ONE_A_DAY], sent(1), BERLIN, (ONE_A_DAY, "2026-03-04T23:00")),
        ([ONE_A_DAY], sent(12.5), UTC_ZONE, None),  # yesterday
        ([ONE_A_DAY], sent(12.5), BERLIN, (ONE_A_DAY, "2026-03-04T23:00")),
        ([TWO_A_WEEK], sent(1, 50), UTC_ZONE, (TWO_A_WEEK, "2026-03-09T00:00")),
        ([TWO_A_WEEK], sent(1, 61), UTC_ZONE, None),  # Sunday
        ([TWO_IN_A_DAY], sent(1), UTC_ZONE, None),
        ([TWO_IN_A_DAY], sent(1, 23), UTC_ZONE, (TWO_IN_A_DAY, "2026-03-04T13:00")),
        ([TWO_IN_A_DAY], sent(1, 2, 3), UTC_ZONE, (TWO_IN_A_DAY, "2026-03-05T10:00")),
        ([TWO_IN_A_DAY], sent(1, 24), UTC_ZONE, None),
        ([ONE_EMAIL], sent(1, channel="dm"), UTC_ZONE, None),
        ([TWO_IN_A_DAY], (*sent(1), *sent(2, channel="dm")), UTC_ZONE, (TWO_IN_A_DAY, "2026-03-05T10:00")),
        ([FrequencyCap(1, DAY, "dm")], sent(1, channel="dm"), UTC_ZONE, None),
        ([ONE_A_DAY, TWO_A_WEEK], sent(1, 50), UTC_ZONE, (TWO_A_WEEK, "2026-03-09T00:00")),
        ([TWO_A_WEEK, SKIPPING], sent(0.5, 50), UTC_ZONE, (SKIPPING, "2026-03-04T12:30")),
    ],
)
def test_a_message_too_many_is_held_or_skipped(
    caps: list[FrequencyCap], before: tuple[Sent, ...], zone: Zone, expected: tuple[FrequencyCap, str] | None
) -> None:
    found = capped_until(caps, "email", before, NOW, zone)
    wanted = expected and (expected[0], datetime.fromisoformat(expected[1]).replace(tzinfo=UTC))
    assert found == wanted


@pytest.mark.parametrize(
    ("cap", "spoken"),
    [
        (ONE_A_DAY, "at most 1 message a day"),
        (ONE_EMAIL, "at most 1 message on email in 1 day"),
        (TWO_A_WEEK, "at most 2 messages a week"),
    ],
)
def test_a_cap_is_spoken(cap: FrequencyCap, spoken: str) -> None:
    assert cap.spoken == spoken


def test_a_cap_looks_back_far_enough() -> None:
    assert lookback([]) == timedelta()
    assert lookback([ONE_A_DAY, FrequencyCap(1, 3 * DAY)]) == 3 * DAY
    assert lookback([TWO_A_WEEK]) == 8 * DAY


CAPS = st.builds(
    FrequencyCap,
    st.integers(1, 3),
    st.sampled_from(["day", "week"]) | st.timedeltas(HOUR, 5 * DAY),
    st.sampled_from(["", "email", "dm"]),
)
SENT = st.builds(Sent, st.sampled_from(["email", "dm"]), st.timedeltas(timedelta(), 9 * DAY).map(lambda ago: NOW - ago))
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Pacific/Kiritimati"]).map(Zone)


@given(st.lists(CAPS, max_size=3), st.lists(SENT, max_size=8), ZONES)
def test_when_a_cap_ends_every_cap_allows_it(caps: list[FrequencyCap], before: list[Sent], zone: Zone) -> None:
    found = capped_until(caps, "email", before, NOW, zone)
    kept = [one for one in before if one.at > NOW - lookback(caps)]
    assert capped_until(caps, "email", kept, NOW, zone) == found
    if found is not None:
        cap, until = found
        assert until > NOW
        assert capped_until(caps, "email", before, until, zone) is None
        assert capped_until([cap], "email", before, until - datetime.resolution, zone) is not None
