"""Handlers of AgentService: deployed agents, and executions of a workflow on a payload."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from google.protobuf.struct_pb2 import Struct
from sqlalchemy import Row

from core import ids
from core.domain import names
from core.domain.agents import prices
from core.domain.control.budget import KINDS
from core.domain.control.digest import digest
from core.domain.enrollment import State
from core.domain.errors import AgentHeld, AlreadyExists, Invalid, NotFound, Violation, invalid
from core.domain.nearest import did_you_mean
from core.rpc.admission.permission import spender
from core.rpc.agents.agent_templates import to_message
from core.rpc.approvals.approval_messages import read_rule
from core.rpc.call import Call
from core.rpc.convert import from_struct, to_struct, to_timestamp
from core.rpc.enrollments import previewed
from core.rpc.enrollments.enrolling import active_version, enter_contacts, refusal
from core.rpc.listing import listed
from core.store.agents import agent_templates, executions
from core.store.agents import agents as store
from core.store.agents.agents import AgentState
from core.store.control import approvals, budgets, usage
from core.store.control.approvals import NewApproval
from core.store.control.usage import Used
from core.store.organizations import api_keys
from core.store.webhooks import deliveries
from dripstone.v1 import agent_pb2 as pb
from dripstone.v1 import enrollment_pb2
from dripstone.v1.agent_template_pb2 import AgentTemplate

_STATES = {
    State.ACTIVE: pb.EXECUTION_STATE_RUNNING,
    State.AWAITING_APPROVAL: pb.EXECUTION_STATE_AWAITING_APPROVAL,
    State.COMPLETED: pb.EXECUTION_STATE_SUCCEEDED,
    State.EXITED: pb.EXECUTION_STATE_SUCCEEDED,
    State.FAILED: pb.EXECUTION_STATE_FAILED,
    State.CANCELLED: pb.EXECUTION_STATE_CANCELLED,
}
_AGENT_STATES = {state: pb.AgentState.Value(f"AGENT_STATE_{state.name}") for state in AgentState}
_FILTERED = {"agent_id": "string", "workflow_id": "string", "contact_id": "string"}
_CONTACT_FIELDS = (
    "email", "first_name", "last_name", "company_name", "lead_ref", "contact_id", "phone", "timezone",
)  # fmt: skip


async def create_agent(request: pb.CreateAgentRequest, call: Call) -> pb.Agent:
    """Deploy an agent that runs a published workflow; one whose template says so waits for an approval first."""
    agent_id = request.agent_id or ids.mint("agt", call.now)
    if not names.is_slug(agent_id):
        raise invalid("agent_id", "NOT_A_SLUG", "an id has lower-case letters, digits and hyphens", "Try my-agent.")
    if agent_id in KINDS or names.minted_prefix(agent_id) not in ("", "agt"):
        told = "this id is of other principals, whose budgets it would share"
        raise invalid("agent_id", "RESERVED", told, "Try my-agent.")
    template = await _template(request.template_id, call)
    workflow_id = request.workflow_id or template.workflow_id
    if not workflow_id:
        hint = "Name it here, or in the template."
        raise invalid("workflow_id", "REQUIRED", "says what the agent runs", hint)
    await active_version(call, workflow_id)
    approval_id = ids.mint("apr", call.now) if template.deploy_requires_approval else ""
    row = {
        "id": agent_id,
        "display_name": request.display_name,
        "workflow_id": workflow_id,
        "created_at": call.now,
        "template_id": template.id,
        "template_version": template.version,
        "state": (AgentState.PENDING_APPROVAL if approval_id else AgentState.ACTIVE).value,
        "approval_id": approval_id,
        "prices": {one.unit: one.cost for one in template.unit_costs},
    }
    if not await store.create(call.tx, row):
        raise AlreadyExists(kind="agent", id=agent_id)
    for budget in template.budgets:
        await budgets.lower(call.tx, agent_id, "agent", budget.metric, budget.daily_limit)
    if approval_id:
        await _ask(call, row, template)
    return await agent_message(call, agent_id)


async def _template(template_id: str, call: Call) -> AgentTemplate:
    """Return the newest version of a template; an empty one for none. Raises NotFound."""
    if not template_id:
        return AgentTemplate()
    row = await agent_templates.get(call.tx, template_id)
    if row is None:
        raise NotFound(kind="agent template", id=template_id)
    return to_message(row)


async def _ask(call: Call, row: Mapping[str, Any], template: AgentTemplate) -> None:
    """Ask for the approval of a deployment, bound to what is deployed."""
    rule, _ = read_rule(template.approval, "template.approval")
    what = {name: row[name] for name in ("id", "workflow_id", "template_id", "template_version", "prices")}
    request = NewApproval(
        org_id=call.caller.org_id,
        id=row["approval_id"],
        subject_kind=store.SUBJECT,
        subject_id=row["id"],
        title=f"Deploy the agent {row['display_name']}"[:300],
        subject_hash=digest(what),
        requester_id=call.caller.principal_id,
        details={**what, "display_name": row["display_name"], "allowed_methods": list(template.allowed_methods)},
        expires_at=call.now + rule.sla,
        rule=rule,
    )
    await approvals.create_many(call.tx, [request])
    await deliveries.emit(call.tx, [request.announcement(call.now)])


async def get_agent(request: pb.GetAgentRequest, call: Call) -> pb.Agent:
    """Return one agent."""
    return await agent_message(call, request.agent_id)


async def list_agents(request: pb.ListAgentsRequest, call: Call) -> pb.ListAgentsResponse:
    """Return a page of agents, newest first."""
    rows, token = await store.listed(call.tx, request.page_size, request.page_token)
    keys = await api_keys.of_agents(call.tx, [row.id for row in rows])
    return pb.ListAgentsResponse(agents=[_agent(row, keys) for row in rows], next_page_token=token)


async def execute(request: pb.ExecuteRequest, call: Call) -> pb.Execution:
    """Run an agent on a payload and return at once."""
    if request.type != "workflow":
        raise invalid("type", "UNKNOWN_VALUE", f"{request.type!r} cannot be run", "Use workflow.")
    # Held together with other calls: who stops the agent waits for them, and finds what they have begun.
    agent = await agent_row(call, request.agent_id, at_work=True)
    if agent.state != AgentState.ACTIVE:
        raise AgentHeld(agent_id=agent.id, state=agent.state.replace("_", " "), why=held_because(agent))
    await budgets.require(call.tx, executions.spender_of(agent.id), "cost")
    execution = await _run(call, request, agent.workflow_id, agent.id)
    if agent.id != call.caller.agent_id:  # as the pipeline charges a caller: in the end, so that no two hold each other
        await budgets.charge(call.tx, executions.spender_of(agent.id), {"executions": 1})
    return execution


async def execute_workflow(request: pb.ExecuteWorkflowRequest, call: Call) -> pb.Execution:
    """Run a workflow on a payload and return at once."""
    await budgets.require(call.tx, spender(call), "cost")
    return await _run(call, request, request.workflow_id)


async def get_execution(request: pb.GetExecutionRequest, call: Call) -> pb.Execution:
    """Return one execution as it is now, with the steps that it took."""
    return await execution_message(call, request.execution_id)


async def list_executions(request: pb.ListExecutionsRequest, call: Call) -> pb.ListExecutionsResponse:
    """Return a page of executions, newest first."""
    statement = executions.with_enrollments()
    rows, token = await listed(call.tx, request, statement, executions.executions, _FILTERED)
    return pb.ListExecutionsResponse(executions=[_execution(row) for row in rows], next_page_token=token)


async def _run(
    call: Call, request: pb.ExecuteRequest | pb.ExecuteWorkflowRequest, workflow_id: str, agent_id: str = ""
) -> pb.Execution:
    payload = request.input
    version = await active_version(call, workflow_id)
    previewed.checked(request, version)
    execution_id = ids.mint("exe", call.now)
    contact = _contact(payload, version.variables)
    contact.key = execution_id
    (result,) = await enter_contacts(call, version, [contact], "", path="input")
    if result.outcome != enrollment_pb2.ENROLL_OUTCOME_ENROLLED:
        result.field = result.field.replace("input.variables.", "input.", 1)  # where the caller wrote it
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
        "principal_id": call.caller.principal_id,
    }
    await call.tx.insert(executions.executions, [row])
    call.tx.spend("executions", 1)
    if agent_id:
        await usage.add(call.tx, call.caller.org_id, [Used(usage.AGENT, agent_id, "executions", 1)])
    await executions.settle(call.tx, [(call.caller.org_id, execution_id)])  # it may be over already
    message = await execution_message(call, execution_id)
    message.preview_etag = previewed.etag_of(request, version) if request.validate_only else ""
    return message


def _contact(payload: Struct, declared: Collection[str]) -> enrollment_pb2.ContactInput:
    """Return the contact that a payload names, with the variables of its run: the whole payload.

    Of a workflow that declares its variables, what names the contact is none, unless it is declared as well; other
    values are refused.
    """
    fields = payload.fields
    given: dict[str, Any] = {
        name: fields[name].string_value
        for name in _CONTACT_FIELDS
        if name in fields and fields[name].HasField("string_value")
    }
    if not (given.get("email") or given.get("contact_id") or given.get("lead_ref")):
        raise invalid(
            "input",
            "NO_CONTACT",
            "the payload names no contact",
            "Give email, contact_id or lead_ref in it.",
        )
    contact = enrollment_pb2.ContactInput(**given, variables=payload)
    if declared:
        for name in given.keys() - set(declared):
            del contact.variables.fields[name]
        known = [*declared, *_CONTACT_FIELDS]
        unknown = [
            Violation(
                f"input.{name}",
                "UNKNOWN_VARIABLE",
                f"the workflow has no variable {name}",
                did_you_mean(name, known, f"It declares {', '.join(declared)}."),
            )
            for name in contact.variables.fields
            if name not in declared
        ]
        if unknown:
            raise Invalid(*unknown)
    return contact


async def agent_row(call: Call, agent_id: str, *, lock: bool = False, at_work: bool = False) -> Row[Any]:
    """Return an agent, held as the store says. Raises NotFound."""
    row = await store.get_agent(call.tx, agent_id, lock=lock, at_work=at_work)
    if row is None:
        raise NotFound(kind="agent", id=agent_id)
    return row


def held_because(agent: Row[Any]) -> str:
    """Return why an agent is not at work."""
    waits = f"the approval {agent.approval_id} is not decided"
    return str(agent.state_reason or waits).rstrip(".")


async def agent_message(call: Call, agent_id: str) -> pb.Agent:
    """Return an agent as the contract has it. Raises NotFound."""
    row = await agent_row(call, agent_id)
    return _agent(row, await api_keys.of_agents(call.tx, [agent_id]))


def _agent(row: Row[Any], keys: Mapping[str, Sequence[str]]) -> pb.Agent:
    return pb.Agent(
        id=row.id,
        display_name=row.display_name,
        workflow_id=row.workflow_id,
        create_time=to_timestamp(row.created_at),
        template_id=row.template_id,
        template_version=row.template_version,
        state=_AGENT_STATES[AgentState(row.state)],
        approval_id=row.approval_id,
        state_reason=row.state_reason,
        key_ids=keys.get(row.id, ()),
    )


async def execution_message(call: Call, execution_id: str) -> pb.Execution:
    """Return an execution with its steps and what they cost so far. Raises NotFound."""
    row = await executions.get(call.tx, execution_id)
    if row is None:
        raise NotFound(kind="execution", id=execution_id)
    org = call.caller.org_id
    taken = await executions.steps(call.tx, org, row.enrollment_id)
    tariffs = await executions.prices_of(call.tx, {(org, row.agent_id)}) if row.agent_id else {}
    tariff = tariffs.get((org, row.agent_id), {})
    reported = await executions.reported_by_step(call.tx, execution_id)
    message = _execution(row)
    for one in taken:
        declared = float(prices.of_step(tariff, one.kind, one.step_id, one.outcome))
        message.steps.add(
            step_id=one.step_id,
            kind=one.kind,
            outcome=one.outcome,
            reason=one.reason,
            cost=prices.told(declared + reported.pop(one.step_id, 0.0)),
            create_time=to_timestamp(one.at),
            logs=[one.reason] if one.kind == "log" and one.outcome == "ok" else [],
        )
    if row.settled_at is None:
        message.cost = prices.told(float(executions.step_cost(tariff, taken)) + row.reported_cost)
    return message


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
        cost=prices.told(row.step_cost + row.reported_cost),
        tokens=row.tokens,
        principal_id=row.principal_id,
    )
