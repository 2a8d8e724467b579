"""Of which steps an enrollment remembers when it came into them: waits for events count from there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from core.domain.steps.message import Message
from core.domain.steps.wait_for_event import WaitForEvent
from core.domain.workflow.version import Node


def remembered(nodes: Iterable[Node]) -> Mapping[str, bool]:
    """Return these steps; true for those that a wait names, which are remembered also once they are left.

    A message is remembered while the enrollment stands in it, because a wait right after it counts from its beginning.
    """
    steps = list(nodes)
    waits = [node.step for node in steps if isinstance(node.step, WaitForEvent)]
    messages = {node.id: False for node in steps if isinstance(node.step, Message)}
    named = {wait.since: True for wait in waits if wait.since}
    return {**messages, **named} if any(not wait.since for wait in waits) else named
