"""What a document that compiles may not do as its author means it."""

from __future__ import annotations

import pytest

from core.domain.workflow.advice import advise
from tests.domain.machine_cases import compiled

GOAL = "goals: [{name: won, event: deal.won}]"
SENT = "{id: mail, kind: message, subject: Hi, text: Hello}"


@pytest.mark.parametrize(
    ("head", "steps", "told"),
    [
        (GOAL, [SENT], True),
        (GOAL, [SENT, "{id: watch, kind: wait, for: 7d}"], False),
        (GOAL, [SENT, "{id: watch, kind: wait, at: '09:00'}"], False),
        (GOAL, [SENT, "{id: reply, kind: wait_for_event, event: deal.won, timeout: 7d}"], False),
        (GOAL, [SENT, "{id: done, kind: goal, name: mailed}"], False),
        ("goals: [{name: won, when: contact.employees > 5}]", [SENT], False),
        ("title: None", [SENT], False),
    ],
)
def test_a_split_after_which_nothing_waits_shows_no_result(head: str, steps: list[str], told: bool) -> None:
    split = "{id: ab, kind: split, ways: {a: 50, b: 50}, exits: {a: mail, b: mail}}"
    listed = "".join(f"\n  - {step}" for step in ["{id: before, kind: wait, for: 1d}", split, *steps])
    found = advise(compiled(f"{head}\nsteps:{listed}"))
    assert [(one.field, one.reason) for one in found] == ([("steps[1]", "NO_RESULT")] if told else [])
