"""The one evaluator: entering, waiting, branching, events; and why the trace says so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.domain import machine
from core.domain.effects import Emit
from core.domain.enrollment import (
    ApprovalDecided,
    DeliveryEnded,
    Enrollment,
    EventArrived,
    EventFacts,
    Facts,
    State,
    Stimulus,
    TimerFired,
    Waiting,
)
from core.domain.trace import TraceEntry
from tests.domain.machine_cases import (
    DAY,
    EVENT,
    HOUR,
    START,
    WAIT,
    compiled,
    entered,
    happened,
    known,
    moved,
    told,
    types,
)


def test_entering_runs_to_the_first_wait() -> None:
    version = compiled(
        "steps: [{id: hello, kind: log, message: 'Hi {{ contact.email }}'}, {id: pause, kind: wait, for: 2d}]"
    )
    transition = entered(version, variables={"a": 1}, event=happened("form.submitted", START, plan="pro"))
    assert transition.enrollment == Enrollment(
        id="enr_1",
        org_id="org_1",
        workflow_id="nurture",
        version=3,
        contact_id="cnt_1",
        key="",
        actor="key_1",
        state=State.ACTIVE,
        step_id="pause",
        rev=1,
        entered_at=START,
        moved_at=START,
        trace_count=3,
        due_at=START + 2 * DAY,
        waiting=Waiting("timer", since=START),
        variables={"a": 1},
        event={
            "id": "evt_020900",
            "name": "form.submitted",
            "type": "action",
            "fields": {"plan": "pro"},
            "occurred_at": "2026-03-02T09:00:00+00:00",
            "received_at": "2026-03-02T09:00:00+00:00",
        },
        outputs={"hello": {"message": "Hi ada@example.com", "level": "info"}},
    )
    assert transition.trace == (
        TraceEntry(
            1,
            "hello",
            "enrollment",
            "entered",
            START,
            "",
            "Enrolled by key_1 into version 3.",
            {"event.id": "evt_020900"},
        ),
        TraceEntry(2, "hello", "log", "ok", START, "next", "Hi ada@example.com", {"contact.email": "ada@example.com"}),
        TraceEntry(3, "pause", "wait", "waiting", START, "", "Waits 2 days, until 2026-03-04 09:00 UTC."),
    )
    (created,) = transition.effects
    assert isinstance(created, Emit)
    assert (created.event_type, created.data) == (
        "enrollment.created",
        {
            "enrollment_id": "enr_1",
            "workflow_id": "nurture",
            "version": 3,
            "contact_id": "cnt_1",
            "key": "",
            "step_id": "hello",
            "actor": "key_1",
        },
    )


def test_a_wait_ends_at_its_due_time_and_not_before() -> None:
    version = compiled(WAIT)
    waiting = entered(version).enrollment
    assert machine.advance(version, waiting, TimerFired(), known(), START + 2 * DAY - timedelta(microseconds=1)) is None
    after = moved(version, waiting, TimerFired(), START + 2 * DAY)
    assert (after.enrollment.state, after.enrollment.rev, after.enrollment.end_reason) == (
        State.COMPLETED,
        2,
        "completed",
    )
    assert (after.enrollment.due_at, after.enrollment.waiting) == (None, None)
    assert after.enrollment.ended_at == START + 2 * DAY
    assert told(after) == [
        ("pause", "ok", "The wait of 2 days is over."),
        ("pause", "ended", "Went through to the end."),
    ]
    assert types(after) == ["enrollment.completed"]


@pytest.mark.parametrize(
    "stimulus",
    [
        EventArrived(happened("a.b", START + HOUR)),
        ApprovalDecided("apr_1", True, "mem_1"),
        DeliveryEnded("msg_1", True, "delivered", 200),
    ],
)
def test_a_stimulus_that_is_not_waited_for_changes_nothing(stimulus: Stimulus) -> None:
    version = compiled(WAIT)
    assert machine.advance(version, entered(version).enrollment, stimulus, known(), START + 2 * DAY) is None


BRANCH = """
steps:
  - id: which
    kind: branch
    cases:
      - {name: big, when: contact.employees > 100}
      - {name: hot, when: 'lead.tier == "A"'}
    exits: {big: one, hot: two, else: end}
  - {id: one, kind: exit, reason: big}
  - {id: two, kind: exit, reason: hot}
