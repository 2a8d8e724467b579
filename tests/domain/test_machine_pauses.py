"""The one evaluator: what happens during a pause is kept and takes effect later; running enrollments can move over."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.domain import machine
from core.domain.effects import CancelApproval, Emit, RequestApproval
from core.domain.enrollment import (
    ApprovalDecided,
    Cancelled,
    Enrollment,
    EventArrived,
    Migrated,
    State,
    Stimulus,
    TimerFired,
    Waiting,
)
from core.domain.trace import Transition
from core.domain.workflow.version import Version
from tests.domain.machine_cases import (
    APPROVAL,
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
    settled,
    told,
)

OUTWARD = """
steps:
  - {id: pause, kind: wait, for: 1d}
  - {id: tell, kind: webhook, event_type: x.y}
  - {id: note, kind: log, message: noted}
  - {id: ask, kind: approval, title: Send?, exits: {approved: good, rejected: rest}}
  - {id: rest, kind: wait, for: 1d}
  - {id: again, kind: webhook, event_type: x.y}
  - {id: good, kind: exit, reason: good}
"""


def kept(enrollment: Enrollment, *stimuli: Stimulus) -> Enrollment:
    for position, stimulus in enumerate(stimuli):
        transition = machine.hold(enrollment, stimulus, START + position * HOUR)
        assert transition is not None
        enrollment = transition.enrollment
    return enrollment


def test_what_happens_during_a_pause_is_kept() -> None:
    enrollment = entered(compiled(EVENT)).enrollment
    reply = EventArrived(happened("reply.received", START + HOUR, channel="email"))
    transition = machine.hold(enrollment, reply, START + HOUR)
    assert transition is not None
    assert transition.enrollment == replace(enrollment, rev=2, moved_at=START + HOUR, held=(reply,))
    assert (transition.trace, transition.effects) == ((), ())


def test_only_so_much_is_kept_and_the_newest_stays() -> None:
    events = [EventArrived(happened(f"e{number}", START)) for number in range(machine.MOST_HELD + 5)]
    assert kept(entered(compiled(WAIT)).enrollment, *events).held == tuple(events[5:])


def test_nothing_is_kept_for_what_is_over() -> None:
    over = entered(compiled("steps: [{id: done, kind: exit}]")).enrollment
    assert machine.hold(over, TimerFired(), START) is None


def test_what_was_kept_takes_effect_in_its_order_one_at_a_time() -> None:
    version = compiled(EVENT)
    other = EventArrived(happened("other", START + HOUR))
    reply = EventArrived(happened("reply.received", START + 2 * HOUR, channel="email"))
    later = EventArrived(happened("other", START + 3 * HOUR))
    held = kept(entered(version).enrollment, other, reply, later)
    after = moved(version, held, TimerFired(), START + DAY)
    assert after.trace[0].exit == "matched"
    assert after.enrollment.rev == held.rev + 1
    assert settled(after)[0] is State.COMPLETED
    assert after.enrollment.held == ()


def test_the_rest_of_what_was_kept_waits_for_the_next_turn() -> None:
    version = compiled(
        "steps: [{id: a, kind: wait_for_event, event: a, timeout: 9d}, {id: b, kind: wait_for_event, event: b}]"
    )
    first, second = (EventArrived(happened(name, START + hours * HOUR)) for name, hours in (("a", 1), ("b", 2)))
    held = kept(entered(version).enrollment, first, second)
    after = moved(version, held, TimerFired(), START + HOUR)
    assert (after.enrollment.step_id, after.enrollment.held) == ("b", (second,))


def test_what_was_kept_and_matters_no_more_is_let_go() -> None:
    version = compiled(WAIT)
    held = kept(entered(version).enrollment, EventArrived(happened("other", START)))
    after = moved(version, held, TimerFired(), START + HOUR)
    assert after.enrollment == replace(held, held=(), rev=held.rev + 1, moved_at=START + HOUR)
    assert after.trace == ()


def test_a_timer_that_fell_due_during_the_pause_fires_after_what_was_kept() -> None:
    version = compiled(WAIT)
    held = kept(entered(version).enrollment, EventArrived(happened("other", START)))
    after = moved(version, held, TimerFired(), START + 5 * DAY)
    assert told(after)[0] == ("pause", "ok", "The wait of 2 days is over.")


def test_a_paused_enrollment_can_be_cancelled() -> None:
    version = compiled(WAIT)
    held = kept(entered(version).enrollment, EventArrived(happened("other", START)))
    after = moved(version, held, Cancelled("mem_1"), START + HOUR)
    assert (after.enrollment.state, after.enrollment.held) == (State.CANCELLED, ())


def skipped(version: Version) -> Transition:
    due = replace(entered(version).enrollment, skipping=True)
    return moved(version, due, TimerFired(), START + 5 * DAY)


def test_what_became_overdue_is_passed_over_up_to_the_next_wait() -> None:
    version = compiled(OUTWARD)
    after = skipped(version)
    passed = "Passed over: it fell due while the workflow was paused."
    assert told(after) == [
        ("pause", "ok", "The wait of 1 day is over."),
        ("tell", "skipped", passed),
        ("note", "ok", "noted"),
        ("ask", "skipped", passed),
        ("rest", "waiting", "Waits 1 day, until 2026-03-08 09:00 UTC."),
    ]
    assert [effect for effect in after.effects if isinstance(effect, Emit | RequestApproval)] == []
    assert after.enrollment.skipping is False
    then = moved(version, after.enrollment, TimerFired(), START + 6 * DAY)
    assert [effect.event_type for effect in then.effects if isinstance(effect, Emit)] == ["x.y", "enrollment.exited"]


def test_an_approval_that_is_passed_over_was_not_given() -> None:
    version = compiled(OUTWARD)
    (ask,) = [entry for entry in skipped(version).trace if entry.step_id == "ask"]
    assert ask.exit == "rejected"


NEW = """
steps:
  - {id: hello, kind: log, message: Hi again}
  - {id: rest, kind: wait, for: 5d}
