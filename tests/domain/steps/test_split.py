"""A split divides by chance that never changes its mind."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.domain.steps.split import chosen, draw
from core.domain.steps.way_shapes import Way
from tests.domain.machine_cases import compiled, entered

SPLIT = """
steps:
  - id: which
    kind: split
    ways: {a: 50, b: 30, c: 20}
    exits: {a: one, b: two, c: three}
  - {id: one, kind: exit, reason: "{{ steps.which.variant }}"}
  - {id: two, kind: exit, reason: "{{ steps.which.variant }}"}
  - {id: three, kind: exit, reason: "{{ steps.which.variant }}"}
"""
WEIGHTS = st.lists(st.floats(0.001, 1_000) | st.integers(1, 1_000), min_size=2, max_size=20)
PEOPLE = [f"enr_{number}" for number in range(4_000)]


def test_a_split_takes_the_way_that_was_drawn_and_says_so() -> None:
    transition = entered(compiled(SPLIT), id="enr_8")
    drawn = transition.trace[1]
    assert (drawn.exit, drawn.reason) == ("b", "Drawn by enrollment: b, which gets 30 of 100.")
    assert drawn.inputs == {"enrollment.id": "enr_8", "draw": round(draw("enr_8", "nurture/which"), 6)}
    assert transition.enrollment.outputs == {"which": {"variant": "b"}}
    assert transition.enrollment.end_reason == "b"


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"actor": "key_2", "variables": {"x": 1}}, True),
        ({"contact_id": "cnt_2"}, True),
        ({"id": "enr_2"}, False),
    ],
)
def test_a_split_sticks_to_the_enrollment_alone(changed: dict[str, Any], same: bool) -> None:
    version = compiled(SPLIT)
    assert (entered(version).trace[1].inputs == entered(version, **changed).trace[1].inputs) is same


@pytest.mark.parametrize(
    ("changed", "same"),
    [({"id": "enr_2"}, True), ({"id": "enr_3", "key": "k"}, True), ({"contact_id": "cnt_2"}, False)],
)
def test_a_split_by_contact_sticks_to_the_contact_over_enrollments(changed: dict[str, Any], same: bool) -> None:
    version = compiled(SPLIT.replace("kind: split", "kind: split\n    by: contact"))
    assert (entered(version).trace[1].inputs == entered(version, **changed).trace[1].inputs) is same


def test_splits_with_the_same_salt_draw_alike() -> None:
    step = "{{id: {0}, kind: split, ways: {{a: 1, b: 1}}, salt: {1}, exits: {{a: {2}, b: {2}}}}}"
    text = "steps:\n" + "".join(
        f"  - {step.format(*line)}\n" for line in [("x", "spring", "y"), ("y", "spring", "z"), ("z", "autumn", "end")]
    )
    version = compiled(text)
    draws = [[entry.inputs["draw"] for entry in entered(version, id=id).trace[1:4]] for id in PEOPLE[:20]]
    assert all(x == y != z for x, y, z in draws)


def test_the_order_in_which_ways_are_written_does_not_matter() -> None:
    turned = compiled(SPLIT.replace("{a: 50, b: 30, c: 20}", "{c: 20, a: 50, b: 30}"))
    assert [entered(turned, id=id).trace for id in PEOPLE[:20]] == [
        entered(compiled(SPLIT), id=id).trace for id in PEOPLE[:20]
    ]


@settings(max_examples=25, deadline=None)
@given(WEIGHTS, st.text(min_size=1, max_size=20))
def test_every_way_gets_its_share(weights: list[float], place: str) -> None:
    ways = tuple(Way(f"w{number}", weight) for number, weight in enumerate(weights))
    counts = dict.fromkeys((way.name for way in ways), 0)
    for person in PEOPLE:
        counts[chosen(ways, draw(person, place)).name] += 1
    for way in ways:
        share = way.weight / math.fsum(weights)
        deviation = math.sqrt(len(PEOPLE) * share * (1 - share))
        assert abs(counts[way.name] - len(PEOPLE) * share) <= 6 * deviation + 1


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_two_splits_draw_independently(first: str, second: str) -> None:
    alike = sum((draw(person, first) < 0.5) == (draw(person, second) < 0.5) for person in PEOPLE)
    if first == second:
        assert alike == len(PEOPLE)
    else:
        assert abs(alike - len(PEOPLE) / 2) <= 6 * math.sqrt(len(PEOPLE)) / 2


@given(WEIGHTS, st.floats(0, 1, exclude_max=True))
def test_every_point_of_the_line_belongs_to_a_way(weights: list[float], point: float) -> None:
    ways = tuple(Way(f"w{number}", weight) for number, weight in enumerate(weights))
    position = ways.index(chosen(ways, point))
    total = math.fsum(weights)
    assert math.fsum(weights[:position]) <= point * total * (1 + 1e-9)
    assert point * total <= math.fsum(weights[: position + 1]) * (1 + 1e-9)