"""


@pytest.mark.parametrize(
    ("facts", "exit", "reason", "inputs"),
    [
        (
            known("A", employees=101),
            "big",
            "Case big holds: contact.employees > 100.",
            {"contact.employees": 101},
        ),
        (
            known("A"),
            "hot",
            'Case hot holds: lead.tier == "A". Case big could not be told: contact.employees is not known.',
            {"contact.employees": None, "lead.tier": "A"},
        ),
        (
            known("B", employees=3),
            "else",
            "No case holds.",
            {"contact.employees": 3, "lead.tier": "B"},
        ),
        (
            known(None),
            "else",
            "No case holds. Case big could not be told: contact.employees is not known.",
            {"contact.employees": None, "lead.tier": None},
        ),
    ],
)
def test_a_branch_takes_the_first_case_that_holds_and_says_why(
    facts: Facts, exit: str, reason: str, inputs: dict[str, Any]
) -> None:
    entry = entered(compiled(BRANCH), facts).trace[1]
    assert (entry.exit, entry.reason, dict(entry.inputs)) == (exit, reason, inputs)


def test_an_event_that_fits_ends_a_wait_for_it_and_is_seen_from_then_on() -> None:
    version = compiled(EVENT)
    waiting = entered(version).enrollment
    assert waiting.waiting == Waiting("event", "reply.received", START, "cnt_1")
    event = happened("reply.received", START + HOUR, channel="email")
    after = moved(version, waiting, EventArrived(event), START + HOUR)
    assert after.trace[0].exit == "matched"
    assert after.trace[0].reason == (
        'reply.received came in at 2026-03-02 10:00 UTC and event.fields.channel == "email" holds.'
    )
    assert after.trace[0].inputs == {"event.id": "evt_021000", "event.fields.channel": "email"}
    assert after.trace[1].reason == "email evt_021000"
    assert after.enrollment.event is not None
    assert after.enrollment.event["id"] == "evt_021000"
    assert after.enrollment.outputs["reply"] == {
        "matched": True,
        "event_id": "evt_021000",
        "event_name": "reply.received",
        "matched_at": "2026-03-02T10:00:00+00:00",
    }


@pytest.mark.parametrize(
    "event",
    [
        happened("other", START + HOUR, channel="email"),
        happened("reply.received", START - HOUR, channel="email"),
        happened("reply.received", START + 3 * DAY, channel="email"),
        happened("reply.received", START + HOUR, channel="sms"),
        happened("reply.received", START + HOUR),
    ],
)
def test_an_event_that_does_not_fit_changes_nothing(event: EventFacts) -> None:
    version = compiled(EVENT)
    waiting = entered(version).enrollment
    assert machine.advance(version, waiting, EventArrived(event), known(), START + HOUR) is None


def test_a_wait_for_an_event_times_out() -> None:
    version = compiled(EVENT)
    late = happened("reply.received", START + 3 * DAY, channel="email")
    after = moved(version, entered(version).enrollment, TimerFired(), START + 4 * DAY, known(arrived=(late,)))
    assert after.trace[0].exit == "timeout"
    assert after.trace[0].reason == "No reply.received that fits came within 3 days."
    assert after.enrollment.outputs["reply"] == {"matched": False}


def test_an_event_that_came_in_time_wins_over_a_timer_that_is_handled_first() -> None:
    version = compiled(EVENT)
    arrived = (
        happened("reply.received", START + HOUR, channel="sms"),
        happened("reply.received", START + 2 * HOUR, channel="email"),
        happened("reply.received", START + 3 * HOUR, channel="email"),
    )
    after = moved(version, entered(version).enrollment, TimerFired(), START + 4 * DAY, known(arrived=arrived))
    assert after.trace[0].exit == "matched"
    assert after.enrollment.outputs["reply"]["event_id"] == "evt_021100"


def test_the_event_that_enrolled_is_not_the_one_that_is_waited_for() -> None:
    version = compiled(EVENT)
    event = happened("reply.received", START, channel="email")
    waiting = entered(version, event=event).enrollment
    assert machine.advance(version, waiting, EventArrived(event), known(), START) is None
    after = moved(version, waiting, TimerFired(), START + 3 * DAY, known(arrived=(event,)))
    assert after.trace[0].exit == "timeout"
