"""What is wrong with graphs of steps, however many ways lead through them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.workflow.graph import Place, problems
from tests.domain.workflow.worst_cases import MOST_UNITS, units

STEPS = 200


def _place(number: int, targets: Iterable[int], holds: bool = False, count: int = STEPS) -> Place:
    exits = {f"e{n}": f"s{target}" if target < count else "end" for n, target in enumerate(targets)}
    return Place(f"steps[{number}]", f"s{number}", exits, frozenset(exits), holds)


def _found(places: list[Place]) -> list[tuple[str, str]]:
    ids = [place.id for place in places]
    return [(one.reason, one.message) for one in problems(places, ids)]


@pytest.mark.parametrize(
    ("targets", "told"),
    [
        (lambda n: [n + 1 + way % 2 for way in range(5)], 0),  # a scorecard: 2 ^ 200 ways through it
        (lambda n: [*[n + 1 + way % 2 for way in range(4)], 0 if n == STEPS - 1 else n + 1], 1),
        (lambda n: [n + 1, n, n + 1, n + 2, n + 3], STEPS),
        (lambda n: [n + 1, max(n - 1, 0), n + 2, n + 3, 0], STEPS // 2),
        (lambda n: [n + 1, 10_000 + n, 20_000 + n, 30_000 + n, 40_000 + n], 0),
    ],
)
def test_a_graph_is_checked_in_little_time_however_many_ways_lead_through_it(
    targets: Callable[[int], list[int]], told: int
) -> None:
    places = [_place(number, targets(number)) for number in range(STEPS)]
    assert [reason for reason, _ in _found(places)] == ["LOOP_WITHOUT_WAIT"] * told
    assert units(lambda: problems(places, [place.id for place in places])) < MOST_UNITS


def test_wrong_targets_of_long_names_take_little_time() -> None:
    stem = "step_with_a_long_name_that_is_"
    ids = [f"{stem}{number:03}" for number in range(STEPS)]
    places = [
        Place(f"steps[{n}]", id_, exits := {f"e{way}": f"{stem}x{n}{way}" for way in range(5)}, frozenset(exits), False)
        for n, id_ in enumerate(ids)
    ]
    found = problems(places, ids)
    assert len(found) == 5 * STEPS
    assert found[0].hint.startswith("Did you mean step_with")
    assert units(lambda: problems(places, ids)) < 10 * MOST_UNITS


_GRAPHS = st.lists(st.tuples(st.lists(st.integers(0, 6), max_size=3), st.booleans()), min_size=1, max_size=6)


@given(_GRAPHS)
def test_a_loop_is_told_where_there_is_one_and_each_is_one(drawn: list[tuple[list[int], bool]]) -> None:
    count = len(drawn)
    chain = [([*targets, number + 1], holds) for number, (targets, holds) in enumerate(drawn)]  # all are reachable
    places = [_place(number, targets, holds, count) for number, (targets, holds) in enumerate(chain)]
    busy = {
        (f"s{number}", f"s{target}")
        for number, (targets, holds) in enumerate(chain)
        for target in targets
        if not holds and target < count
    }
    found = _found(places)
    assert bool(found) is any(a == b for a, b in _closure(busy))
    told: list[str] = []
    for reason, message in found:
        assert reason == "LOOP_WITHOUT_WAIT"
        way = message.removeprefix("the loop ").removesuffix(" never waits").split(" → ")
        assert set(pairwise(way)) <= busy
        assert way[0] == way[-1] == min(way)
        told += way[1:]
    assert len(set(told)) == len(told)
    left = {(a, b) for a, b in busy if a not in told and b not in told}
    assert not any(a == b for a, b in _closure(left)), "what is left has no loop"


def _closure(edges: set[tuple[str, str]]) -> set[tuple[str, str]]:
    reached = set(edges)
    while more := {(a, d) for a, b in reached for c, d in edges if b == c} - reached:
        reached |= more
    return reached
