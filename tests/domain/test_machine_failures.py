"""The one evaluator: what follows when a step fails — another try, another way, a dead letter, a redrive."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from core.domain import machine
from core.domain.effects import CancelApproval, KeepDeadLetter
from core.domain.enrollment import DeliveryEnded, Enrollment, EventArrived, Redriven, State, TimerFired, Waiting
from core.domain.steps.approval import Approval
from core.domain.steps.base import Context, Decision, Fail, Go
from core.domain.steps.log import Log
from core.domain.trace import Transition
from core.domain.workflow.version import Retry, Version
from tests.domain.machine_cases import (
    APPROVAL,
    DAY,
    HOUR,
    START,
    compiled,
    entered,
    happened,
    known,
    moved,
    settled,
    told,
    types,
)

MINUTE = timedelta(minutes=1)
FALLIBLE = """
steps:
  - {{id: gate, kind: filter, when: "true", exits: {{otherwise: rescue}}}}
  - {{id: work, kind: log, message: "{{{{ 10 | divided_by: vars.n }}}}"{more}}}
  - {{id: after, kind: exit, reason: after}}
  - {{id: rescue, kind: exit, reason: rescued}}
"""
MENDED = FALLIBLE.format(more="").replace("10 | divided_by: vars.n", "vars.n")


def fallible(more: str = "") -> Version:
    return compiled(FALLIBLE.format(more=more))


def letters(transition: Transition) -> list[KeepDeadLetter]:
    return [effect for effect in transition.effects if isinstance(effect, KeepDeadLetter)]


@pytest.fixture
def fragile(monkeypatch: pytest.MonkeyPatch) -> list[Decision]:
    """Let log steps decide what is in this list, in turn; afterwards they go on."""
    decisions: list[Decision] = []

    def begin(step: Log, context: Context) -> Decision:
        return decisions.pop(0) if decisions else Go("next", "done")

    monkeypatch.setattr(Log, "begin", begin)
    return decisions


BUSY = Fail("It is busy.", {"load": 9}, "BUSY", retryable=True)
WRONG = Fail("It is wrong.", {}, "WRONG")
RETRIED = """
steps:
  - {id: work, kind: log, message: x, retry: {attempts: 3, delay: 1m, factor: 10}, on_error: rescue}
  - {id: after, kind: exit, reason: after}
  - {id: rescue, kind: exit, reason: rescued}
