"""What every step may have, whatever its kind: id, title, exits, retry, on_error."""

from __future__ import annotations

from datetime import timedelta

import pytest

from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse
from core.domain.workflow.version import Retry


def _problems(step: str) -> list[tuple[str, str]]:
    text = f"steps:\n  - {{id: a, kind: log, message: x, {step}}}\n  - {{id: z, kind: exit}}"
    return [(one.field.removeprefix("steps[0]."), one.reason) for one in compile_document(parse(text)).problems]


@pytest.mark.parametrize(
    ("step", "problems"),
    [
        ("retry: 3", [("retry", "WRONG_TYPE")]),
        ("retry: {}", [("retry.attempts", "OUT_OF_RANGE")]),
        ("retry: {attempts: 1}", [("retry.attempts", "OUT_OF_RANGE")]),
        ("retry: {attempts: 21}", [("retry.attempts", "OUT_OF_RANGE")]),
        ("retry: {attempts: '3'}", [("retry.attempts", "OUT_OF_RANGE")]),
        ("retry: {attempts: true}", [("retry.attempts", "OUT_OF_RANGE")]),
        ("retry: {attempts: 3, delay: 60}", [("retry.delay", "WRONG_TYPE")]),
        ("retry: {attempts: 3, delay: soon}", [("retry.delay", "NOT_A_DURATION")]),
        ("retry: {attempts: 3, delay: 8d}", [("retry.delay", "OUT_OF_RANGE")]),
        ("retry: {attempts: 3, factor: 0.5}", [("retry.factor", "OUT_OF_RANGE")]),
        ("retry: {attempts: 3, factor: 11}", [("retry.factor", "OUT_OF_RANGE")]),
        ("retry: {attempts: 3, times: 2}", [("retry.times", "UNKNOWN_KEY")]),
        ("on_error: 3", [("on_error", "WRONG_TYPE")]),
        ("on_error: ''", [("on_error", "WRONG_TYPE")]),
        ("on_error: {goto: z}", [("on_error", "WRONG_TYPE")]),
        ("on_error: nowhere", [("on_error", "UNKNOWN_TARGET")]),
        ("exits: {error: z}", [("exits.error", "UNKNOWN_EXIT")]),
        ("exits: {nxt: z}", [("exits.nxt", "UNKNOWN_EXIT")]),
        ("exits: {next: ''}", [("exits.next", "WRONG_TYPE")]),
        ("next: 3", [("next", "WRONG_TYPE")]),
        ("next: end, exits: {next: z}", [("next", "CONFLICT")]),
        ("title: 3", [("title", "WRONG_TYPE")]),
        (f"title: {'x' * 201}", [("title", "WRONG_TYPE")]),
        ("timeout: 3d", [("timeout", "UNKNOWN_KEY")]),
        ("on_eror: fail", [("on_eror", "UNKNOWN_KEY")]),
        (
            "retry: {attempts: 0, factor: x, tries: 1}, on_error: [z], exits: {nxt: 3}, titel: x, title: 4",
            [
                ("exits.nxt", "WRONG_TYPE"),
                ("retry.tries", "UNKNOWN_KEY"),
                ("retry.attempts", "OUT_OF_RANGE"),
                ("retry.factor", "OUT_OF_RANGE"),
                ("on_error", "WRONG_TYPE"),
                ("title", "WRONG_TYPE"),
                ("titel", "UNKNOWN_KEY"),
            ],
        ),
    ],
)
def test_a_mistake_in_what_all_steps_have_is_found(step: str, problems: list[tuple[str, str]]) -> None:
    assert _problems(step) == problems


@pytest.mark.parametrize(
    ("step", "field", "hint"),
    [
        ("retry: {atempts: 3}", "retry.atempts", "Did you mean attempts?"),
        ("on_error: contnue", "on_error", "Did you mean continue?"),
        ("on_eror: fail", "on_eror", "Did you mean on_error?"),
        ("retrys: {attempts: 3}", "retrys", "Did you mean retry?"),
        ("next: ennd", "exits.next", "Did you mean end?"),
        ("exits: {nxt: z}", "exits.nxt", "Did you mean next?"),
    ],
)
def test_a_misspelt_name_is_told_the_nearest(step: str, field: str, hint: str) -> None:
    text = f"steps:\n  - {{id: a, kind: log, message: x, {step}}}\n  - {{id: z, kind: exit}}"
    hints = {one.field.removeprefix("steps[0]."): one.hint for one in compile_document(parse(text)).problems}
    assert hints[field] == hint


def test_retry_and_on_error_are_in_the_version() -> None:
    text = """
steps:
  - {id: tell, kind: webhook, event_type: x.y, retry: {attempts: 5, delay: 30s, factor: 1.5}, on_error: sorry}
  - {id: note, kind: log, message: x, retry: {attempts: 2}, on_error: continue, next: end}
  - {id: sorry, kind: exit}
"""
    version = compile_document(parse(text)).version
    assert version is not None
    tell, note = version.steps["tell"], version.steps["note"]
    assert tell.retry == Retry(5, timedelta(seconds=30), 1.5)
    assert (tell.on_error, dict(tell.exits)) == ("goto", {"next": "note", "error": "sorry"})
    assert note.retry == Retry(2, timedelta(minutes=1), 2)
    assert (note.on_error, dict(note.exits)) == ("continue", {"next": "end"})


def test_a_step_that_only_failures_lead_to_is_reachable() -> None:
    text = """
steps:
  - {id: a, kind: log, message: x, on_error: sorry, next: end}
  - {id: sorry, kind: exit}
"""
    assert compile_document(parse(text)).problems == ()


def test_a_failure_that_leads_back_without_a_wait_is_a_busy_loop() -> None:
    (problem,) = compile_document(parse("steps: [{id: a, kind: log, message: x, on_error: a}]")).problems
    assert (problem.field, problem.reason) == ("steps[0]", "LOOP_WITHOUT_WAIT")
