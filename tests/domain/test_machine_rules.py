"""The one evaluator: goals and exit rules end an enrollment wherever it stands; conversions are credited."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.domain import machine
from core.domain.effects import CancelApproval, Emit, WithdrawMessages
from core.domain.enrollment import EventArrived, EventFacts, Redriven, State, TimerFired
from core.domain.trace import Conversion
from tests.domain.machine_cases import DAY, HOUR, START, compiled, entered, happened, known, moved, settled, told, types

RULES = """
goals:
  - {name: won, event: deal.won, when: event.fields.amount > 100}
  - {name: customer, when: contact.lifecycle_stage == "customer"}
exit_on:
  - {name: replied, events: [reply.received, call.answered]}
  - {name: gone, when: contact.unsubscribed == true}
steps:
  - {id: which, kind: split, ways: {a: 1, b: 1}, exits: {a: pause, b: pause}}
  - {id: pause, kind: wait, for: 2d}
  - {id: more, kind: wait, for: 2d}
"""


@pytest.mark.parametrize(
    ("event", "state", "reason"),
    [
        (
            happened("deal.won", START + HOUR, amount=200),
            State.COMPLETED,
            "Goal won: deal.won came in and event.fields.amount > 100 holds.",
        ),
        (happened("reply.received", START + HOUR), State.EXITED, "Exit rule replied: reply.received came in."),
        (happened("call.answered", START + HOUR), State.EXITED, "Exit rule replied: call.answered came in."),
    ],
)
def test_an_event_that_a_rule_names_ends_the_enrollment(event: EventFacts, state: State, reason: str) -> None:
    version = compiled(RULES)
    after = moved(version, entered(version).enrollment, EventArrived(event), START + HOUR)
    assert (after.enrollment.state, told(after)[0][2]) == (state, reason)
    assert after.trace[0].inputs["event.id"] == event.id
    assert after.enrollment.ended_at == START + HOUR
    assert types(after) == ["enrollment.completed" if state is State.COMPLETED else "enrollment.exited"]


@pytest.mark.parametrize(
    "event",
    [
        happened("deal.won", START + HOUR, amount=50),
        happened("deal.won", START + HOUR),
        happened("deal.lost", START + HOUR, amount=200),
        happened("reply.received", START - HOUR),
    ],
)
def test_an_event_that_meets_no_rule_changes_nothing(event: EventFacts) -> None:
    version = compiled(RULES)
    assert machine.advance(version, entered(version).enrollment, EventArrived(event), known(), START + HOUR) is None


def test_the_event_that_enrolled_does_not_end_the_enrollment() -> None:
    version = compiled(RULES)
    reply = happened("reply.received", START)
    waiting = entered(version, event=reply).enrollment
    assert machine.advance(version, waiting, EventArrived(reply), known(), START + HOUR) is None


@pytest.mark.parametrize(
    ("fields", "settles"),
    [
        (
            {"lifecycle_stage": "customer"},
            (State.COMPLETED, 'Goal customer: contact.lifecycle_stage == "customer" holds.'),
        ),
        ({"unsubscribed": True}, (State.EXITED, "Exit rule gone: contact.unsubscribed == true holds.")),
        (
            {"unsubscribed": True, "lifecycle_stage": "customer"},
            (State.COMPLETED, 'Goal customer: contact.lifecycle_stage == "customer" holds.'),
        ),
    ],
)
def test_a_condition_is_looked_at_before_every_move_goals_first(
    fields: dict[str, object], settles: tuple[State, str]
) -> None:
    version = compiled(RULES)
    after = moved(version, entered(version).enrollment, TimerFired(), START + 2 * DAY, known(**fields))
    assert (after.enrollment.state, told(after)[0][2]) == settles


@pytest.mark.parametrize(
    ("limit", "ended"),
    [
        (machine.STEP_LIMIT, (State.EXITED, "Exit rule gone: contact.unsubscribed == true holds.")),
        (0, (State.ACTIVE, "")),  # its workflow is paused: it stands, and the rules are looked at when it goes on
    ],
)
def test_a_condition_is_looked_at_before_a_failed_step_is_tried_again(limit: int, ended: tuple[State, str]) -> None:
    version = compiled(RULES)
    failed = replace(entered(version).enrollment, state=State.FAILED, waiting=None, due_at=None)
    again = machine.advance(version, failed, Redriven("mem_1"), known(unsubscribed=True), START + DAY, limit=limit)
    assert again is not None
    assert settled(again) == ended
    assert [entry.outcome for entry in again.trace] == ["entered", "ended"][: 1 + (limit > 0)]


def test_a_goal_credits_the_ways_that_splits_had_chosen() -> None:
    version = compiled(RULES)
    waiting = entered(version).enrollment
    event = happened("deal.won", START + HOUR, amount=200)
    after = moved(version, waiting, EventArrived(event), START + HOUR)
    way = waiting.outputs["which"]["variant"]
    assert after.conversions == (Conversion("", "won"), Conversion("which", way))
    assert after.enrollment.converted == "won"


@pytest.mark.parametrize(
    ("by", "again", "counts"),
    [("enrollment", False, True), ("enrollment", True, True), ("contact", False, True), ("contact", True, False)],
)
def test_a_draw_by_contact_counts_the_first_enrollment_of_each(by: str, again: bool, counts: bool) -> None:
    version = compiled(f"""