"""


def test_a_step_that_may_succeed_later_is_tried_again_later(fragile: list[Decision]) -> None:
    fragile += [BUSY, BUSY]
    version = compiled(RETRIED)
    first = entered(version)
    assert told(first)[1] == ("work", "failed", "It is busy. Try 1 of 3; the next is at 2026-03-02 09:01 UTC.")
    assert first.trace[1].inputs == {"load": 9}
    assert (first.enrollment.state, first.enrollment.attempts) == (State.ACTIVE, 1)
    assert (first.enrollment.waiting, first.enrollment.due_at) == (Waiting("retry", "1", START), START + MINUTE)
    assert letters(first) == []
    assert machine.advance(version, first.enrollment, TimerFired(), known(), START) is None
    second = moved(version, first.enrollment, TimerFired(), START + MINUTE)
    assert (second.enrollment.attempts, second.enrollment.due_at) == (2, START + 11 * MINUTE)
    third = moved(version, second.enrollment, TimerFired(), START + 11 * MINUTE)
    assert (third.trace[0].outcome, third.enrollment.attempts) == ("ok", 0)
    assert settled(third) == (State.EXITED, "after")


def test_only_the_time_brings_the_next_try(fragile: list[Decision]) -> None:
    fragile += [BUSY]
    version = compiled(RETRIED)
    enrollment = entered(version).enrollment
    for stimulus in (EventArrived(happened("a", START)), DeliveryEnded("msg_1", True, "delivered")):
        assert machine.advance(version, enrollment, stimulus, known(), START + HOUR) is None


def test_out_of_tries_the_author_decides_and_a_dead_letter_stays(fragile: list[Decision]) -> None:
    fragile += [BUSY, BUSY, BUSY]
    version = compiled(RETRIED)
    transition = entered(version)
    for _ in range(2):
        assert transition.enrollment.due_at is not None
        transition = moved(version, transition.enrollment, TimerFired(), transition.enrollment.due_at)
    assert (transition.trace[0].outcome, transition.trace[0].exit) == ("failed", "error")
    assert settled(transition) == (State.EXITED, "rescued")
    (letter,) = letters(transition)
    assert letter == KeepDeadLetter(letter.id, "work", "log", "BUSY", "It is busy.", 3, ended=False)


def test_what_cannot_succeed_is_not_tried_again(fragile: list[Decision]) -> None:
    fragile += [WRONG]
    transition = entered(compiled(RETRIED))
    assert settled(transition) == (State.EXITED, "rescued")
    assert [letter.attempts for letter in letters(transition)] == [1]


@pytest.mark.parametrize(
    ("more", "exit", "settles", "ended"),
    [
        ("", "", (State.FAILED, "The message could not be made: divided_by"), True),
        (", on_error: fail", "", (State.FAILED, "The message could not be made: divided_by"), True),
        (", on_error: continue", "next", (State.EXITED, "after"), False),
        (", on_error: rescue", "error", (State.EXITED, "rescued"), False),
        (", on_error: end", "error", (State.COMPLETED, "completed"), False),
        (", retry: {attempts: 5}, on_error: continue", "next", (State.EXITED, "after"), False),
    ],
)
def test_a_step_that_failed_for_good_leads_where_on_error_says(
    more: str, exit: str, settles: tuple[State, str], ended: bool
) -> None:
    transition = entered(fallible(more), variables={"n": 0})
    assert (transition.trace[2].outcome, transition.trace[2].exit) == ("failed", exit)
    state, reason = settled(transition)
    assert state is settles[0]
    assert reason.startswith(settles[1])
    (letter,) = letters(transition)
    assert (letter.step_id, letter.kind, letter.failure, letter.ended) == ("work", "log", "TEMPLATE_FAILED", ended)
    assert letter.reason.startswith("The message could not be made")
    assert letter.id.startswith("dl_")


def test_a_step_that_breaks_is_a_failure_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def begin(step: Log, context: Context) -> Decision:
        raise ZeroDivisionError

    monkeypatch.setattr(Log, "begin", begin)
    transition = entered(compiled(RETRIED))
    assert [letter.failure for letter in letters(transition)] == ["STEP_BROKE"]
    assert settled(transition) == (State.EXITED, "rescued")


def test_what_was_asked_is_withdrawn_when_the_step_fails_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    version = compiled(APPROVAL)
    waiting = entered(version).enrollment
    assert waiting.waiting is not None
    monkeypatch.setattr(Approval, "on", lambda step, stimulus, context: WRONG)
    after = moved(version, waiting, TimerFired(), START + DAY)
    assert CancelApproval(waiting.waiting.subject) in after.effects
    assert after.enrollment.state is State.FAILED


def failed() -> Enrollment:
    over = entered(fallible(), variables={"n": 0}).enrollment
    assert over.state is State.FAILED
    return over


def test_a_failed_enrollment_can_be_tried_again_where_it_failed() -> None:
    after = moved(compiled(MENDED), failed(), Redriven("mem_1"), START + DAY)
    assert told(after) == [
        ("work", "entered", "mem_1 lets work be tried again."),
        ("work", "ok", "0"),
        ("after", "ended", "after"),
    ]
    assert (after.enrollment.rev, after.enrollment.state, after.enrollment.ended_at) == (2, State.EXITED, START + DAY)
    assert types(after) == ["enrollment.exited"]


def test_a_redriven_enrollment_that_fails_again_has_another_dead_letter() -> None:
    after = moved(fallible(), failed(), Redriven("mem_1"), START + DAY)
    assert after.enrollment.state is State.FAILED
    again = moved(fallible(), after.enrollment, Redriven("mem_1"), START + 2 * DAY)
    ids = [letter.id for transition in (after, again) for letter in letters(transition)]
    assert len(set(ids)) == 2


@pytest.mark.parametrize("text", ["steps: [{id: done, kind: exit}]", "steps: [{id: done, kind: log, message: x}]"])
def test_only_what_failed_can_be_redriven(text: str) -> None:
    version = compiled(text)
    assert machine.advance(version, entered(version).enrollment, Redriven("mem_1"), known(), START) is None


@pytest.mark.parametrize(
    ("factor", "delays"),
    [(1.0, [60, 60, 60]), (2.0, [60, 120, 240]), (10.0, [60, 600, 6_000])],
)
def test_the_delay_grows_by_its_factor_up_to_a_week(factor: float, delays: list[int]) -> None:
    retry = Retry(20, MINUTE, factor)
    assert [retry.delay_after(failed).total_seconds() for failed in (1, 2, 3)] == delays
    assert retry.delay_after(10_000) <= timedelta(days=7)


PASSED = """
steps:
  - {id: work, kind: update, set: {employees: "{{ vars.n }}"}, on_error: continue}
  - {id: pause, kind: wait, for: 9d}
  - {id: mail, kind: message, subject: s, text: t, await: true, exits: {sent: end}}
  - {id: tell, kind: webhook, event_type: x.y, await: true}
  - {id: ask, kind: approval, title: well, exits: {approved: end, rejected: end}}
"""


@pytest.mark.parametrize(
    ("step_id", "told_of", "effects"),
    [
        ("work", ("work", "again", "ok"), ["UpdateRecord"]),
        ("mail", ("mail", "again", "ok"), ["SendMessage"]),
        ("tell", ("tell", "again", "ok"), ["Emit"]),
        ("pause", None, []),
        ("ask", None, []),
        ("gone", None, []),
    ],
)
@pytest.mark.parametrize("over", [False, True])
def test_a_step_alone_is_carried_out_again_and_the_enrollment_stays_where_it_is(
    step_id: str, told_of: tuple[str, str, str] | None, effects: list[str], over: bool
) -> None:
    version = compiled(PASSED)
    stands = replace(entered(version).enrollment, variables={"n": 7}, skipping=True)
    if over:
        stands = replace(stands, state=State.EXITED, waiting=None, due_at=None, ended_at=START, skipping=False)
    alone = machine.advance(version, stands, Redriven("mem_1", step_id), known(), START + DAY)
    if told_of is None:
        assert alone is None
        return
    assert alone is not None
    (line,) = alone.trace
    assert (line.step_id, line.kind, line.outcome) == told_of
    assert line.reason.startswith(f"mem_1 lets {step_id} be carried out again, and nothing else. ")
    assert [type(effect).__name__ for effect in alone.effects] == effects
    assert not any(getattr(effect, "awaited", False) for effect in alone.effects)
    after = alone.enrollment
    assert replace(after, outputs=stands.outputs, messages={}) == replace(
        stands, rev=stands.rev + 1, trace_count=stands.trace_count + 1
    )


def test_a_step_alone_that_fails_again_leaves_another_letter_that_can_be_redriven() -> None:
    version = compiled(PASSED)
    stands = replace(entered(version).enrollment, variables={"n": "many"})
    alone = moved(version, stands, Redriven("mem_1", "work"), START + DAY)
    (letter,) = letters(alone)
    assert (letter.step_id, letter.kind, letter.failure, letter.ended) == ("work", "update", "BAD_VALUE", False)
    assert alone.trace[0].outcome == "failed"
