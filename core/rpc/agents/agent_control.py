"""Handlers of AgentService: holding agents, letting them go on, stopping them for good."""

from __future__ import annotations

from core.domain.enrollment import Cancelled, State
from core.domain.errors import NotFound, WrongState
from core.engine.driver import Move
from core.rpc.agents.agents import agent_message, agent_row, execution_message, held_because
from core.rpc.call import Call
from core.store.agents import agents, executions, tasks
from core.store.agents.agents import AgentState
from core.store.organizations import api_keys
from core.store.workflows import claims
from dripstone.v1 import agent_pb2 as pb
from dripstone.v1 import agent_template_pb2

_AT_ONCE = 200
MOST_STOPPED = 10_000
"""Executions that one call cancels; the same call again goes on with the rest."""


async def pause_agent(request: agent_template_pb2.PauseAgentRequest, call: Call) -> pb.Agent:
    """Hold an agent: nothing new runs and its keys are refused. Raises WrongState unless it is at work or paused."""
    row = await agent_row(call, request.agent_id, lock=True)
    if row.state not in (AgentState.ACTIVE, AgentState.PAUSED):
        raise WrongState(kind="agent", id=row.id, state=row.state, action="a pause")
    await agents.set_state(call.tx, row.id, AgentState.PAUSED, _told("Paused", call, request.reason))
    return await agent_message(call, row.id)


async def resume_agent(request: agent_template_pb2.ResumeAgentRequest, call: Call) -> pb.Agent:
    """Let a paused agent go on. Raises WrongState for one that waits for its approval, or is over."""
    row = await agent_row(call, request.agent_id, lock=True)
    if row.state not in (AgentState.ACTIVE, AgentState.PAUSED):
        raise WrongState(kind="agent", id=row.id, state=f"{row.state}: {held_because(row)}", action="going on")
    await agents.set_state(call.tx, row.id, AgentState.ACTIVE)
    return await agent_message(call, row.id)


async def stop_agent(request: agent_template_pb2.StopAgentRequest, call: Call) -> pb.StopAgentResponse:
    """Stop an agent for good, and everything that it has under way."""
    row = await agent_row(call, request.agent_id, lock=True)
    if row.state != AgentState.STOPPED:
        await agents.set_state(call.tx, row.id, AgentState.STOPPED, _told("Stopped", call, request.reason))
    cancelled = 0
    while cancelled < MOST_STOPPED and (found := await executions.standing(call.tx, row.id, _AT_ONCE)):
        ended = await _cancel(call, [one.enrollment_id for one in found], request.reason)
        cancelled += ended
        if not ended:
            break  # those that are left are none of an enrollment under way
    released = await tasks.release_of_keys(call.tx, await api_keys.principals_of_agent(call.tx, row.id))
    revoked = await api_keys.revoke_of_agent(call.tx, row.id)
    return pb.StopAgentResponse(
        agent=await agent_message(call, row.id),
        cancelled_count=cancelled,
        released_count=released,
        revoked_key_count=revoked,
    )


async def cancel_execution(request: agent_template_pb2.CancelExecutionRequest, call: Call) -> pb.Execution:
    """End an execution where it stands. Raises WrongState when it is over already."""
    row = await executions.get(call.tx, request.execution_id)
    if row is None:
        raise NotFound(kind="execution", id=request.execution_id)
    if not await _cancel(call, [row.enrollment_id], request.reason):
        raise WrongState(kind="execution", id=row.id, state=row.enrollment_state, action="being cancelled")
    return await execution_message(call, row.id)


async def _cancel(call: Call, enrollment_ids: list[str], reason: str) -> int:
    """Cancel enrollments that are under way and return how many were."""
    held = await claims.claim_by_id(call.tx, [(call.caller.org_id, id_) for id_ in enrollment_ids])
    standing = [one for one in held if not State(one.state).over]
    stimulus = Cancelled(call.caller.principal_id, reason)
    await call.parts.engine.move(call.tx, [Move(enrollment, stimulus) for enrollment in standing])
    return len(standing)


def _told(what: str, call: Call, reason: str) -> str:
    said = f": {reason.rstrip('.')}" if reason else ""
    return f"{what} by {call.caller.principal_id}{said}."
