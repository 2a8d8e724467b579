"""What a document that compiles may not do as its author means it: told beside the problems, and stops nothing."""

from __future__ import annotations

from collections.abc import Iterator

from core.domain.errors import Violation
from core.domain.workflow.version import Node, Version


def advise(version: Version) -> tuple[Violation, ...]:
    """Return what an author should look at again, in the order of the steps."""
    return tuple(_splits_without_result(version))


def _splits_without_result(version: Version) -> Iterator[Violation]:
    """Yield splits of which no way can show a conversion: goals are heard until an enrollment ends, and not after."""
    goals = [rule.name for rule in version.rules if rule.kind == "goal" and rule.events]
    for index, node in enumerate(version.steps.values()):
        if not goals or node.step.kind != "split":
            continue
        if any(one.step.holds() or one.step.kind in ("wait", "goal") for one in _after(version, node)):
            continue
        message = (
            f"no way of {node.id} waits for anything, so enrollments end before {' or '.join(goals)} can be reached, "
            "and the comparison of the ways stays empty"
        )
        hint = "End with a wait of as long as it may take, such as {id: watch, kind: wait, for: 7d}."
        yield Violation(f"steps[{index}]", "NO_RESULT", message, hint)


def _after(version: Version, node: Node) -> Iterator[Node]:
    """Yield every step that may come after one."""
    ahead, seen = list(node.exits.values()), {node.id}
    while ahead:
        following = version.steps.get(ahead.pop())
        if following is not None and following.id not in seen:
            seen.add(following.id)
            ahead += following.exits.values()
            yield following
