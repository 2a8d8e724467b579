"""Moving running enrollments to another version: who can go where, and what becomes of their wait."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.domain.enrollment import Waiting, WaitPolicy
from core.domain.frozen import frozen
from core.domain.steps.agent_task import AgentTask
from core.domain.steps.wait import Wait
from core.domain.steps.wait_for_event import WaitForEvent
from core.domain.taking_over import SENT
from core.domain.workflow.launch_gate import GATE
from core.domain.workflow.version import Node, Version

EXIT = "exit"
"""The target that ends an enrollment instead of moving it."""


@frozen
class Destination:
    """Where an enrollment goes."""

    step_id: str
    """Empty where it cannot go; `exit` where it is to end."""
    wait: WaitPolicy | None
    """What becomes of its wait; `restart` where it begins the step, None where it ends or cannot go."""
    reason: str


def destination(
    old: Version,
    new: Version,
    step_id: str,
    waiting: Waiting | None,
    steps: Mapping[str, str],
    waits: Mapping[str, WaitPolicy],
) -> Destination:
    """Return where an enrollment that stands in a step of one version goes in another.

    `steps` maps step ids where they differ. A step that is not mapped goes to the one of the same id and kind. `waits`
    says what becomes of waits, by step of the old version; usually one that is made of the same there goes on as it is,
    and another one is made again.
    """
    target = steps.get(step_id, step_id)
    if target == EXIT:
        return Destination(EXIT, None, "It ends.")
    node, before = new.steps.get(target), old.steps.get(step_id)
    if node is None:
        return _stays(f"version {new.number} has no step {target}; say which step it goes to")
    if step_id == GATE and (target != GATE or node.step.kind != "approval"):
        return _stays(f"it waits at the launch gate, which only an approval opens; {EXIT} ends it")
    same_kind = before is not None and before.step.kind == node.step.kind
    if not same_kind and step_id not in steps:
        kinds = _a(node.step.kind), _a(before.step.kind if before is not None else "unknown")
        return _stays(f"{target} is {kinds[0]} step there and {kinds[1]} step here; say which step it goes to")
    if waiting is not None and waiting.kind in SENT and not (same_kind and node.step.holds()):
        return _stays(f"it waits for the outcome of what it has sent, which {target} does not")
    wanted = waits.get(step_id)
    if waiting is None or waiting.kind == "retry" or before is None or not same_kind:
        if waiting is not None and waiting.kind != "retry" and wanted in ("keep", "recompute"):
            return _stays(f"its wait cannot go on in {target}, which is {_a(node.step.kind)} step")
        return Destination(target, "restart", f"It begins {target} anew.")
    if wanted is None:
        wanted = "keep"
        if _differs(old, new, before, node):
            wanted = "restart" if _asks_for_else(before, node) else "recompute"
    return _waiting_on(before, node, waiting, wanted)


def _waiting_on(before: Node, node: Node, waiting: Waiting, wanted: WaitPolicy) -> Destination:
    target = node.id
    if wanted == "restart":
        if waiting.kind in SENT:
            return _stays(f"{target} would send again what has been sent; keep its wait, or {EXIT} ends it")
        return Destination(target, wanted, f"It begins {target} anew.")
    if _asks_for_else(before, node):
        return _stays(f"its wait cannot go on: the answer that was asked for is not what {target} takes")
    unlike = _unlike(before, node, waiting)
    if unlike and wanted == "keep":
        return _stays(f"its wait cannot go on as it is: {unlike}")
    anew = wanted == "recompute"
    match waiting.kind:
        case "timer" if node.step.outward:
            told = f"{target} looks again whether it may act." if anew else "It stays held until the same time."
        case "timer":
            told = "Its due time is made again, from when the wait began." if anew else "It keeps its due time."
        case "event":
            since = "It listens for what is awaited there, since its wait began; what came meanwhile counts."
            told = since if anew else "It goes on listening, for the same and until the same time as before."
        case "condition":
            told = "Its condition is looked at anew." if anew else "It goes on waiting for its condition."
        case kind:
            limit = "; its time limit counts anew from then" if anew else ""
            asked = "decision" if kind == "approval" else "answer" if kind == "task" else "outcome"
            told = f"It goes on waiting for the {asked}{limit}."
    return Destination(target, wanted, told)


def _differs(old: Version, new: Version, before: Node, node: Node) -> bool:
    """Tell whether a wait would be made of something else in the other version."""
    return any(
        _written(old, before).get(key) != _written(new, node).get(key) or old.document.get(key) != new.document.get(key)
        for key in node.step.timing
    )


def _unlike(before: Node, node: Node, waiting: Waiting) -> str:
    """Return why a wait that goes on as it was begun would not end well there; empty where it does."""
    here, there = before.step, node.step
    if waiting.kind == "event" and isinstance(there, WaitForEvent) and set(waiting.events) != set(there.events):
        return f"{node.id} waits for other events"
    conditional = isinstance(there, Wait) and there.condition is not None
    if waiting.kind in ("condition", "timer") and (waiting.kind == "condition") is not conditional:
        return f"{node.id} waits for {'a condition' if conditional else 'a time'}"
    if here.longest() is not None and there.longest() is None:
        return f"{node.id} has no timeout, and so no way to go when the time is over"
    return ""


def _asks_for_else(before: Node, node: Node) -> bool:
    """Tell whether an agent has been asked for another answer than the step there takes."""
    here, there = before.step, node.step
    if not (isinstance(here, AgentTask) and isinstance(there, AgentTask)):
        return False
    return here.output_schema.written != there.output_schema.written


def _written(version: Version, node: Node) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(step for step in version.document["steps"] if step["id"] == node.id)
    return found


def _stays(reason: str) -> Destination:
    return Destination("", None, reason)


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