goals: [{{name: won, event: deal.won}}]
steps:
  - {{id: which, kind: split, by: {by}, ways: {{a: 1, b: 1}}, exits: {{a: pause, b: pause}}}}
  - {{id: pause, kind: wait, for: 1d, next: which}}
""")
    first = entered(version, again=again)
    way = Conversion("which", first.enrollment.outputs["which"]["variant"])
    assert first.draws == ((way,) if counts else ())
    round_again = moved(version, first.enrollment, TimerFired(), START + DAY)
    assert round_again.draws == ()  # the same one, who came by before
    won = moved(version, first.enrollment, EventArrived(happened("deal.won", START + HOUR)), START + HOUR)
    assert won.conversions == (Conversion("", "won"), *((way,) if counts else ()))


def test_an_exit_rule_converts_nobody() -> None:
    version = compiled(RULES)
    reply = happened("reply.received", START + HOUR)
    after = moved(version, entered(version).enrollment, EventArrived(reply), START + HOUR)
    assert (after.conversions, after.enrollment.converted) == ((), "")


def test_a_rule_withdraws_what_was_asked_of_others() -> None:
    version = compiled("""
exit_on: [{name: replied, event: reply.received}]
steps: [{id: ask, kind: approval, title: Send?, exits: {rejected: end}}]
""")
    waiting = entered(version).enrollment
    assert waiting.waiting is not None
    after = moved(version, waiting, EventArrived(happened("reply.received", START + HOUR)), START + HOUR)
    assert after.effects[0] == CancelApproval(waiting.waiting.subject)
    assert settled(after)[0] is State.EXITED


def test_a_rule_comes_before_the_wait_for_the_same_event() -> None:
    version = compiled("""
exit_on: [{name: replied, event: reply.received}]
steps: [{id: reply, kind: wait_for_event, event: reply.received, timeout: 1d}]
""")
    after = moved(
        version, entered(version).enrollment, EventArrived(happened("reply.received", START + HOUR)), START + HOUR
    )
    assert settled(after) == (State.EXITED, "Exit rule replied: reply.received came in.")


@pytest.mark.parametrize(
    ("rules", "listens"),
    [("", False), ("exit_on: [{event: a}]\n", True), ("goals: [{name: x, when: 'true == false'}]\n", False)],
)
def test_an_entry_tells_whether_events_may_end_it_at_any_time(rules: str, listens: bool) -> None:
    version = compiled(f"{rules}steps: [{{id: pause, kind: wait, for: 2d}}]")
    first = entered(version)
    assert first.listens is listens
    assert moved(version, first.enrollment, TimerFired(), START + 2 * DAY).listens is False


def test_the_end_tells_why_to_the_outside() -> None:
    version = compiled(RULES)
    reply = happened("reply.received", START + HOUR)
    (told_outside,) = moved(version, entered(version).enrollment, EventArrived(reply), START + HOUR).effects
    assert isinstance(told_outside, Emit)
    assert told_outside.data["reason"] == "Exit rule replied: reply.received came in."
    assert told_outside.data["step_id"] == "pause"


def test_what_was_written_and_has_not_left_is_withdrawn_by_a_rule_and_kept_by_an_exit_step() -> None:
    sends = "{id: mail, kind: message, subject: Hi, text: Hello}"
    rules = "exit_on: [{name: replied, event: reply.received}]\n"
    version = compiled(f"{rules}steps: [{sends}, {{id: pause, kind: wait, for: 1d}}]")
    reply = EventArrived(happened("reply.received", START + HOUR))
    ruled = moved(version, entered(version).enrollment, reply, START + HOUR)
    assert ruled.effects[0] == WithdrawMessages("enr_1", "Exit rule replied: reply.received came in.")
    left = entered(compiled(f"steps: [{sends}, {{id: leave, kind: exit}}]"))
    assert left.enrollment.state is State.EXITED
    assert not [effect for effect in left.effects if isinstance(effect, WithdrawMessages)]
