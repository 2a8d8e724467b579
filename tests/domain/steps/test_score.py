"""The step that qualifies."""

from __future__ import annotations

import pytest

from core.domain.effects import Ask
from core.domain.enrollment import Answered
from core.domain.steps.shapes import Lookups
from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse
from tests.domain.machine_cases import START, compiled, entered, known, moved, told

SCORE = """
steps:
  - {id: judge, kind: score, model: inbound, exits: {qualified: hot, disqualified: end}}
  - {id: rest, kind: log, message: "{{ steps.judge.decision }}", next: end}
  - {id: hot, kind: branch, cases: [{name: high, when: steps.judge.score > 80}]}
"""
OUTPUTS = {"decision": "qualified", "score": 84, "fit": 50, "engagement": 34, "tier": "A", "owner": "mem_a"}


def test_the_lead_is_qualified_and_the_decision_has_its_way() -> None:
    version = compiled(SCORE)
    asks = entered(version)
    (ask,) = (one for one in asks.effects if isinstance(one, Ask))
    assert (ask.service, ask.payload) == (
        "qualify",
        {"model_id": "inbound", "contact_id": "cnt_1", "lead_id": "lead_1"},
    )
    answered = moved(version, asks.enrollment, Answered(ask.id, True, OUTPUTS), START)
    assert told(answered)[0] == ("judge", "ok", "Qualified with 84 points, tier A.")
    assert [(entry.step_id, entry.exit) for entry in answered.trace[:2]] == [("judge", "qualified"), ("hot", "high")]
    assert answered.enrollment.outputs["judge"] == OUTPUTS


@pytest.mark.parametrize("decision", ["nurture", "needs_info", "needs_approval"])
def test_a_decision_without_a_way_of_its_own_goes_on(decision: str) -> None:
    version = compiled(SCORE)
    asks = entered(version, known(tier=None))
    (ask,) = (one for one in asks.effects if isinstance(one, Ask))
    answered = moved(version, asks.enrollment, Answered(ask.id, True, {**OUTPUTS, "decision": decision}), START)
    assert [(entry.step_id, entry.exit) for entry in answered.trace[:1]] == [("judge", "next")]


def test_what_cannot_be_qualified_fails() -> None:
    version = compiled(SCORE)
    asks = entered(version)
    (ask,) = (one for one in asks.effects if isinstance(one, Ask))
    failed = moved(version, asks.enrollment, Answered(ask.id, False, reason="No model is published."), START)
    assert failed.enrollment.end_reason == "No model is published."


def test_a_model_that_is_not_there_is_told() -> None:
    problems = compile_document(parse(SCORE), Lookups(model_ids=frozenset({"inbound2"}))).problems
    assert [(one.field, one.reason, one.hint) for one in problems] == [
        ("steps[0].model", "UNKNOWN_MODEL", "Did you mean inbound2?")
    ]
