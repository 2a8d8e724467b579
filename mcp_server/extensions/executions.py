"""Executions of the core as tasks: a task's id is its execution's, and every word about it is read from the core.

So any replica answers, and a task outlives this process. Each call goes out under the caller's own key: what that key
may not read or do, its tasks do not show or do either.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import grpc
from mcp import MCPError
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.types import INTERNAL_ERROR, INVALID_PARAMS, CallToolRequestParams, CallToolResult

from dripstone.v1 import agent_pb2, agent_template_pb2, approval_pb2, enrollment_pb2
from dripstone.v1.agent_pb2 import Execution, ExecutionState
from dripstone.v1.client import ApiError, Client
from mcp_server.admission import is_open
from mcp_server.callers import Caller, Callers
from mcp_server.confirmation import shows_forms
from mcp_server.extensions import questions
from mcp_server.extensions.questions import Question
from mcp_server.extensions.tasks import Task, understands_tasks, unknown
from mcp_server.tool import Tool, result_of
from mcp_server.tools import executions
from mcp_server.values import clip, fit, from_struct, instant

STARTS = "execute-workflow"
"""The tool whose calls become tasks."""

FOLLOWS = "get-execution"
"""The tool that tells what a task does; where it is not served, nobody could ask for one."""

_Context = ServerRequestContext[Any, Any]
_UNDER_WAY = (ExecutionState.EXECUTION_STATE_RUNNING, ExecutionState.EXECUTION_STATE_AWAITING_APPROVAL)


class ExecutionWork:
    """The work of `Tasks` in the product."""

    def __init__(self, callers: Callers, tools: Mapping[str, Tool]) -> None:
        """Serve executions to `callers`; nothing can be done in a task that could not be by one of the `tools`."""
        self._callers = callers
        self._tools = tools

    async def begin(self, params: CallToolRequestParams, ctx: _Context, call_next: CallNext) -> HandlerResult | Task:
        """Make a task of a run that was started and goes on; whoever may not read executions gets the plain answer."""
        result = await call_next(ctx)
        execution_id = _started(result) if params.name == STARTS and understands_tasks(ctx) else ""
        if not execution_id:
            return result
        client = self._client(ctx)
        try:
            if not self._is_open(FOLLOWS, await self._callers.who(ctx.request), ctx):
                return result
            execution = await _read(client, execution_id)
        except grpc.aio.AioRpcError:
            return result
        return await self._task(client, execution, ctx) if execution.state in _UNDER_WAY else result

    async def find(self, task_id: str, ctx: _Context) -> Task:
        """Return the task of an execution."""
        client = self._client(ctx)
        try:
            return await self._task(client, await _read(client, task_id), ctx)
        except grpc.aio.AioRpcError as error:
            raise _protocol_error(error) from None

    async def answer(self, task_id: str, answers: Mapping[str, Any], ctx: _Context) -> None:
        """Answer what the execution asks now, as the caller: the core decides whether they may."""
        client = self._client(ctx)
        try:
            execution = await _read(client, task_id)
            open_one = await self._question(client, execution, ctx)
            if open_one is not None and open_one.key in answers:
                key = hashlib.sha256(f"{task_id}/{open_one.key}".encode()).hexdigest()[:32]
                await questions.answer(client, open_one, answers[open_one.key], f"task-{key}")
        except questions.Unfit as unfit:
            raise MCPError(code=INVALID_PARAMS, message=str(unfit)) from None
        except grpc.aio.AioRpcError as error:
            raise _protocol_error(error) from None

    async def cancel(self, task_id: str, ctx: _Context) -> None:
        """Cancel the execution; one that has ended stays as it is."""
        request = agent_template_pb2.CancelExecutionRequest(execution_id=task_id, reason="Cancelled by its client.")
        try:
            await self._client(ctx).agents.CancelExecution(request)
        except grpc.aio.AioRpcError as error:
            if ApiError.of(error).reason != "WRONG_STATE":
                raise _protocol_error(error) from None

    def _is_open(self, tool: str, caller: Caller, ctx: _Context) -> bool:
        return is_open(ctx, caller, self._tools.get(tool))

    def _client(self, ctx: _Context) -> Client:
        return self._callers.for_request(ctx.request)

    async def _task(self, client: Client, execution: Execution, ctx: _Context) -> Task:
        ends = (execution.end_time, *(step.create_time for step in execution.steps[-1:]), execution.create_time)
        task = Task(
            id=execution.id,
            status="working",
            created=instant(execution.create_time),
            updated=next(filter(None, map(instant, ends)), ""),
        )
        match execution.state:
            case ExecutionState.EXECUTION_STATE_SUCCEEDED | ExecutionState.EXECUTION_STATE_FAILED:
                return replace(task, status="completed", result=_result(execution))
            case ExecutionState.EXECUTION_STATE_CANCELLED:
                return replace(task, status="cancelled", message=clip(execution.error, 300))
        waits = await _waits(client, execution)
        asked = await self._question(client, execution, ctx, waits)
        if asked is None:
            return replace(task, message=_said(waits))
        return replace(task, status="input_required", message=_said(waits), questions={asked.key: asked.request})

    async def _question(
        self,
        client: Client,
        execution: Execution,
        ctx: _Context,
        waits: enrollment_pb2.Enrollment | None = None,
    ) -> Question | None:
        """Return what the execution asks that this caller may answer through this client."""
        if execution.state not in _UNDER_WAY or not shows_forms(ctx.session.client_capabilities):
            return None
        waits = waits or await _waits(client, execution)
        if waits is None:
            return None
        caller = await self._callers.who(ctx.request)
        try:
            if waits.waiting.kind == "task" and self._is_open("answer-task", caller, ctx):
                task = await client.agents.GetAgentTask(agent_pb2.GetAgentTaskRequest(task_id=waits.waiting.subject))
                return questions.of_agent_task(task, caller.principal_id)
            if waits.waiting.kind == "approval" and self._is_open("decide-approval", caller, ctx):
                request = approval_pb2.GetApprovalRequest(approval_id=waits.waiting.subject)
                return questions.of_approval(await client.approvals.GetApproval(request))
        except grpc.aio.AioRpcError:
            return None  # they may answer it, but not read it
        return None


def _started(result: HandlerResult) -> str:
    """Return the execution that a call of the tool has started; empty for a preview and for a refusal."""
    if not isinstance(result, CallToolResult) or result.is_error or not isinstance(result.structured_content, dict):
        return ""
    return str(result.structured_content.get("execution_id") or "")


async def _read(client: Client, execution_id: str) -> Execution:
    return await client.agents.GetExecution(agent_pb2.GetExecutionRequest(execution_id=execution_id))


async def _waits(client: Client, execution: Execution) -> enrollment_pb2.Enrollment | None:
    """Return the enrollment that carries a run, with what it waits for; None where the caller may not read it."""
    if not execution.enrollment_id:
        return None
    try:
        return await client.enrollments.GetEnrollment(
            enrollment_pb2.GetEnrollmentRequest(enrollment_id=execution.enrollment_id)
        )
    except grpc.aio.AioRpcError:
        return None


def _said(enrollment: enrollment_pb2.Enrollment | None) -> str:
    if enrollment is None or not enrollment.waiting.kind:
        return ""
    waiting = enrollment.waiting
    what = " ".join(filter(None, (waiting.kind, waiting.subject)))
    until = f" until {instant(waiting.until)}" if waiting.until.seconds else ""
    return f"At the step {enrollment.step_id} it waits for {what}{until}."


def _result(execution: Execution) -> dict[str, Any]:
    """Return what the call would have answered had it waited for the end."""
    answer = executions.Execution(
        mode="commit",
        execution_id=execution.id,
        workflow_id=execution.workflow_id,
        agent_id=execution.agent_id,
        state=executions.execution_state(execution),
        enrollment_id=execution.enrollment_id,
        contact_id=execution.contact_id,
        result=fit(from_struct(execution.result), 3_500),
        error=clip(execution.error, 400),
        next=executions.follow_execution(execution),
    )
    result = result_of(answer)
    result.is_error = execution.state == ExecutionState.EXECUTION_STATE_FAILED
    told: dict[str, Any] = json.loads(result.model_dump_json(by_alias=True, exclude_none=True))
    return told


def _protocol_error(error: grpc.aio.AioRpcError) -> MCPError:
    told = ApiError.of(error)
    if told.code == "NOT_FOUND":
        return unknown()
    wrong = ("INVALID_ARGUMENT", "FAILED_PRECONDITION", "PERMISSION_DENIED", "ALREADY_EXISTS")
    code = INVALID_PARAMS if told.code in wrong else INTERNAL_ERROR
    message = told.message if told.code in wrong else "The Dripstone core could not answer."
    return MCPError(code=code, message=message, data={"reason": told.reason})
