"""A wait for a condition: over at once, when a record makes it hold, or at its timeout; and what it says of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from core.domain import machine
from core.domain.enrollment import Enrollment, EventArrived, EventFacts, RecordFacts, State, Stimulus, TimerFired
from core.domain.explain import explain
from core.domain.records.changes import Change
from core.domain.trace import Transition
from core.domain.workflow.record_changes import ChangedRecord, record_event
from tests.domain.machine_cases import DAY, HOUR, START, compiled, entered, known

WAIT = """
steps:
  - {id: wait, kind: wait, until_true: 'lead.tier == "A" && contact.employees > 3', timeout: 2d,
     exits: {next: good, timeout: late}}
  - {id: good, kind: exit, reason: good}
  - {id: late, kind: exit, reason: late}
"""
VERSION = compiled(WAIT)
OPEN = compiled("steps: [{id: wait, kind: wait, until_true: opportunity.status == 'won'}]")
SAYS = 'lead.tier == "A" && contact.employees > 3'


def change_of(record_type: str, field: str) -> EventArrived:
    told = ChangedRecord(record_type, f"{record_type}_1", False, (Change(field, "old", "new"),)).to_fields()
    return EventArrived(EventFacts("evt_1", record_event(record_type), "record", told, START, START))


def test_what_holds_already_is_not_waited_for() -> None:
    over = entered(VERSION, known("A", employees=5))
    assert over.enrollment.end_reason == "good"
    assert over.trace[1].reason == f"Does not wait: {SAYS} holds (lead.tier is A, contact.employees is 5)."


def test_it_says_what_it_waits_for_and_how_things_stand() -> None:
    waiting = entered(VERSION, known("B", employees=5))
    enrollment = waiting.enrollment
    why = f"Waits until {SAYS}, for 2 days at most: {SAYS} does not hold (lead.tier is B, contact.employees is 5)."
    assert (enrollment.due_at, waiting.trace[-1].reason) == (START + 2 * DAY, why)
    assert enrollment.waiting is not None
    assert (enrollment.waiting.kind, enrollment.waiting.subject) == ("condition", SAYS)
    assert explain(VERSION, enrollment, waiting.trace)[1] == (
        f"Once {SAYS} holds it goes on to good, or at 2026-03-04 09:00 UTC to late; "
        "every change of what it names is looked at."
    )


def after(enrollment: Enrollment, stimulus: Stimulus, later: Any = HOUR, **facts: Any) -> Transition | None:
    return machine.advance(
        VERSION, enrollment, stimulus, known(**{"tier": "A", "employees": 5, **facts}), START + later
    )


@pytest.mark.parametrize(
    ("stimulus", "facts", "later", "ends"),
    [
        (change_of("lead", "tier"), {}, HOUR, "good"),
        (change_of("lead", "score"), {}, HOUR, None),  # of a field that is not named: nobody looks
        (change_of("company", "name"), {}, HOUR, None),
        (change_of("contact", "employees"), {"employees": 2}, HOUR, None),
        (TimerFired(), {}, HOUR, "good"),  # the look after the commit comes before the time is over
        (TimerFired(), {"tier": "B"}, HOUR, None),
        (TimerFired(), {"tier": "B"}, 2 * DAY, "late"),
        (TimerFired(), {"tier": None}, 2 * DAY, "late"),  # what is not known does not hold
        (TimerFired(), {}, 2 * DAY, "good"),  # in time, though nobody told
    ],
)
def test_it_ends_when_it_holds_or_at_the_timeout(
    stimulus: Stimulus, facts: dict[str, Any], later: Any, ends: str | None
) -> None:
    waiting = entered(VERSION, known("B", employees=5)).enrollment
    transition = after(waiting, stimulus, later, **facts)
    assert (None if transition is None else transition.enrollment.end_reason) == ends


def test_without_a_timeout_it_waits_for_ever_and_for_the_record_it_is_about() -> None:
    newest, own = (RecordFacts(one, "opportunity", {"status": "open"}) for one in ("opp_2", "opp_1"))
    won = replace(own, fields={"status": "won"})
    there = replace(known(), records={"opportunity": newest, "opp_1": own})
    waiting = entered(OPEN, there, about={"opportunity": "opp_1"})
    assert waiting.enrollment.due_at is None
    told = change_of("opportunity", "status")
    others = replace(known(), records={"opportunity": replace(newest, fields={"status": "won"}), "opp_1": own})
    assert machine.advance(OPEN, waiting.enrollment, told, others, START) is None
    its_own = replace(known(), records={"opportunity": newest, "opp_1": won})
    over = machine.advance(OPEN, waiting.enrollment, told, its_own, START)
    assert over is not None
    assert over.enrollment.state is State.COMPLETED


def test_a_condition_that_breaks_fails() -> None:
    version = compiled("steps: [{id: wait, kind: wait, until_true: contact.custom.n > 3}]")
    failed = entered(version, known(custom={"n": "many"}))
    assert failed.enrollment.state is State.FAILED
    assert "cannot be told" in failed.enrollment.end_reason
