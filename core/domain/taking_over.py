"""What becomes of an enrollment that a migration moves to another version: its wait goes on, is made again, or ends."""

from __future__ import annotations

from dataclasses import replace

from core.domain.effects import Reschedule
from core.domain.enrollment import Enrollment, Migrated, Waiting, WaitPolicy
from core.domain.run import Run
from core.domain.steps.base import Stay
from core.domain.workflow.version import Node

ASKED = frozenset({"approval", "task"})
"""Waits for somebody whom the step has asked."""

SENT = frozenset({"delivery", "message"})
"""Waits for the outcome of what has left already: beginning such a step anew would send it twice."""

_HOW = {
    "keep": "it goes on waiting as it does",
    "recompute": "its wait is made again, from when it began",
    "restart": "it begins there anew",
}


def take_over(run: Run, enrollment: Enrollment, moved: Migrated, limit: int) -> None:
    """Move an enrollment; the run's version is the one it goes to."""
    number, waiting = run.version.number, enrollment.waiting
    way = f"from {enrollment.step_id} to {moved.step_id}"
    reason = f"Moved by {moved.actor} from version {enrollment.version} to {number}, {way}; {_HOW[moved.wait]}."
    run.note(enrollment.step_id, "enrollment", "entered", reason)
    run.put(version=number)
    run.carried = tuple(run.ways())
    node = run.version.steps.get(moved.step_id)
    if node is None or waiting is None or moved.wait == "restart" or _would_act(node, waiting, moved.wait):
        run.withdraw()
        _go_on(run, moved, moved.step_id, limit)
        return
    run.put(step_id=moved.step_id)
    if moved.wait == "recompute":
        _make_again(run, node, waiting, moved, limit)


def _go_on(run: Run, moved: Migrated, step_id: str, limit: int) -> None:
    """Carry out steps, unless a goal or an exit rule of the version that it goes to ends it before that."""
    left = run.enrollment.step_id
    if limit > 0:  # during a pause no step is begun, and the rules are looked at when it goes on
        run.put(step_id=moved.step_id)  # the version may not have the one that it leaves
        if run.ruled_out(moved):
            return
        run.put(step_id=left)
    run.walk(step_id, limit)


def _would_act(node: Node, waiting: Waiting, wait: WaitPolicy) -> bool:
    """Tell whether to make the wait again is to act, now: what quiet hours hold has not been sent."""
    return wait == "recompute" and waiting.kind == "timer" and node.step.outward


def _make_again(run: Run, node: Node, waiting: Waiting, moved: Migrated, limit: int) -> None:
    """Let a wait be what it would be had this version begun it when it began."""
    shifted, began = run.enrollment.shifted, run.enrollment.waits_since
    asks = waiting.kind in ASKED | SENT
    decision = _still_asked(run, node, waiting) if asks else run.decide(node, None, began)
    if isinstance(decision, Stay) and decision.until is not None:
        decision = replace(decision, until=decision.until + shifted)
    following = run.take(node, decision) if decision is not None else None
    if isinstance(decision, Stay):
        run.put(shifted=shifted)  # what a pause has moved stays moved
        if run.enrollment.catches_up:
            run.put(began_at=began)
    if following is not None:
        _go_on(run, moved, following, limit - 1)


def _still_asked(run: Run, node: Node, waiting: Waiting) -> Stay:
    """Go on waiting for the very thing that was asked or sent, with the time limit of this version."""
    longest, until = node.step.longest(), None
    if longest is not None:
        times = 2 if waiting.key else 1  # others were asked as well, with the same time again
        until = (waiting.since or run.now) + times * longest
    expires_at = None if until is None else until + run.enrollment.shifted
    limit = f", until {until:%Y-%m-%d %H:%M} UTC at most" if until is not None else ""
    reason = f"Goes on waiting for {waiting.subject}{limit}."
    effects = (Reschedule(waiting.subject, expires_at),) if waiting.kind in ASKED else ()
    return Stay(waiting, reason, until, run.enrollment.state, effects)
