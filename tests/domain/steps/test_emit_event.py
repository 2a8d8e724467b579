"""An event that a workflow makes: once per decision, and never round in a ring."""

from __future__ import annotations

import pytest

from core.domain import machine
from core.domain.effects import EmitEvent, KeepDeadLetter
from core.domain.enrollment import EventArrived, EventFacts, State, TimerFired
from core.domain.trace import Transition
from tests.domain.machine_cases import DAY, START, compiled, entered, known, settled

EMIT = """
steps:
  - {id: tell, kind: emit_event, event: trial.went_well, fields: {tier: "{{ lead.tier }}", plan: {cel: vars.plan}}}
  - {id: done, kind: exit, reason: "{{ steps.tell.event_id }}"}
"""


def test_an_event_is_made_with_what_it_says() -> None:
    transition = entered(compiled(EMIT), hops=2)
    event = transition.effects[1]
    assert isinstance(event, EmitEvent)
    assert event == EmitEvent(event.id, "trial.went_well", {"tier": "B", "plan": None}, 3)
    assert event.id.startswith("evt_")
    assert transition.trace[1].reason == "Emitted trial.went_well. Left empty: vars.plan is not known."
    assert transition.trace[1].effects == (event.id,)
    assert transition.enrollment.end_reason == event.id
    assert entered(compiled(EMIT), hops=2).effects[1] == event


@pytest.mark.parametrize(
    ("hops", "state"), [(0, State.EXITED), (7, State.EXITED), (8, State.FAILED), (20, State.FAILED)]
)
def test_a_ring_of_workflows_ends(hops: int, state: State) -> None:
    transition = entered(compiled(EMIT), hops=hops)
    assert transition.enrollment.state is state
    assert [effect for effect in transition.effects if isinstance(effect, EmitEvent)] == (
        [] if state is State.FAILED else [transition.effects[1]]
    )


RING = """
steps:
  - {id: tell, kind: emit_event, event: a.b}
  - {id: hear, kind: wait_for_event, event: a.b, timeout: 1d, exits: {matched: tell, timeout: tell}}
"""


def test_whoever_waits_for_what_it_records_does_not_turn_for_ever() -> None:
    version, rounds = compiled(RING), 0
    transition: Transition | None = entered(version)
    while transition is not None and transition.enrollment.state is State.ACTIVE:
        (told,) = (effect for effect in transition.effects if isinstance(effect, EmitEvent))
        heard = EventFacts(told.id, told.name, "action", told.fields, START, START, hops=told.hops)
        transition, rounds = (
            machine.advance(version, transition.enrollment, EventArrived(heard), known(), START),
            rounds + 1,
        )
    assert rounds == 8
    assert transition is not None
    (letter,) = [effect for effect in transition.effects if isinstance(effect, KeepDeadLetter)]
    assert letter.failure == "TOO_MANY_HOPS"


def test_time_ends_a_row_of_workflows() -> None:
    version = compiled(RING)
    first = entered(version).enrollment
    heard = EventFacts("evt_1", "a.b", "action", {}, START, START, hops=6)
    moved = machine.advance(version, first, EventArrived(heard), known(), START)
    assert moved is not None
    assert [effect.hops for effect in moved.effects if isinstance(effect, EmitEvent)] == [7]
    later = machine.advance(version, moved.enrollment, TimerFired(), known(), START + DAY)
    assert later is not None
    assert [effect.hops for effect in later.effects if isinstance(effect, EmitEvent)] == [1]


@pytest.mark.parametrize(
    ("fields", "failure", "reason"),
    [
        ("{x: '{{ 1 | divided_by: vars.zero }}'}", "TEMPLATE_FAILED", "The fields of a.b could not be made: "),
        ("{x: {cel: vars.big}, y: {cel: vars.big}}", "TOO_LARGE", "The fields of a.b have more than 65,536 bytes."),
    ],
)
def test_fields_that_cannot_be_made_fail_the_step(fields: str, failure: str, reason: str) -> None:
    version = compiled(f"steps: [{{id: tell, kind: emit_event, event: a.b, fields: {fields}}}]")
    transition = entered(version, known(), variables={"zero": 0, "big": "x" * 40_000})
    assert settled(transition)[1].startswith(reason)
    (letter,) = [effect for effect in transition.effects if isinstance(effect, KeepDeadLetter)]
    assert letter.failure == failure
