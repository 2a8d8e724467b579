"""A filter lets through or out; a goal counts a conversion and lets go on."""

from __future__ import annotations

import pytest

from core.domain.effects import KeepDeadLetter
from core.domain.enrollment import State
from core.domain.trace import Conversion
from tests.domain.machine_cases import compiled, entered, known, settled, told

FILTER = "steps: [{id: hot, kind: filter, when: 'lead.tier == \"A\"'}, {id: go, kind: exit, reason: hot}]"
OTHERWISE = """
steps:
  - {id: hot, kind: filter, when: 'lead.tier == "A"', exits: {otherwise: cold}}
  - {id: go, kind: exit, reason: hot}
  - {id: cold, kind: exit, reason: cold}
"""
GOALS = """
steps:
  - {id: which, kind: split, ways: {a: 1, b: 1}, exits: {a: won, b: won}}
  - {id: won, kind: goal, name: Trial started}
  - {id: again, kind: goal, name: Paid}
"""


@pytest.mark.parametrize(
    ("tier", "exit", "reason", "end"),
    [
        ("A", "next", 'lead.tier == "A" holds.', "hot"),
        ("B", "", 'Filtered out: lead.tier == "A" does not hold.', None),
        (None, "", 'Filtered out: lead.tier == "A" does not hold.', None),
    ],
)
def test_whom_a_filter_does_not_let_through_leaves(tier: str | None, exit: str, reason: str, end: str | None) -> None:
    transition = entered(compiled(FILTER), known(tier))
    assert (transition.trace[1].exit, transition.trace[1].reason) == (exit, reason)
    assert transition.trace[1].inputs == {"lead.tier": tier}
    assert settled(transition) == (State.EXITED, end or reason)


def test_what_cannot_be_told_does_not_hold_and_the_reason_says_why() -> None:
    version = compiled("steps: [{id: big, kind: filter, when: contact.employees > 100}]")
    reason = "Filtered out: contact.employees > 100 could not be told: contact.employees is not known."
    assert settled(entered(version)) == (State.EXITED, reason)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        ("kind: filter, when: %s", "%s"),
        ("kind: filter, when: %s, exits: {otherwise: end}", "%s"),
        ("kind: branch, cases: [{name: none, when: contact.employees > 3}, {name: soon, when: %s}]", "Case soon"),
    ],
)
def test_a_condition_that_breaks_is_a_failure_and_not_a_no(step: str, told: str) -> None:
    text = "moment(contact.first_name) > now"
    why = "it could not be evaluated ('29.02.2028' is not a date)"
    said = f"{told % text if '%' in told else told} could not be told: {why}."
    version = compiled(f"steps: [{{id: a, {step % text}}}]")
    transition = entered(version, known(first_name="29.02.2028"))
    assert settled(transition) == (State.FAILED, said)
    (letter,) = [one for one in transition.effects if isinstance(one, KeepDeadLetter)]
    assert letter.failure == "CONDITION_FAILED"


@pytest.mark.parametrize(("tier", "exit"), [("A", "next"), ("B", "otherwise"), (None, "otherwise")])
def test_whom_a_filter_does_not_let_through_takes_the_way_the_author_wrote(tier: str | None, exit: str) -> None:
    transition = entered(compiled(OTHERWISE), known(tier))
    assert transition.trace[1].exit == exit
    assert settled(transition) == (State.EXITED, "hot" if exit == "next" else "cold")


def test_the_first_goal_converts_and_credits_the_way_that_was_drawn() -> None:
    transition = entered(compiled(GOALS))
    way = transition.enrollment.outputs["which"]["variant"]
    assert transition.enrollment.converted == "Trial started"
    assert transition.conversions == (Conversion("", "Trial started"), Conversion("which", way))
    assert told(transition)[2:4] == [
        ("won", "ok", "Reached the goal Trial started."),
        ("again", "ok", "Reached the goal Paid. It does not count: Trial started was reached before."),
    ]
    assert transition.enrollment.state is State.COMPLETED
