"""When a workflow pauses itself."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.control.breaker import Tripped, judge
from core.domain.workflow.version import Breaker


@pytest.mark.parametrize(
    ("newest_first", "tripped"),
    [
        ([(True, 5), (False, 45)], Tripped(5, 50)),
        ([(True, 4), (False, 46)], None),
        ([(True, 4), (False, 45)], None),  # 49 outcomes say nothing yet, though all may have failed
        ([(True, 49)], None),
        ([(True, 50)], Tripped(50, 50)),
        ([(False, 46), (True, 400)], None),  # of the old failures only four are among the last fifty
        ([(False, 45), (True, 400)], Tripped(5, 50)),
        ([], None),
    ],
)
def test_a_workflow_pauses_when_a_tenth_of_its_last_fifty_outcomes_failed(
    newest_first: list[tuple[bool, int]], tripped: Tripped | None
) -> None:
    assert judge(Breaker(10, 50), newest_first) == tripped


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=40), st.integers(1, 100), st.integers(10, 80))
def test_it_agrees_with_counting_outcome_by_outcome(
    newest_first: list[tuple[bool, int]], percent: int, of_last: int
) -> None:
    one_by_one = [failed for failed, count in newest_first for _ in range(count)][:of_last]
    expected = len(one_by_one) == of_last and 100 * sum(one_by_one) >= percent * of_last
    assert (judge(Breaker(percent, of_last), newest_first) is not None) is expected
