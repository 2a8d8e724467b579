"""Handlers of AgentService: deployed agents, and executions of a workflow on a payload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from google.protobuf.struct_pb2 import Struct
from sqlalchemy import Row, select

from core import ids
from core.domain import names
from core.domain.enrollment import State
from core.domain.errors import AlreadyExists, NotFound, invalid
from core.rpc.call import Call
from core.rpc.convert import from_struct, to_struct, to_timestamp
from core.rpc.enrolling import active_version, enter_contacts, refusal
from core.rpc.listing import listed
from core.store import agents as store
from core.store import paging
from dripstone.v1 import agent_pb2 as pb
from dripstone.v1 import enrollment_pb2

_STATES = {
    State.ACTIVE: pb.EXECUTION_STATE_RUNNING,
    State.AWAITING_APPROVAL: pb.EXECUTION_STATE_AWAITING_APPROVAL,
    State.COMPLETED: pb.EXECUTION_STATE_SUCCEEDED,
    State.EXITED: pb.EXECUTION_STATE_SUCCEEDED,
    State.FAILED: pb.EXECUTION_STATE_FAILED,
    State.CANCELLED: pb.EXECUTION_STATE_CANCELLED,
}
_FILTERED = {"agent_id": "string", "workflow_id": "string", "contact_id": "string"}
_CONTACT_FIELDS = (
    "email", "first_name", "last_name", "company_name", "lead_ref", "contact_id", "phone", "timezone",
)  # fmt: skip


async def create_agent(request: pb.CreateAgentRequest, call: Call) -> pb.Agent:
    """Deploy an agent that runs a published workflow."""
    agent_id = request.agent_id or ids.mint("agt", call.now)
    if not names.is_slug(agent_id):
        raise invalid("agent_id", "NOT_A_SLUG", "an id has lower-case letters, digits and hyphens", "Try my-agent.")
    await active_version(call, request.workflow_id)
    row = {
        "id": agent_id,
        "display_name": request.display_name,
        "workflow_id": request.workflow_id,
        "created_at": call.now,
    }
    if not await call.tx.insert(store.agents, [row], on_conflict="ignore"):
        raise AlreadyExists(kind="agent", id=agent_id)
    return await _agent_message(call, agent_id)


async def get_agent(request: pb.GetAgentRequest, call: Call) -> pb.Agent:
    """Return one agent."""
    return await _agent_message(call, request.agent_id)


async def list_agents(request: pb.ListAgentsRequest, call: Call) -> pb.ListAgentsResponse:
    """Return a page of agents, newest first."""
    rows, token = await paging.page(
        call.tx, select(store.agents), store.agents.c.id, request.page_size, request.page_token
    )
    return pb.ListAgentsResponse(agents=[_agent(row) for row in rows], next_page_token=token)


async def execute(request: pb.ExecuteRequest, call: Call) -> pb.Execution:
    """Run an agent on a payload and return at once."""
    if request.type != "workflow":
        raise invalid("type", "UNKNOWN_VALUE", f"{request.type!r} cannot be run", "Use workflow.")
    agent = await _agent_row(call, request.agent_id)
    return await _run(call, agent.workflow_id, request.agent_id, request.input)


async def execute_workflow(request: pb.ExecuteWorkflowRequest, call: Call) -> pb.Execution:
    """Run a workflow on a payload and return at once."""
    return await _run(call, request.workflow_id, "", request.input)


async def get_execution(request: pb.GetExecutionRequest, call: Call) -> pb.Execution:
    """Return one execution as it is now."""
    row = await store.get_execution(call.tx, request.execution_id)
    if row is None:
        raise NotFound(kind="execution", id=request.execution_id)
    return _execution(row)


async def list_executions(request: pb.ListExecutionsRequest, call: Call) -> pb.ListExecutionsResponse:
    """Return a page of executions, newest first."""
    statement = store.executions_with_enrollments()
    rows, token = await listed(call.tx, request, statement, store.executions, _FILTERED)
    return pb.ListExecutionsResponse(executions=[_execution(row) for row in rows], next_page_token=token)


async def _run(call: Call, workflow_id: str, agent_id: str, payload: Struct) -> pb.Execution:
    version = await active_version(call, workflow_id)
    execution_id = ids.mint("exe", call.now)
    contact = _contact(from_struct(payload))
    contact.variables.CopyFrom(payload)
    contact.key = execution_id
    (result,) = await enter_contacts(call, version, [contact], "", path="input")
    if result.outcome != enrollment_pb2.ENROLL_OUTCOME_ENROLLED:
        raise refusal(result)
    row = {
        "id": execution_id,
        "agent_id": agent_id,
        "workflow_id": workflow_id,
        "version": version.number,
        "enrollment_id": result.enrollment_id,
        "contact_id": result.contact_id,
        "input": from_struct(payload),
        "created_at": call.now,
    }
    await call.tx.insert(store.executions, [row])
    stored = await store.get_execution(call.tx, execution_id)
    assert stored is not None
    return _execution(stored)


def _contact(payload: Mapping[str, Any]) -> enrollment_pb2.ContactInput:
    """Return the contact that a payload names; its other values are the run's variables."""
    given: dict[str, Any] = {name: payload[name] for name in _CONTACT_FIELDS if isinstance(payload.get(name), str)}
    if not (given.get("email") or given.get("contact_id") or given.get("lead_ref")):
        raise invalid(
            "input",
            "NO_CONTACT",
            "the payload names no contact",
            "Give email, contact_id or lead_ref in it.",
        )
    return enrollment_pb2.ContactInput(**given)


async def _agent_row(call: Call, agent_id: str) -> Row[Any]:
    row = await store.get_agent(call.tx, agent_id)
    if row is None:
        raise NotFound(kind="agent", id=agent_id)
    return row


async def _agent_message(call: Call, agent_id: str) -> pb.Agent:
    return _agent(await _agent_row(call, agent_id))


def _agent(row: Row[Any]) -> pb.Agent:
    return pb.Agent(
        id=row.id,
        display_name=row.display_name,
        workflow_id=row.workflow_id,
        create_time=to_timestamp(row.created_at),
    )


def _execution(row: Row[Any]) -> pb.Execution:
    state = State(row.enrollment_state)
    outputs: Mapping[str, Any] = row.enrollment_data.get("outputs", {})
    return pb.Execution(
        id=row.id,
        agent_id=row.agent_id,
        workflow_id=row.workflow_id,
        version=row.version,
        enrollment_id=row.enrollment_id,
        contact_id=row.contact_id,
        state=_STATES[state],
        input=to_struct(row.input),
        result=to_struct(outputs),
        error=row.end_reason if state in (State.FAILED, State.CANCELLED) else "",
        create_time=to_timestamp(row.created_at),
        end_time=to_timestamp(row.ended_at),
    )