"""


def test_an_enrollment_that_moves_over_may_go_on_waiting_as_it_does() -> None:
    old = entered(compiled(WAIT)).enrollment
    new = replace(compiled(NEW), number=4)
    after = moved(new, old, Migrated("rest", True, "mem_1", "pln_1"), START + HOUR)
    assert after.enrollment == replace(
        old, version=4, step_id="rest", rev=2, moved_at=START + HOUR, trace_count=old.trace_count + 1
    )
    reason = "Moved by mem_1 from version 3 to 4, from pause to rest; it goes on waiting there."
    assert told(after) == [("pause", "entered", reason)]
    done = moved(new, after.enrollment, TimerFired(), START + 2 * DAY)
    assert settled(done) == (State.COMPLETED, "completed")


def test_an_enrollment_that_moves_over_may_begin_a_step_anew() -> None:
    old = entered(compiled(WAIT)).enrollment
    new = replace(compiled(NEW), number=4)
    after = moved(new, old, Migrated("hello", False, "mem_1"), START + HOUR)
    assert [entry.step_id for entry in after.trace] == ["pause", "hello", "rest"]
    assert after.enrollment.waiting == Waiting("timer", since=START + HOUR)
    assert (after.enrollment.version, after.enrollment.due_at) == (4, START + HOUR + 5 * DAY)


def test_moving_over_withdraws_what_was_asked() -> None:
    old = entered(compiled(APPROVAL)).enrollment
    assert old.waiting is not None
    after = moved(replace(compiled(NEW), number=4), old, Migrated("rest", False, "mem_1"), START + HOUR)
    assert after.effects == (CancelApproval(old.waiting.subject),)
    assert after.enrollment.state is State.ACTIVE


def test_an_approval_that_is_kept_still_decides_after_moving_over() -> None:
    version = compiled(APPROVAL)
    old = entered(version).enrollment
    assert old.waiting is not None
    new = replace(version, number=4)
    after = moved(new, old, Migrated("ask", True, "mem_1"), START + HOUR)
    assert after.effects == ()
    decided = ApprovalDecided(old.waiting.subject, True, "mem_2")
    assert settled(moved(new, after.enrollment, decided, START + 2 * HOUR)) == (State.EXITED, "mem_2 said yes")


@pytest.mark.parametrize("keep", [True, False])
def test_what_is_over_does_not_move_over(keep: bool) -> None:
    over = entered(compiled("steps: [{id: done, kind: exit}]")).enrollment
    assert machine.advance(compiled(NEW), over, Migrated("rest", keep, "mem_1"), known(), START) is None
