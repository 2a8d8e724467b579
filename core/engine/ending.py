"""What the end of an enrollment means to the execution that it carries, where it carries one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from core.domain import names
from core.domain.effects import Emit
from core.domain.enrollment import State
from core.domain.trace import Transition
from core.store.agents import executions
from core.store.transaction import Transaction

EXECUTION_KEY = "exe_"
"""Enrollments that carry an execution have its id as their key."""


async def settle(tx: Transaction, transitions: Sequence[Transition]) -> None:
    """See to executions that end here: what they cost, and what their agents did."""
    over = [t.enrollment for t in transitions if t.ends and t.enrollment.key.startswith(EXECUTION_KEY)]
    if over:
        await executions.settle(tx, [(one.org_id, one.key) for one in over])


def with_execution_event(transition: Transition) -> Transition:
    """Add the event that an execution has ended, where this transition ends one."""
    enrollment = transition.enrollment
    if not (transition.ends and enrollment.key.startswith(EXECUTION_KEY)):
        return transition
    ok = enrollment.state in (State.COMPLETED, State.EXITED)
    event_type = "execution.completed" if ok else "execution.failed"
    data: dict[str, Any] = {
        "execution_id": enrollment.key,
        "workflow_id": enrollment.workflow_id,
        "enrollment_id": enrollment.id,
        "contact_id": enrollment.contact_id,
        "result": dict(enrollment.outputs),
    }
    if not ok:
        data["error"] = enrollment.end_reason
    message = names.derive("msg", enrollment.moved_at, enrollment.id, enrollment.rev, event_type)
    return replace(transition, effects=(*transition.effects, Emit(message, event_type, data)))
