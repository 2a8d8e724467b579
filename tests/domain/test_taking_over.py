"""What becomes of an enrollment that moves to another version: its wait goes on, is made again, or ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.domain import machine
from core.domain.effects import CancelApproval, CancelTask, CreateTask, Effect, RequestApproval, Reschedule
from core.domain.enrollment import (
    ApprovalDecided,
    Enrollment,
    EventArrived,
    Migrated,
    State,
    Stimulus,
    TimerFired,
    Waiting,
    WaitPolicy,
)
from core.domain.explain import explain
from core.domain.trace import Transition
from core.domain.workflow.version import Version
from tests.domain.machine_cases import (
    APPROVAL,
    DAY,
    HOUR,
    START,
    WAIT,
    compiled,
    entered,
    happened,
    known,
    moved,
    settled,
    told,
)

NEW = """
steps:
  - {id: hello, kind: log, message: Hi again}
  - {id: rest, kind: wait, for: 5d}
"""
LATER = START + HOUR


def _new(text: str) -> Version:
    return replace(compiled(text), number=4)


def _over(new: Version, old: Enrollment, step: str, wait: WaitPolicy) -> Transition:
    return moved(new, old, Migrated(step, wait, "mem_1", "pln_1"), LATER)


def test_a_wait_that_is_kept_goes_on_as_it_does() -> None:
    old = entered(compiled(WAIT)).enrollment
    after = _over(_new(NEW), old, "rest", "keep")
    assert after.enrollment == replace(
        old, version=4, step_id="rest", rev=2, moved_at=LATER, trace_count=old.trace_count + 1
    )
    reason = "Moved by mem_1 from version 3 to 4, from pause to rest; it goes on waiting as it does."
    assert told(after) == [("pause", "entered", reason)]
    done = moved(_new(NEW), after.enrollment, TimerFired(), START + 2 * DAY)
    assert settled(done) == (State.COMPLETED, "completed")


def test_a_step_may_begin_anew() -> None:
    after = _over(_new(NEW), entered(compiled(WAIT)).enrollment, "hello", "restart")
    assert [entry.step_id for entry in after.trace] == ["pause", "hello", "rest"]
    assert after.enrollment.waiting == Waiting("timer", since=LATER)
    assert (after.enrollment.version, after.enrollment.due_at) == (4, LATER + 5 * DAY)


GONE = "exit_on: [{name: gone, when: contact.unsubscribed == true}]\n"


@pytest.mark.parametrize(
    ("new", "step", "wait"),
    [
        (NEW, "hello", "restart"),
        (
            NEW.replace("hello, kind: log, message: Hi again", "pause, kind: wait, until: '2026-03-01'"),
            "pause",
            "recompute",
        ),
    ],
)
def test_nobody_acts_whom_a_rule_of_the_new_version_ends(new: str, step: str, wait: WaitPolicy) -> None:
    old = entered(compiled(WAIT)).enrollment
    moves = Migrated(step, wait, "mem_1", "pln_1")
    over = machine.advance(_new(GONE + new), old, moves, known(unsubscribed=True), LATER)
    assert over is not None
    assert settled(over) == (State.EXITED, "Exit rule gone: contact.unsubscribed == true holds.")
    assert (over.enrollment.version, over.enrollment.step_id) == (4, step)
    assert "rest" not in [entry.step_id for entry in over.trace]
    paused = machine.advance(_new(GONE + new), old, moves, known(unsubscribed=True), LATER, limit=0)
    assert paused is not None
    assert not paused.enrollment.state.over, "in a pause it is moved, and the rules are looked at when it goes on"


@pytest.mark.parametrize(
    ("step", "due", "said"),
    [
        ("for: 5d", START + 5 * DAY, "Waits 5 days, until 2026-03-07 09:00 UTC."),
        ("for: 10m", START + HOUR / 6, "Waits 10 minutes, until 2026-03-02 09:10 UTC."),
        ("at: '09:30'", START + HOUR / 2, "Waits for 09:30, until 2026-03-02 09:30 (UTC, as no zone is set)."),
    ],
)
def test_a_wait_that_is_made_again_counts_from_when_it_began(step: str, due: object, said: str) -> None:
    new = _new(f"steps: [{{id: pause, kind: wait, {step}}}]")
    after = _over(new, entered(compiled(WAIT)).enrollment, "pause", "recompute")
    assert (after.enrollment.waiting, after.enrollment.due_at) == (Waiting("timer", since=START), due)
    assert told(after)[-1] == ("pause", "waiting", said)


def test_a_date_that_is_past_by_the_new_version_lets_it_go_on() -> None:
    new = _new("steps: [{id: pause, kind: wait, until: '2026-03-01'}, {id: rest, kind: wait, for: 1d}]")
    after = _over(new, entered(compiled(WAIT)).enrollment, "pause", "recompute")
    assert (after.enrollment.step_id, after.enrollment.waiting) == ("rest", Waiting("timer", since=LATER))


_PAID = """
variables: {{order: string}}
steps: [{{id: paid, kind: wait_for_event, event: {event}, {more}timeout: 2d, exits: {{matched: end, timeout: late}}}},
  {{id: late, kind: exit}}]
