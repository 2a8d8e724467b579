"""The step that gives a record to a member."""

from __future__ import annotations

from typing import Any

import pytest

from core.domain.effects import Ask, UpdateRecord
from core.domain.enrollment import Answered, State
from core.domain.steps.shapes import Lookups
from core.domain.workflow.compile import compile_document
from tests.domain.machine_cases import START, compiled, entered, known, moved, told

AMONG = """
steps:
  - {id: give, kind: assign_owner, record: lead, method: weighted, among: [{member: mem_a, weight: 3}, mem_b]}
"""


def given(transition: Any) -> list[tuple[str, Any]]:
    return [(one.record_id, one.fields) for one in transition.effects if isinstance(one, UpdateRecord)]


def test_a_certain_owner_is_set_without_asking() -> None:
    version = compiled("steps: [{id: give, kind: assign_owner, owner: mem_a}]")
    transition = entered(version)
    assert given(transition) == [("cnt_1", {"owner_id": "mem_a"})]
    assert transition.enrollment.outputs["give"] == {"owner_id": "mem_a"}
    stays = entered(version, known(owner_id="mem_a"))
    assert (given(stays), told(stays)[1][2]) == ([], "The contact stays with mem_a.")


def test_whose_turn_it_is_is_asked_and_the_answer_is_written() -> None:
    version = compiled(AMONG)
    asks = entered(version)
    (ask,) = (one for one in asks.effects if isinstance(one, Ask))
    assert (ask.service, asks.enrollment.waiting.kind, asks.enrollment.waiting.subject) == (  # type: ignore[union-attr]
        "assign_owner",
        "answer",
        ask.id,
    )
    assert ask.payload == {
        "record_id": "lead_1",
        "record_type": "lead",
        "current": None,
        "owners": [{"member": "mem_a", "weight": 3}, {"member": "mem_b", "weight": 1}],
        "method": "weighted",
        "workflow_id": "nurture",
        "step_id": "give",
    }
    answer = Answered(ask.id, True, {"owner_id": "mem_b"}, "mem_a is away.")
    answered = moved(version, asks.enrollment, answer, START)
    assert given(answered) == [("lead_1", {"owner_id": "mem_b"})]
    assert told(answered)[0][2] == "Gave the lead to mem_b. mem_a is away."


def test_without_anybody_who_can_own_it_the_step_fails_and_may_be_tried_again() -> None:
    version = compiled(AMONG.replace("weighted,", "weighted, retry: {attempts: 3, delay: 1h},"))
    asks = entered(version)
    (ask,) = (one for one in asks.effects if isinstance(one, Ask))
    answer = Answered(ask.id, False, reason="Both are away.", retryable=True)
    transition = moved(version, asks.enrollment, answer, START)
    assert transition.enrollment.state is State.ACTIVE
    assert transition.enrollment.waiting.kind == "retry"  # type: ignore[union-attr]
    assert told(transition)[0][2].startswith("Both are away.")


def test_without_a_lead_there_is_nothing_to_give() -> None:
    transition = entered(compiled(AMONG), known(tier=None))
    assert told(transition)[1][1:] == ("skipped", "There is no lead to give to anybody.")


@pytest.mark.parametrize(
    ("config", "path", "reason"),
    [
        ({}, "owner", "MISSING_KEY"),
        ({"owner": "mem_a", "among": ["mem_a"]}, "among", "CONFLICT"),
        ({"among": []}, "among", "WRONG_COUNT"),
        ({"among": ["mem_a", "mem_a"]}, "among[1]", "DUPLICATE_NAME"),
        ({"among": [{"member": "mem_a", "weight": 0}]}, "among[0].weight", "OUT_OF_RANGE"),
        ({"among": [{"memebr": "mem_a", "member": "mem_a"}]}, "among[0].memebr", "UNKNOWN_KEY"),
        ({"among": [{"member": "mem_a", "weight": 2}]}, "method", "CONFLICT"),
        ({"among": ["mem_x"]}, "among[0]", "UNKNOWN_MEMBER"),
        ({"owner": "mem_x"}, "owner", "UNKNOWN_MEMBER"),
        ({"owner": "mem_a", "method": "lottery"}, "method", "UNKNOWN_VALUE"),
        ({"routing": "inbuond"}, "routing", "UNKNOWN_ROUTING"),
        ({"routing": "inbound", "owner": "mem_a"}, "routing", "CONFLICT"),
    ],
)
def test_what_is_wrong_with_owners_is_told(config: dict[str, Any], path: str, reason: str) -> None:
    lookups = Lookups(member_ids=frozenset({"mem_a", "mem_b"}), routing_ids=frozenset({"inbound"}))
    problems = compile_document({"steps": [{"id": "a", "kind": "assign_owner", **config}]}, lookups).problems
    assert [(one.field, one.reason) for one in problems] == [(f"steps[0].{path}", reason)]


def test_a_routing_is_asked_about_the_lead_and_the_answer_is_written_already() -> None:
    version = compiled("steps: [{id: give, kind: assign_owner, routing: inbound}]")
    asks = entered(version)
    (ask,) = (one for one in asks.effects if isinstance(one, Ask))
    assert ask.payload == {
        "routing_id": "inbound",
        "lead_id": "lead_1",
        "workflow_id": "nurture",
        "step_id": "give",
    }
    answered = moved(version, asks.enrollment, Answered(ask.id, True, {"owner_id": "mem_b"}, "Given to Bob."), START)
    assert (given(answered), told(answered)[0][2]) == ([], "Given to Bob.")
    assert answered.enrollment.outputs["give"] == {"owner_id": "mem_b"}
