"""The step that enrolls in another workflow."""

from __future__ import annotations

import pytest

from core.domain.effects import Ask
from core.domain.enrollment import Answered
from core.domain.steps.shapes import Lookups
from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse
from tests.domain.machine_cases import START, compiled, entered, moved, told

ENROLL = """
steps:
  - id: over
    kind: enroll
    workflow: renewal
    key: "{{ vars.order }}"
    variables: {tier: "{{ lead.tier }}"}
    exits: {not_enrolled: sad}
  - {id: fine, kind: exit, reason: "{{ steps.over.enrollment_id }}"}
  - {id: sad, kind: exit, reason: "{{ steps.over.outcome }}"}
"""


def test_the_contact_is_enrolled_with_key_and_variables() -> None:
    version = compiled(ENROLL)
    asks = entered(version, variables={"order": "o-7"}, hops=2)
    (ask,) = (one for one in asks.effects if isinstance(one, Ask))
    assert ask.service == "enroll"
    assert ask.payload == {
        "workflow_id": "renewal",
        "contact_id": "cnt_1",
        "key": "o-7",
        "variables": {"tier": "B"},
        "hops": 3,
    }
    answer = Answered(ask.id, True, {"outcome": "enrolled", "enrollment_id": "enr_9"})
    done = moved(version, asks.enrollment, answer, START)
    assert done.enrollment.end_reason == "enr_9"
    assert told(done)[0] == ("over", "ok", "Enrolled in renewal: enr_9.")


@pytest.mark.parametrize("outcome", ["already_enrolled", "suppressed", "not_eligible"])
def test_who_is_not_enrolled_may_have_a_way_of_their_own(outcome: str) -> None:
    version = compiled(ENROLL)
    asks = entered(version)
    (ask,) = (one for one in asks.effects if isinstance(one, Ask))
    done = moved(version, asks.enrollment, Answered(ask.id, True, {"outcome": outcome}), START)
    assert (done.enrollment.end_reason, done.trace[0].outcome) == (outcome, "skipped")


def test_without_such_a_way_they_go_on() -> None:
    version = compiled("steps: [{id: over, kind: enroll, workflow: renewal}, {id: fine, kind: exit}]")
    asks = entered(version)
    (ask,) = (one for one in asks.effects if isinstance(one, Ask))
    goes_on = moved(version, asks.enrollment, Answered(ask.id, True, {"outcome": "suppressed"}), START)
    assert [entry.step_id for entry in goes_on.trace[:2]] == ["over", "fine"]


def test_a_ring_of_workflows_ends() -> None:
    transition = entered(compiled(ENROLL), hops=8)
    assert transition.enrollment.end_reason == (
        "renewal would be number 9 of workflows in a row; at most 8 are allowed."
    )
    assert not [one for one in transition.effects if isinstance(one, Ask)]


def test_an_enrollment_that_breaks_fails_the_step() -> None:
    version = compiled(ENROLL)
    asks = entered(version)
    (ask,) = (one for one in asks.effects if isinstance(one, Ask))
    failed = moved(version, asks.enrollment, Answered(ask.id, False, reason="renewal is archived."), START)
    assert failed.enrollment.end_reason == "renewal is archived."


def test_a_workflow_that_is_not_there_is_told() -> None:
    problems = compile_document(parse(ENROLL), Lookups(workflow_ids=frozenset({"renewals"}))).problems
    assert [(one.field, one.reason, one.hint) for one in problems] == [
        ("steps[0].workflow", "UNKNOWN_WORKFLOW", "Did you mean renewals?")
    ]