"""
_BY_ORDER, _BY_INVOICE = ("match: {" + field + ': "{{ vars.order }}"}, ' for field in ("order_id", "invoice"))


@pytest.mark.parametrize("wait", ["keep", "recompute"])
@pytest.mark.parametrize("there", [_BY_INVOICE, ""])
@pytest.mark.parametrize("here", [_BY_ORDER, ""])
def test_a_wait_for_an_event_is_ended_by_what_it_says_it_waits_for(here: str, there: str, wait: WaitPolicy) -> None:
    old = entered(compiled(_PAID.format(event="paid", more=here)), variables={"order": "7"}).enrollment
    new = _new(_PAID.format(event="paid", more=there))
    after = _over(new, old, "paid", wait).enrollment
    by = here if wait == "keep" else there
    key = {_BY_ORDER: "order_id=7", _BY_INVOICE: "invoice=7", "": "cnt_1"}[by]
    assert after.waiting == Waiting("event", "paid", START, key)
    assert (after.due_at, after.catches_up) == (START + 2 * DAY, wait == "recompute")
    assert ("paid with" in explain(new, after, ())[1]) is bool(by)
    said = dict([key.split("=")]) if by else {}
    assert settled(moved(new, after, EventArrived(happened("paid", LATER, **said)), LATER))[0] is State.COMPLETED
    others = [] if not by else [{}, {"order_id": "8", "invoice": "8"}]
    for fields in others:
        event = EventArrived(happened("paid", LATER, **fields))
        assert machine.advance(new, after, event, known(), LATER) is None


def test_what_came_since_the_wait_began_counts_when_it_is_made_again() -> None:
    old = entered(compiled(_PAID.format(event="paid", more=""))).enrollment
    new = _new(_PAID.format(event="order.paid", more="").replace("timeout: 2d", "timeout: 30m"))
    after = _over(new, old, "paid", "recompute").enrollment
    assert (after.waiting, after.due_at) == (Waiting("event", "order.paid", START, "cnt_1"), START + HOUR / 2)
    early = known(arrived=(happened("order.paid", START + HOUR / 4),))
    assert settled(moved(new, after, TimerFired(), LATER, early))[0] is State.COMPLETED
    late = known(arrived=(happened("order.paid", START + HOUR / 1.5),))
    assert settled(moved(new, after, TimerFired(), LATER, late))[0] is State.EXITED


_JUDGE = "steps: [{id: ask, kind: agent_task, title: Judge, output_schema: {type: object}, timeout: 1d}]"


@pytest.mark.parametrize("text", [APPROVAL, _JUDGE])
def test_who_was_asked_is_still_asked_with_the_time_limit_of_the_new_version(text: str) -> None:
    old = entered(compiled(text)).enrollment
    assert old.waiting is not None
    subject, until = old.waiting.subject, START + 3 * DAY
    after = _over(_new(text.replace("timeout: 1d", "timeout: 3d")), old, "ask", "recompute")
    assert after.effects == (Reschedule(subject, until),)
    assert (after.enrollment.waiting, after.enrollment.due_at) == (old.waiting, until)
    assert after.enrollment.state is old.state
    kept = _over(_new(text), old, "ask", "keep")
    assert (kept.effects, kept.enrollment.due_at) == ((), START + DAY)
    if text == APPROVAL:
        decided: Stimulus = ApprovalDecided(subject, True, "mem_2")
        assert settled(moved(_new(text), after.enrollment, decided, LATER + HOUR)) == (State.EXITED, "mem_2 said yes")


@pytest.mark.parametrize(
    ("text", "withdrawn", "asked"), [(APPROVAL, CancelApproval, RequestApproval), (_JUDGE, CancelTask, CreateTask)]
)
def test_what_was_asked_is_withdrawn_where_the_step_begins_anew(
    text: str, withdrawn: type[Effect], asked: type[Effect]
) -> None:
    old = entered(compiled(text)).enrollment
    assert old.waiting is not None
    after = _over(_new(text), old, "ask", "restart")
    assert [type(effect) for effect in after.effects] == [withdrawn, asked]
    assert after.enrollment.waiting is not None
    assert after.enrollment.waiting.subject != old.waiting.subject
    gone = _over(_new(NEW), old, "rest", "restart")
    assert [type(effect) for effect in gone.effects] == [withdrawn]
    assert gone.enrollment.state is State.ACTIVE


def test_who_was_escalated_keeps_the_second_time_as_well() -> None:
    text = APPROVAL.replace("timeout: 1d", "timeout: 1d\n    roles: [approver]\n    on_timeout: escalate")
    version = compiled(text)
    late = moved(version, entered(version).enrollment, TimerFired(), START + DAY).enrollment
    moving = Migrated("ask", "recompute", "mem_1")
    after = moved(_new(text.replace("timeout: 1d", "timeout: 3d")), late, moving, START + DAY + HOUR)
    assert after.enrollment.due_at == START + 6 * DAY


_QUIET = "quiet_hours: 08:00-12:00\nsteps: [{id: mail, kind: message, channel: dm, to: ada, text: Hi}]"


@pytest.mark.parametrize(("paused", "step"), [(False, "completed"), (True, "active")])
def test_what_quiet_hours_held_is_looked_at_again_but_never_sent_in_a_pause(paused: bool, step: str) -> None:
    old = entered(compiled(_QUIET)).enrollment
    assert old.waiting == Waiting("timer", since=START)
    new, moving = _new(_QUIET.replace("08:00-12:00", "22:00-06:00")), Migrated("mail", "recompute", "mem_1")
    after = machine.advance(new, old, moving, known(), LATER, limit=0 if paused else machine.STEP_LIMIT)
    assert after is not None
    assert after.enrollment.state.value == step
    assert any(type(effect).__name__ == "SendMessage" for effect in after.effects) is not paused


@pytest.mark.parametrize("wait", ["keep", "recompute", "restart"])
def test_what_is_over_does_not_move_over(wait: WaitPolicy) -> None:
    over = entered(compiled("steps: [{id: done, kind: exit}]")).enrollment
    assert machine.advance(compiled(NEW), over, Migrated("rest", wait, "mem_1"), known(), START) is None
