"""Handlers of AgentService: the tasks that workflows hand to agents."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row

from core.domain.errors import NotFound
from core.rpc.call import Call
from core.rpc.changes import etag_of, expect
from core.rpc.convert import from_struct, to_struct, to_timestamp
from core.rpc.listing import listed
from core.store.agents import tasks
from core.store.agents.tasks import TaskState
from core.store.control import usage
from core.store.control.usage import Used
from core.store.workflows import claims
from dripstone.v1 import agent_pb2 as pb

_FILTERED = {name: "string" for name in ("state", "workflow_id", "contact_id", "enrollment_id", "step_id")}
_STATES = {state: pb.AgentTaskState.Value(f"AGENT_TASK_STATE_{state.name}") for state in TaskState}


async def list_agent_tasks(request: pb.ListAgentTasksRequest, call: Call) -> pb.ListAgentTasksResponse:
    """Return a page of tasks, newest first."""
    rows, token = await listed(call.tx, request, tasks.listing(now=call.now), tasks.agent_tasks, _FILTERED)
    return pb.ListAgentTasksResponse(tasks=[_message(row, call.now) for row in rows], next_page_token=token)


async def get_agent_task(request: pb.GetAgentTaskRequest, call: Call) -> pb.AgentTask:
    """Return one task."""
    return await _read(request.task_id, call)


async def claim_agent_task(request: pb.ClaimAgentTaskRequest, call: Call) -> pb.AgentTask:
    """Take a task for a while. Raises WrongState when another agent has it, or it is over, and EtagMismatch."""
    before = await tasks.get(call.tx, request.task_id, lock=True)
    claimed = await tasks.claim(call.tx, request.task_id, call.caller.principal_id)
    _expect(before, request.etag)
    return _message(claimed, call.now)


async def answer_agent_task(request: pb.AnswerAgentTaskRequest, call: Call) -> pb.AgentTask:
    """Answer a task and let its enrollment go on with the answer, in one transaction.

    Raises NotFound, WrongState, EtagMismatch, and Invalid where the answer does not fit.
    """
    # The enrollment is held before its task, in the order in which the engine writes them.
    row = await tasks.get(call.tx, request.task_id)
    if row is None:
        raise NotFound(kind="agent task", id=request.task_id)
    await claims.claim_by_id(call.tx, [(call.caller.org_id, row.enrollment_id)])
    before = await tasks.get(call.tx, request.task_id, lock=True)
    output = from_struct(request.output)
    outcome = await tasks.answer(call.tx, request.task_id, call.caller.principal_id, output)
    _expect(before, request.etag)
    if call.caller.agent_id:
        await usage.add(call.tx, call.caller.org_id, [Used(usage.AGENT, call.caller.agent_id, "tasks", 1)])
    await call.parts.engine.ended(call.tx, [(outcome.org_id, outcome.enrollment_id, outcome.stimulus)])
    return await _read(request.task_id, call)


async def release_agent_task(request: pb.ReleaseAgentTaskRequest, call: Call) -> pb.AgentTask:
    """Give a task back."""
    return _message(await tasks.release(call.tx, request.task_id, call.caller.principal_id), call.now)


def _expect(before: Row[Any] | None, etag: str) -> None:
    """Refuse a change, which is taken back then, that was made for another version of the task."""
    if before is not None:
        expect("agent task", before.id, given=etag, current=_etag(before))


def _etag(row: Row[Any]) -> str:
    return etag_of(row.state, row.claimed_by, row.answered_by)


async def _read(task_id: str, call: Call) -> pb.AgentTask:
    row = await tasks.get(call.tx, task_id)
    if row is None:
        raise NotFound(kind="agent task", id=task_id)
    return _message(row, call.now)


def _message(row: Row[Any], now: datetime) -> pb.AgentTask:
    return pb.AgentTask(
        id=row.id,
        state=_STATES[tasks.state_now(row, now)],
        enrollment_id=row.enrollment_id,
        workflow_id=row.workflow_id,
        step_id=row.step_id,
        contact_id=row.contact_id,
        title=row.title,
        instructions=row.instructions,
        input=to_struct(row.input),
        output_schema=to_struct(row.output_schema),
        output=None if row.output is None else to_struct(row.output),
        agent_id=row.answered_by or row.claimed_by,
        claim_expire_time=to_timestamp(row.claim_expires_at),
        expire_time=to_timestamp(row.expires_at),
        create_time=to_timestamp(row.created_at),
        answer_time=to_timestamp(row.answered_at),
        etag=_etag(row),
    )
