"""A wait for a condition: it ends when a change of a record makes the condition hold, or at its timeout."""

from __future__ import annotations

from datetime import timedelta

from core.domain.enrollment import EventArrived, Stimulus, TimerFired, Waiting
from core.domain.steps.base import BROKEN, Context, Decision, Fail, Go, Stay
from core.domain.steps.shapes import Scope
from core.domain.workflow import durations
from core.domain.workflow.conditions import tell
from core.domain.workflow.expressions import Expression
from core.domain.workflow.record_changes import events_that_matter, touches

TIMEOUT = "timeout"


def check(condition: Expression, scope: Scope, path: str) -> None:
    """Report a condition that no change of a record could make hold: nobody would look at it again."""
    if not events_that_matter(condition.mentions):
        hint = "Name a field of a record, such as opportunity.status; wait for events with a wait_for_event step."
        scope.add(path, "NO_RECORD", "no change of a record could make this hold", hint)


def begin(condition: Expression, timeout: timedelta | None, context: Context) -> Decision:
    """Go on at once where the condition holds already; wait otherwise. What is not known yet may come to be."""
    result = condition.evaluate(context.values)
    told = tell(condition, result)
    if result.broke:
        return Fail(f"{told}.", result.inputs, BROKEN)
    if result.holds:
        return Go("next", f"Does not wait: {told}.", inputs=result.inputs)
    until = context.now + timeout if timeout is not None else None
    limit = f", for {durations.speak(timeout)} at most" if timeout is not None else ""
    waiting = Waiting("condition", condition.text.strip(), context.now)
    return Stay(waiting, f"Waits until {condition.text.strip()}{limit}: {told}.", until, inputs=result.inputs)


def on(condition: Expression, timeout: timedelta | None, stimulus: Stimulus, context: Context) -> Decision | None:
    """Look at the condition when one of its records has changed; at the timeout, one that holds by now still wins."""
    match stimulus:
        case EventArrived(event) if touches(event, condition.mentions):
            pass
        case TimerFired():
            pass
        case _:
            return None
    result = condition.evaluate(context.values)
    told = tell(condition, result)
    if result.broke:
        return Fail(f"{told}.", result.inputs, BROKEN)
    if result.holds:
        return Go("next", f"The wait is over: {told}.", inputs=result.inputs)
    due = context.enrollment.due_at
    if timeout is None or due is None or due > context.now:
        return None
    return Go(TIMEOUT, f"Has waited for {durations.speak(timeout)}, and {told}.", inputs=result.inputs)
