"""The one evaluator: what happens during a pause is kept and takes effect later; running enrollments can move over."""

from __future__ import annotations

from dataclasses import replace

from core.domain import machine
from core.domain.effects import Emit, RequestApproval
from core.domain.enrollment import (
    Cancelled,
    Enrollment,
    EventArrived,
    State,
    Stimulus,
    TimerFired,
)
from core.domain.trace import Transition
from core.domain.workflow.version import Version
from tests.domain.machine_cases import (
    DAY,
    EVENT,
    HOUR,
    START,
    WAIT,
    compiled,
    entered,
    happened,
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


def test_something_that_happened_and_moves_nobody_does_not_undo_what_became_overdue() -> None:
    version = compiled("goals: [{name: won, event: deal.won, when: event.fields.amount > 100}]\n" + OUTWARD)
    overdue = replace(entered(version).enrollment, skipping=True)
    small = EventArrived(happened("deal.won", START + 2 * DAY, amount=1))
    after = moved(version, kept(overdue, small), TimerFired(), START + 5 * DAY)
    assert [(entry.step_id, entry.outcome) for entry in after.trace if entry.step_id == "tell"] == [("tell", "skipped")]


def test_what_happened_in_time_is_not_passed_over() -> None:
    version = compiled(f"{EVENT.rpartition('- ')[0]}- {{id: thanks, kind: webhook, event_type: x.y}}")
    overdue = replace(entered(version).enrollment, skipping=True)
    reply = EventArrived(happened("reply.received", START + HOUR, channel="email"))
    after = moved(version, kept(overdue, reply), TimerFired(), START + 5 * DAY)
    assert [entry.outcome for entry in after.trace if entry.kind == "webhook"] == ["ok"]


def test_an_approval_that_is_passed_over_was_not_given() -> None:
    version = compiled(OUTWARD)
    (ask,) = [entry for entry in skipped(version).trace if entry.step_id == "ask"]
    assert ask.exit == "rejected"
