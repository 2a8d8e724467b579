"""A webhook whose outcome, answer or silence decides the way."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain import machine
from core.domain.effects import KeepDeadLetter
from core.domain.enrollment import DeliveryEnded, State, TimerFired, Waiting
from tests.domain.machine_cases import HOUR, START, compiled, entered, known, moved, settled

ASK = """
steps:
  - id: ask
    kind: webhook
    event_type: score.wanted
    await: true
    timeout: 2h
    answer_schema:
      type: object
      required: [score]
      properties: {score: {type: integer, minimum: 0}}
    exits: {delivered: done, failed: sad}
  - {id: done, kind: exit, reason: "{{ steps.ask.answer.score }}", result: {score: {cel: steps.ask.answer.score}}}
  - {id: sad, kind: exit, reason: "sad ({{ steps.ask.delivered }})"}
"""
OPEN = """
steps:
  - {id: ask, kind: webhook, event_type: score.wanted, await: true, exits: {failed: end}}
  - {id: done, kind: exit, reason: "{{ steps.ask.answer.value }}{{ steps.ask.answer.score }}"}
"""


def asked(version: Any) -> Any:
    enrollment = entered(version).enrollment
    assert enrollment.waiting is not None
    return enrollment, enrollment.waiting.subject


def test_an_answer_that_fits_is_seen_by_the_steps_after_it() -> None:
    version = compiled(ASK)
    enrollment, message = asked(version)
    assert enrollment.waiting == Waiting("delivery", message, START)
    assert enrollment.due_at == START + 2 * HOUR
    ended = DeliveryEnded(message, True, "delivered", 200, {"score": 7})
    after = moved(version, enrollment, ended, START + HOUR)
    assert settled(after) == (State.EXITED, "7")
    assert after.enrollment.outputs["ask"] == {
        "message_id": message,
        "delivered": True,
        "status_code": 200,
        "answer": {"score": 7},
    }
    assert after.enrollment.outputs["done"] == {"score": 7}


@pytest.mark.parametrize(
    ("answer", "misfit"),
    [
        ({"score": "high"}, "score: 'high' is not of type 'integer'"),
        ({}, "'score' is a required property"),
        (None, "None is not of type 'object'"),
        ([1], "[1] is not of type 'object'"),
        ({"score": 1, "more": "x" * 70_000}, "it has more than 65,536 bytes"),
    ],
)
def test_an_answer_that_does_not_fit_fails_the_step(answer: Any, misfit: str) -> None:
    version = compiled(ASK)
    enrollment, message = asked(version)
    after = moved(version, enrollment, DeliveryEnded(message, True, "delivered", 200, answer), START + HOUR)
    assert settled(after) == (State.FAILED, f"The answer to score.wanted does not fit its schema: {misfit}.")
    (letter,) = [effect for effect in after.effects if isinstance(effect, KeepDeadLetter)]
    assert letter.failure == "BAD_ANSWER"


def test_a_bad_answer_is_asked_for_again_where_the_author_says_so() -> None:
    version = compiled(ASK.replace("await: true", "await: true\n    retry: {attempts: 2, delay: 5m}"))
    enrollment, message = asked(version)
    after = moved(version, enrollment, DeliveryEnded(message, True, "delivered", 200, None), START + HOUR)
    assert after.enrollment.waiting == Waiting("retry", "1", START + HOUR)
    again = moved(version, after.enrollment, TimerFired(), START + 2 * HOUR)
    assert again.enrollment.waiting is not None
    assert again.enrollment.waiting.kind == "delivery"
    assert again.enrollment.waiting.subject != message


def test_silence_leads_by_timeout_and_what_comes_later_changes_nothing() -> None:
    version = compiled(ASK)
    enrollment, message = asked(version)
    after = moved(version, enrollment, TimerFired(), START + 2 * HOUR)
    assert after.trace[0].exit == "timeout"
    assert after.trace[0].reason == "No outcome of score.wanted within 2 hours; it may still arrive."
    assert settled(after) == (State.EXITED, "sad (false)")
    late = DeliveryEnded(message, True, "delivered", 200, {"score": 7})
    assert machine.advance(version, after.enrollment, late, known(), START + 3 * HOUR) is None


@pytest.mark.parametrize(
    ("answer", "kept", "reason"),
    [
        ({"score": 3}, {"score": 3}, ""),
        (3, {"value": 3}, ""),
        ([], {"value": []}, ""),
        (None, None, ""),
        ("x" * 70_000, None, " Its answer is not kept: it has more than 65,536 bytes."),
    ],
)
def test_without_a_schema_any_answer_will_do(answer: Any, kept: Any, reason: str) -> None:
    version = compiled(OPEN)
    enrollment, message = asked(version)
    after = moved(version, enrollment, DeliveryEnded(message, True, "delivered", 200, answer), START + HOUR)
    assert after.trace[0].reason == f"score.wanted was delivered with status 200.{reason}"
    assert after.enrollment.outputs["ask"].get("answer") == kept


def test_an_answer_nested_too_deeply_is_not_kept() -> None:
    answer: Any = 1
    for _ in range(900):
        answer = [answer]
    version = compiled(OPEN)
    enrollment, message = asked(version)
    after = moved(version, enrollment, DeliveryEnded(message, True, "delivered", 200, answer), START + HOUR)
    assert "nested deeper than 32" in after.trace[0].reason
    assert "answer" not in after.enrollment.outputs["ask"]


@pytest.mark.parametrize(
    ("more", "stimulus", "exit", "state", "letters"),
    [
        ("", "failed", "", State.FAILED, ["NOT_DELIVERED"]),
        ("", "timeout", "", State.FAILED, ["TIMEOUT"]),
        ("on_error: continue", "failed", "failed", State.COMPLETED, ["NOT_DELIVERED"]),
        ("exits: {failed: end}", "failed", "failed", State.COMPLETED, []),
        ("exits: {failed: end}", "timeout", "timeout", State.COMPLETED, []),
        ("exits: {timeout: end}", "failed", "", State.FAILED, ["NOT_DELIVERED"]),
        ("retry: {attempts: 2, delay: 5m}", "failed", "", State.ACTIVE, []),
        ("retry: {attempts: 2, delay: 5m}", "timeout", "", State.FAILED, ["TIMEOUT"]),
    ],
)
def test_what_was_not_delivered_failed_and_is_tried_again_or_led_on_as_its_author_says(
    more: str, stimulus: str, exit: str, state: State, letters: list[str]
) -> None:
    step = f"id: ask\n    kind: webhook\n    event_type: a.b\n    await: true\n    timeout: 2h\n    {more}"
    version = compiled(f"steps:\n  - {step}\n")
    enrollment, message = asked(version)
    happens = TimerFired() if stimulus == "timeout" else DeliveryEnded(message, False, "gone", 410)
    after = moved(version, enrollment, happens, START + 2 * HOUR)
    assert (after.trace[0].outcome, after.trace[0].exit, after.enrollment.state) == ("failed", exit, state)
    assert [effect.failure for effect in after.effects if isinstance(effect, KeepDeadLetter)] == letters
