"""When single attempts are made, when somebody is warned, when an endpoint is turned off and tried again."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.domain.webhooks import breaker, disabling
from tests.conftest import START

DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, None), (9, None), (10, 30), (11, 60), (12, 120), (16, 1920), (17, 3600), (18, 3600), (5000, 3600)],
)
def test_an_open_breaker_lets_single_attempts_through_ever_more_rarely(failures: int, seconds: int | None) -> None:
    assert breaker.interval(failures) == (None if seconds is None else timedelta(seconds=seconds))
    assert breaker.is_open(failures) is (seconds is not None)


@pytest.mark.parametrize(
    ("days", "failures", "percent"),
    [
        (0, 1000, 0),
        (30, 1, 5),
        (2.5, 1000, 50),
        (2.5, 9, 45),
        (4.999, 20, 99),
        (5, 19, 95),
        (5, 20, 100),
        (50, 5000, 100),
    ],
)
def test_time_and_count_both_decide(days: float, failures: int, percent: int) -> None:
    assert disabling.progress_percent(START - days * DAY, failures, START) == percent


def test_who_answers_is_nowhere_near_being_disabled() -> None:
    assert disabling.progress_percent(None, 500, START) == 0


@pytest.mark.parametrize(
    ("percent", "warned", "warning"),
    [(49, 0, 0), (50, 0, 50), (55, 50, 0), (70, 50, 70), (95, 0, 90), (95, 90, 0), (100, 0, 0), (100, 90, 0)],
)
def test_each_warning_is_due_once_and_the_last_one_reached_counts(percent: int, warned: int, warning: int) -> None:
    assert disabling.warning(percent, warned) == warning


def test_a_disabled_endpoint_is_tried_at_growing_intervals() -> None:
    hours = [disabling.probe_interval(probes) / timedelta(hours=1) for probes in range(7)]
    assert hours == [1, 2, 4, 8, 16, 24, 24]
    assert disabling.probe_interval(10_000) == disabling.LONGEST_PROBE
