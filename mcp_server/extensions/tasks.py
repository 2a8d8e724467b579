"""Tasks (SEP-2663): a call that takes its time is answered with a handle, under which a client asks what became of it.

The extension keeps nothing. What tasks there are, and what a caller may do with them, its `Work` knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.server.extension import Extension, MethodBinding
from mcp.server.mcpserver import require_client_extension
from mcp.types import HEADER_MISMATCH, INVALID_PARAMS, CallToolRequestParams, RequestParams
from pydantic import Field

TASKS = "io.modelcontextprotocol/tasks"
TOOL_OF = {
    "tasks/get": ("get-execution",),
    "tasks/update": ("answer-task", "decide-approval"),
    "tasks/cancel": ("execute-workflow",),
}
"""The tools that do as much as a method does: a caller who may use none of them may not use the method."""

MOST_ANSWERS = 20
"""Answers that one update brings."""

_REVISIONS = frozenset({"2026-07-28"})
_Context = ServerRequestContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """A task as it is now."""

    id: str
    status: Literal["working", "input_required", "completed", "failed", "cancelled"]
    created: str
    """ISO 8601, as the others."""
    updated: str
    message: str = ""
    poll_ms: int = 2_000
    """After how long it is worth asking again."""
    ttl_ms: int | None = None
    """How long it can be asked for; None for as long as the core keeps it."""
    questions: Mapping[str, Any] = field(default_factory=dict)
    """Requests to the client's person, by a key that is never used for another one."""
    result: Mapping[str, Any] | None = None
    """What the call would have answered, once it is completed."""
    error: Mapping[str, Any] | None = None
    """The protocol's error, where it failed by one."""

    def handle(self) -> dict[str, Any]:
        """Return what stands for the answer of the call that began it."""
        told: dict[str, Any] = {
            "taskId": self.id,
            "status": self.status,
            "createdAt": self.created,
            "lastUpdatedAt": self.updated,
            "ttlMs": self.ttl_ms,
            "pollIntervalMs": self.poll_ms,
        }
        return told | ({"statusMessage": self.message} if self.message else {})

    def detailed(self) -> dict[str, Any]:
        """Return the whole of it: with its questions, its result or its error."""
        match self.status:
            case "input_required":
                return self.handle() | {"inputRequests": dict(self.questions)}
            case "completed":
                return self.handle() | {"result": dict(self.result or {})}
            case "failed":
                return self.handle() | {"error": dict(self.error or {})}
            case _:
                return self.handle()


class Work(Protocol):
    """What tasks are made of: executions of the core, or the fixtures of the conformance suite."""

    async def begin(self, params: CallToolRequestParams, ctx: _Context, call_next: CallNext) -> HandlerResult | Task:
        """Answer a call: as any server does, or with a task that can be asked for already."""
        ...

    async def find(self, task_id: str, ctx: _Context) -> Task:
        """Return a task of this caller. Raises MCPError, by `unknown` where there is none."""
        ...

    async def answer(self, task_id: str, answers: Mapping[str, Any], ctx: _Context) -> None:
        """Take answers to questions of a task; those to no open question are left aside. Raises MCPError."""
        ...

    async def cancel(self, task_id: str, ctx: _Context) -> None:
        """End a task where it can still be ended. Raises MCPError."""
        ...


class _TaskParams(RequestParams):
    task_id: str = Field(alias="taskId", max_length=200)


class _UpdateParams(_TaskParams):
    input_responses: dict[str, dict[str, Any]] = Field(
        alias="inputResponses", default_factory=dict, max_length=MOST_ANSWERS
    )


class Tasks(Extension):
    """The extension: three methods, and calls that may be answered by a task."""

    identifier = TASKS

    def __init__(self, work: Work) -> None:
        """Serve the tasks of `work`."""
        self._work = work

    def methods(self) -> Sequence[MethodBinding]:
        """Return the methods, for clients of the revision that has them."""
        return [
            MethodBinding("tasks/get", _TaskParams, self._get, _REVISIONS),
            MethodBinding("tasks/update", _UpdateParams, self._update, _REVISIONS),
            MethodBinding("tasks/cancel", _TaskParams, self._cancel, _REVISIONS),
        ]

    async def intercept_tool_call(
        self, params: CallToolRequestParams, ctx: _Context, call_next: CallNext
    ) -> HandlerResult:
        """Answer a call with a task where its work says so."""
        begun = await self._work.begin(params, ctx, call_next)
        return {"resultType": "task", **begun.handle()} if isinstance(begun, Task) else begun

    async def _get(self, ctx: _Context, params: _TaskParams) -> HandlerResult:
        _admit(ctx, params)
        return (await self._work.find(params.task_id, ctx)).detailed()

    async def _update(self, ctx: _Context, params: _UpdateParams) -> HandlerResult:
        _admit(ctx, params)
        await self._work.answer(params.task_id, params.input_responses, ctx)
        return {}

    async def _cancel(self, ctx: _Context, params: _TaskParams) -> HandlerResult:
        _admit(ctx, params)
        await self._work.cancel(params.task_id, ctx)
        return {}


def understands_tasks(ctx: _Context) -> bool:
    """Tell whether the client of a request takes a task for an answer."""
    capabilities = ctx.session.client_capabilities
    return bool(capabilities and capabilities.extensions and TASKS in capabilities.extensions)


def unknown() -> MCPError:
    """Return the error for a task that is not there, or not for this caller: which of the two is not told."""
    return MCPError(code=INVALID_PARAMS, message="There is no such task. A taskId is the answer of execute-workflow.")


def _admit(ctx: _Context, params: _TaskParams) -> None:
    require_client_extension(ctx, TASKS)
    headers = getattr(ctx.request, "headers", None)  # over stdio and in memory there are none
    if headers is not None and headers.get("mcp-name") != params.task_id:
        raise MCPError(code=HEADER_MISMATCH, message="The header Mcp-Name must be the taskId.")
