from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core.domain.control.approval_rule import Mode, OnTimeout, Rule
from core.domain.effects import CancelApproval, EscalateApproval, KeepDeadLetter, RequestApproval
from core.domain.enrollment import ApprovalDecided, State, Stimulus, TimerFired
from core.domain.trace import Transition
from core.domain.workflow.compile import compile_document
from core.domain.workflow.launch_gate import is_refused, is_wanted, with_gate
from core.domain.workflow.version import Version
from tests.domain.machine_cases import START, entered, moved

ENDS = {"approved": "end", "rejected": "end"}


def step(**config: Any) -> dict[str, Any]:
    return {"id": "ask", "kind": "approval", "title": "Go on?", **config}


def problems(**config: Any) -> list[tuple[str, str]]:
    return [(one.field, one.reason) for one in compile_document({"steps": [step(**config)]}).problems]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"exits": {"rejected": "end"}}, []),
        ({}, [("steps[0].exits.rejected", "MISSING_EXIT")]),
        ({"on_reject": "cancel"}, []),
        ({"on_reject": "cancel", "timeout": "1d"}, [("steps[0].exits.timeout", "MISSING_EXIT")]),
        ({"on_reject": "fail", "timeout": "1d", "on_timeout": "cancel"}, []),
        ({"on_reject": "fail", "exits": {"rejected": "end"}}, [("steps[0].exits.rejected", "UNKNOWN_EXIT")]),
        ({"exits": ENDS, "mode": "quorum"}, [("steps[0].required_count", "OUT_OF_RANGE")]),
        ({"exits": ENDS, "mode": "quorum", "required_count": 2, "roles": ["approver"]}, []),
        ({"exits": ENDS, "required_count": 2}, [("steps[0].required_count", "CONFLICT")]),
        ({"exits": ENDS, "mode": "all"}, [("steps[0].mode", "CONFLICT")]),
        ({"exits": ENDS, "roles": ["aprover"]}, [("steps[0].roles[0]", "UNKNOWN_VALUE")]),
        ({"exits": ENDS, "on_timeout": "approve"}, [("steps[0].on_timeout", "CONFLICT")]),
        ({"exits": ENDS, "timeout": "1d", "on_timeout": "escalate"}, [("steps[0].on_timeout", "CONFLICT")]),
        ({"exits": ENDS, "timeout": "1d", "escalate_to": ["mem_1"]}, [("steps[0].escalate_to", "CONFLICT")]),
    ],
)
def test_what_cannot_work_is_found_at_publication(config: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    assert problems(**config) == expected


def asked(**config: Any) -> tuple[Version, Transition, RequestApproval]:
    version = compile_document({"steps": [step(**config)]}).version
    assert version is not None
    begun = entered(version)
    (request,) = [one for one in begun.effects if isinstance(one, RequestApproval)]
    return version, begun, request


def after(version: Version, before: Transition, stimulus: Stimulus, hours: int = 1) -> Transition:
    return moved(version, before.enrollment, stimulus, START + timedelta(hours=hours))


def test_who_decides_goes_with_the_request() -> None:
    _, _, request = asked(mode="quorum", required_count=2, members=["mem_1", "mem_2"], timeout="4h", exits=ENDS)
    assert request.rule == Rule(Mode.QUORUM, 2, (), ("mem_1", "mem_2"), timedelta(hours=4), OnTimeout.GO_TO_STEP)


@pytest.mark.parametrize(("way", "state"), [("cancel", State.EXITED), ("fail", State.FAILED)])
def test_a_rejection_ends_the_enrollment_where_the_step_says_so(way: str, state: State) -> None:
    version, begun, request = asked(on_reject=way)
    over = after(version, begun, ApprovalDecided(request.id, False, "mem_1", "No."))
    assert over.enrollment.state is state
    assert over.trace[-1 if way == "cancel" else 0].reason.startswith("mem_1 rejected it: No.")
    assert [one.failure for one in over.effects if isinstance(one, KeepDeadLetter)] == (["REJECTED"] * (way == "fail"))


@pytest.mark.parametrize(
    ("way", "state"), [("cancel", State.EXITED), ("fail", State.FAILED), ("approve", State.COMPLETED)]
)
def test_time_runs_out_as_the_step_says_and_the_request_is_withdrawn(way: str, state: State) -> None:
    version, begun, request = asked(on_timeout=way, timeout="2h", exits=ENDS)
    over = after(version, begun, TimerFired(), hours=2)
    assert over.enrollment.state is state
    assert CancelApproval(request.id) in over.effects


def test_others_are_asked_once_with_the_same_time_again() -> None:
    version, begun, request = asked(
        on_timeout="escalate", timeout="2h", roles=["approver"], exits={**ENDS, "timeout": "end"}
    )
    escalated = after(version, begun, TimerFired(), hours=2)
    until = START + timedelta(hours=4)
    assert escalated.effects == (EscalateApproval(request.id, until),)
    assert (escalated.enrollment.state, escalated.enrollment.due_at) == (State.AWAITING_APPROVAL, until)
    late = after(version, escalated, TimerFired(), hours=4)
    assert (late.enrollment.state, CancelApproval(request.id) in late.effects) == (State.COMPLETED, True)
    decided = after(version, escalated, ApprovalDecided(request.id, True, "mem_admin", ""), hours=3)
    assert decided.enrollment.state is State.COMPLETED


def test_publication_puts_a_gate_first_where_somebody_wants_one() -> None:
    log = {"id": "a", "kind": "log", "message": "hi"}
    plain: dict[str, Any] = {"title": "T", "steps": [log]}
    assert is_wanted(plain, True)
    assert not is_wanted(plain, False)
    assert is_wanted({**plain, "require_default_approval_gate": True}, False)
    assert not is_wanted({**plain, "require_default_approval_gate": False}, True)
    assert not is_wanted({"steps": [step(exits=ENDS)]}, True)  # it begins with an approval of its own
    # What anybody passes without being approved is no gate, whatever it is called.
    passed: list[dict[str, Any]] = [
        {**log, "id": "launch_gate"},
        step(exits=ENDS, timeout="1m", on_timeout="approve"),
        step(exits={"rejected": "a"}),
        step(exits={"rejected": "end", "timeout": "a"}, timeout="1m"),
    ]
    assert [is_wanted({"steps": [one, log]}, True) for one in passed] == [True] * 4
    free = {**plain, "require_default_approval_gate": False}
    assert (is_refused(free, True), is_refused(free, False), is_refused(plain, True)) == (True, False, False)
    gated = compile_document(with_gate(plain)).version
    assert gated is not None
    assert (gated.entry, gated.steps["launch_gate"].exits["approved"]) == ("launch_gate", "a")
