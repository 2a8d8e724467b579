"""A task on the wire: what it tells in each state, and never more."""

from __future__ import annotations

from typing import Any

import pytest

from mcp_server.extensions.tasks import TOOL_OF, Task
from mcp_server.tools import TOOLSETS

ALWAYS = {"taskId", "status", "createdAt", "lastUpdatedAt", "ttlMs", "pollIntervalMs"}
PARTS: dict[str, Any] = {
    "questions": {"in-1": {"method": "elicitation/create"}},
    "result": {"content": []},
    "error": {"code": -32603, "message": "gone"},
}
CASES = [
    ("working", {}),
    ("input_required", {"inputRequests": PARTS["questions"]}),
    ("completed", {"result": PARTS["result"]}),
    ("failed", {"error": PARTS["error"]}),
    ("cancelled", {}),
]


@pytest.mark.parametrize(("status", "more"), CASES)
def test_a_task_tells_what_belongs_to_its_state_and_its_handle_tells_none_of_it(
    status: Any, more: dict[str, Any]
) -> None:
    task = Task("exe_1", status, "2026-03-02T09:00:00Z", "2026-03-02T09:00:01Z", **PARTS)
    assert task.handle().keys() == ALWAYS
    assert task.detailed() == task.handle() | more


def test_every_method_goes_with_tools_that_there_are() -> None:
    known = {tool.name for toolset in TOOLSETS for tool in toolset.tools}
    assert all(set(tools) <= known for tools in TOOL_OF.values())
