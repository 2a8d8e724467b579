from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.qualification.decay import remaining

WEEK = timedelta(days=7)
AGES = st.lists(st.timedeltas(timedelta(), timedelta(days=400)), max_size=6)


@pytest.mark.parametrize(
    ("points", "ages", "half_life", "left"),
    [
        (10, [timedelta()], WEEK, 10),
        (10, [WEEK], WEEK, 5),
        (10, [2 * WEEK], WEEK, 2),  # 2.5, half to even
        (14, [2 * WEEK], WEEK, 4),  # 3.5, half to even
        (5, [WEEK, WEEK], WEEK, 5),  # 2.5 + 2.5: rounded once, not twice
        (10, [timedelta(days=-1)], WEEK, 10),
        (10, [WEEK, 3 * WEEK], None, 20),
        (10, [], WEEK, 0),
    ],
)
def test_half_of_the_points_are_left_after_a_half_life_and_the_sum_is_rounded_once(
    points: int, ages: list[timedelta], half_life: timedelta | None, left: int
) -> None:
    assert remaining(points, ages, half_life) == left


@given(st.integers(1, 100), AGES, st.timedeltas(timedelta(hours=1), timedelta(days=90)))
def test_points_only_fade_with_age(points: int, ages: list[timedelta], half_life: timedelta) -> None:
    later = [age + timedelta(days=1) for age in ages]
    assert 0 <= remaining(points, later, half_life) <= remaining(points, ages, half_life) <= points * len(ages)


@given(AGES, st.randoms(use_true_random=False))
def test_the_order_of_ages_changes_nothing(ages: list[timedelta], chance: object) -> None:
    mixed = list(ages)
    chance.shuffle(mixed)  # type: ignore[attr-defined]
    assert remaining(7, mixed, WEEK) == remaining(7, ages, WEEK)
