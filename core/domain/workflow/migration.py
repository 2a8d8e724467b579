"""Moving running enrollments to another version: who can go where, and whether they go on waiting or begin anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from core.domain.enrollment import Waiting
from core.domain.steps.wait_for_event import WaitForEvent
from core.domain.workflow.launch_gate import GATE
from core.domain.workflow.version import Node, Version

EXIT = "exit"
"""The target that ends an enrollment instead of moving it."""

_OUTCOMES = frozenset({"delivery", "message"})
"""Waits for something that has left already: beginning such a step anew would send it twice."""


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an enrollment goes."""

    step_id: str
    """Empty where it cannot go; `exit` where it is to end."""
    keeps_waiting: bool
    """It goes on waiting as it does; otherwise it begins the step anew."""
    reason: str


def destination(
    old: Version, new: Version, step_id: str, waiting: Waiting | None, steps: Mapping[str, str]
) -> Destination:
    """Return where an enrollment that stands in a step of one version goes in another.

    `steps` maps step ids where they differ. A step that is not mapped goes to the one of the same id and kind.
    """
    target = steps.get(step_id, step_id)
    if target == EXIT:
        return Destination(EXIT, False, "It ends.")
    node, before = new.steps.get(target), old.steps.get(step_id)
    if node is None:
        return Destination("", False, f"version {new.number} has no step {target}; say which step it goes to")
    if step_id == GATE and (target != GATE or node.step.kind != "approval"):
        return Destination("", False, f"it waits at the launch gate, which only an approval opens; {EXIT} ends it")
    same_kind = before is not None and before.step.kind == node.step.kind
    if not same_kind and step_id not in steps:
        kind = before.step.kind if before is not None else "unknown"
        reason = f"{target} is {_a(node.step.kind)} step there and {_a(kind)} step here; say which step it goes to"
        return Destination("", False, reason)
    if waiting is not None and waiting.kind in _OUTCOMES and not (same_kind and node.step.holds()):
        return Destination("", False, f"it waits for the outcome of {waiting.subject}, which {target} does not")
    if waiting is None or waiting.kind == "retry" or not same_kind:
        return Destination(target, False, f"It begins {target} anew.")
    return _waiting_on(node, waiting, target)


def _waiting_on(node: Node, waiting: Waiting, target: str) -> Destination:
    if waiting.kind == "event":
        step = node.step
        if isinstance(step, WaitForEvent) and set(waiting.events) != set(step.events):
            return Destination(target, False, f"{target} waits for other events there, so it begins anew.")
        return Destination(target, True, "It goes on listening, until the same time as before.")
    if waiting.kind == "timer":
        return Destination(target, True, "It keeps its due time.")
    return Destination(target, True, f"It goes on waiting for the {waiting.kind}.")


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
