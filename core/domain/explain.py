"""Why an enrollment is where it is and what comes next, in sentences made from stored facts alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from core.domain.enrollment import Enrollment, State
from core.domain.trace import TraceEntry
from core.domain.workflow.document import END
from core.domain.workflow.version import Node, Version

_ENDINGS = {
    State.COMPLETED: "It went through to the end",
    State.EXITED: "It left the workflow",
    State.FAILED: "It failed",
    State.CANCELLED: "It was cancelled",
}


def explain(version: Version, enrollment: Enrollment, trace: Sequence[TraceEntry]) -> tuple[str, str]:
    """Return why it is where it is, and what will happen next and when; `trace` may be its last part."""
    if enrollment.state.over:
        return _why_over(enrollment, trace), "Nothing more will happen."
    node = version.steps.get(enrollment.step_id)
    if node is None:
        return f"It stands at {enrollment.step_id}, which version {version.number} does not have.", "It will fail."
    came = [entry for entry in trace if entry.exit or entry.outcome == "entered"]
    here = [entry for entry in trace if entry.step_id == node.id and entry.outcome == "waiting"]
    why = [f"It stands at {node.name} of version {version.number}."]
    if came:
        last = came[-1]
        how = f"by exit {last.exit} of {last.step_id}" if last.exit else "at entry"
        why.append(f"It came there {how}, {_at(last.at)}: {last.reason}")
    if here and enrollment.waiting is not None:
        why.append(here[-1].reason)
    return " ".join(why), _next(version, enrollment, node)


def _why_over(enrollment: Enrollment, trace: Sequence[TraceEntry]) -> str:
    when = f" on {_at(enrollment.ended_at)}" if enrollment.ended_at else ""
    last = trace[-1].reason if trace else enrollment.end_reason
    return f"{_ENDINGS[enrollment.state]} at {enrollment.step_id}{when}: {last.rstrip('.')}."


def _next(version: Version, enrollment: Enrollment, node: Node) -> str:
    waiting, due = enrollment.waiting, enrollment.due_at
    if waiting is None:
        when = f" at {_at(due)}" if due else ""
        return f"{node.name} runs as soon as the engine comes to it{when}."
    match waiting.kind:
        case "timer":
            when = _at(due) if due else "an instant that is not set"
            return f"At {when} it goes on to {_target(version, node, 'next')}."
        case "event":
            sentence = f"A {waiting.subject} that fits leads to {_target(version, node, 'matched')}"
            otherwise = f"; without one it goes to {_target(version, node, 'timeout')} at {_at(due)}" if due else ""
            return f"{sentence}{otherwise}."
        case "approval":
            sentence = (
                f"A decision on {waiting.subject} leads to {_target(version, node, 'approved')} when approved, "
                f"to {_target(version, node, 'rejected')} when rejected"
            )
            otherwise = f"; without one it goes to {_target(version, node, 'timeout')} at {_at(due)}" if due else ""
            return f"{sentence}{otherwise}."
        case "delivery":
            return (
                f"The delivery of {waiting.subject} leads to {_target(version, node, 'delivered')}, "
                f"its final failure to {_target(version, node, 'failed')}."
            )


def _target(version: Version, node: Node, exit_name: str) -> str:
    target = node.exits.get(exit_name, END)
    found = version.steps.get(target)
    return found.name if found is not None else "the end"


def _at(instant: datetime | None) -> str:
    return f"{instant:%Y-%m-%d %H:%M} UTC" if instant else "no set time"
