"""Lengths of time as authors write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.workflow import durations


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("45s", timedelta(seconds=45)),
        ("30m", timedelta(minutes=30)),
        ("2h", timedelta(hours=2)),
        ("3d", timedelta(days=3)),
        ("1w", timedelta(days=7)),
        ("1d12h", timedelta(days=1, hours=12)),
        (" 2h ", timedelta(hours=2)),
        ("P3D", timedelta(days=3)),
        ("P1DT12H", timedelta(days=1, hours=12)),
        ("PT45M", timedelta(minutes=45)),
        ("P2W", timedelta(days=14)),
    ],
)
def test_a_length_of_time_is_read(text: str, length: timedelta) -> None:
    assert durations.parse(text) == length


@pytest.mark.parametrize(
    "text", ["", "x", "2", "12h1d", "P", "PT", "-1d", "0s", "99999w", "9" * 30 + "w", "1.5h", "٣d"]
)
def test_what_is_no_length_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"length of time|ten years|no time"):
        durations.parse(text)


@given(st.integers(min_value=1, max_value=3_000 * 86_400))
def test_what_is_rendered_reads_as_the_same_length(seconds: int) -> None:
    length = timedelta(seconds=seconds)
    assert durations.parse(durations.render(length)) == length
    assert durations.speak(length)
