"""An MCP client that takes tasks for answers, as the extension `io.modelcontextprotocol/tasks` has them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from mcp.client.extension import ClaimContext, ClientExtension, ResultClaim
from mcp.client.session import ClientSession
from mcp.types import CallToolResult, Request, Result
from pydantic import ConfigDict, Field

from mcp_server.extensions.tasks import TASKS


class TaskRequest(Request[dict[str, Any], str]):
    """A request about a task; over HTTP its id goes along in a header."""

    name_param = "taskId"


class Told(Result):
    """Whatever is answered."""

    model_config = ConfigDict(extra="allow")


class Handle(Result):
    """A task in place of an answer."""

    model_config = ConfigDict(extra="allow")

    result_type: Literal["task"] = Field(alias="resultType")
    task_id: str = Field(alias="taskId")
    status: str


class TaskClient(ClientExtension):
    """Understands tasks; a test asks for them itself."""

    identifier = TASKS

    def claims(self) -> Sequence[ResultClaim[Any]]:
        """Take a task for an answer."""
        return [ResultClaim(result_type="task", model=Handle, resolve=_not_here)]


async def _not_here(_handle: Handle, _context: ClaimContext) -> CallToolResult:
    raise AssertionError("tests take the handle as it is")


async def about(session: ClientSession, method: str, task_id: str, **more: Any) -> dict[str, Any]:
    """Send `get`, `update` or `cancel` of a task and return the answer as it came."""
    request = TaskRequest(method=f"tasks/{method}", params={"taskId": task_id, **more})
    answer = await session.send_request(request, Told)
    return answer.model_dump(by_alias=True, mode="json")
