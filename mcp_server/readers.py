"""How each resource is read from the core, under the caller's own key; a mark is what tells that one has changed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from dripstone.v1 import (
    agent_pb2,
    approval_pb2,
    audit_pb2,
    enrollment_pb2,
    organization_pb2,
    policy_pb2,
    record_pb2,
    record_type_pb2,
    webhook_pb2,
    workflow_pb2,
)
from dripstone.v1.client import Client
from mcp_server.values import from_struct, instant

TRACE, CHANGES = 200, 20

Content = Mapping[str, Any]
Reader = Callable[[Client, str], Awaitable[Content]]


class NoSuchResource(LookupError):
    """The core has nothing of that name; its list has the names there are."""

    def __init__(self, kind: str, name: str, known: Sequence[str]) -> None:
        self.kind, self.name, self.known = kind, name, known
        super().__init__(f"There is no {kind} {name[:63]}.")


def _plain(message: Message) -> dict[str, Any]:
    """Return a message as JSON under the contract's own names, without what is empty."""
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def _record_request(name: str) -> record_pb2.GetRecordRequest:
    return record_pb2.GetRecordRequest(record_id=name)


async def record(client: Client, name: str) -> Content:
    """Read a record with its last changes."""
    record = await client.records.GetRecord(_record_request(name))
    request = record_pb2.ListRecordChangesRequest(record_id=record.id, page_size=CHANGES)
    history = await client.records.ListRecordChanges(request)
    return _plain(record) | {"fields": from_struct(record.fields), "changes": [_plain(one) for one in history.changes]}


async def record_mark(client: Client, name: str) -> Content:
    """Return its version."""
    return {"etag": (await client.records.GetRecord(_record_request(name))).etag}


async def workflow(client: Client, name: str) -> Content:
    """Read a workflow: its draft and its published version."""
    draft = await client.workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id=name))
    content = _plain(draft)
    content.pop("document", None)
    content["draft"] = content.pop("source", "")
    if draft.published_version:
        request = workflow_pb2.GetWorkflowRequest(workflow_id=name, version=draft.published_version)
        published = (await client.workflows.GetWorkflow(request)).source
        content["published"] = "the draft" if published == draft.source else published
    return content


async def workflow_mark(client: Client, name: str) -> Content:
    """Return version and state."""
    found = await client.workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id=name))
    return {"etag": found.etag, "state": found.state}


async def enrollment(client: Client, name: str) -> Content:
    """Read where a contact stands in a workflow, with the whole trace."""
    explained = await client.enrollments.ExplainEnrollment(enrollment_pb2.ExplainEnrollmentRequest(enrollment_id=name))
    request = enrollment_pb2.ListTraceEntriesRequest(enrollment_id=name, page_size=TRACE)
    trace = await client.enrollments.ListTraceEntries(request)
    content = _plain(explained)
    content["entries"] = [_plain(entry) for entry in trace.entries]
    return content | ({"more_entries": True} if trace.next_page_token else {})


async def enrollment_mark(client: Client, name: str) -> Content:
    """Return its version."""
    found = await client.enrollments.GetEnrollment(enrollment_pb2.GetEnrollmentRequest(enrollment_id=name))
    return {"etag": found.etag}


async def delivery(client: Client, name: str) -> Content:
    """Read a webhook delivery with its attempts."""
    return _plain(await client.webhooks.GetDelivery(webhook_pb2.GetDeliveryRequest(delivery_id=name)))


async def delivery_mark(client: Client, name: str) -> Content:
    """Return its state and the number of attempts."""
    found = await client.webhooks.GetDelivery(webhook_pb2.GetDeliveryRequest(delivery_id=name))
    return {"state": found.state, "attempts": found.attempt_count}


async def approval(client: Client, name: str) -> Content:
    """Read what is to be decided, and the votes."""
    return _plain(await client.approvals.GetApproval(approval_pb2.GetApprovalRequest(approval_id=name)))


async def approval_mark(client: Client, name: str) -> Content:
    """Return state, votes and subject."""
    found = await client.approvals.GetApproval(approval_pb2.GetApprovalRequest(approval_id=name))
    return {"state": found.state, "votes": len(found.votes), "hash": found.subject_hash}


async def execution(client: Client, name: str) -> Content:
    """Read a run of a workflow."""
    return _plain(await client.agents.GetExecution(agent_pb2.GetExecutionRequest(execution_id=name)))


async def execution_mark(client: Client, name: str) -> Content:
    """Return state, steps and cost."""
    found = await client.agents.GetExecution(agent_pb2.GetExecutionRequest(execution_id=name))
    return {"state": found.state, "steps": len(found.steps), "cost": found.cost}


async def task(client: Client, name: str) -> Content:
    """Read a task for agents with its whole input."""
    found = await client.agents.GetAgentTask(agent_pb2.GetAgentTaskRequest(task_id=name))
    structs = {part: from_struct(getattr(found, part)) for part in ("input", "output_schema", "output")}
    return _plain(found) | {part: value for part, value in structs.items() if value}


async def task_mark(client: Client, name: str) -> Content:
    """Return its state and who has it."""
    found = await client.agents.GetAgentTask(agent_pb2.GetAgentTaskRequest(task_id=name))
    return {"state": found.state, "agent": found.agent_id}


async def fields(client: Client, name: str) -> Content:
    """Read what records of a type hold. Raises NoSuchResource."""
    every = (await client.records.ListRecordTypes(record_type_pb2.ListRecordTypesRequest(page_size=500))).record_types
    for one in every:
        if one.type == name:
            return _plain(one)
    raise NoSuchResource("record type", name, [one.type for one in every])


async def members(client: Client) -> Content:
    """Read who can own records."""
    found = await client.organization.ListMembers(organization_pb2.ListMembersRequest(page_size=500))
    shown = [
        {"member_id": one.id, "name": one.display_name, "email": one.email}
        for one in found.members
        if one.state != organization_pb2.MEMBER_STATE_REMOVED
    ]
    return {"members": shown} | ({"more_members": True} if found.next_page_token else {})


async def budgets(client: Client) -> Content:
    """Read what principals may do a day, and how much is left."""
    found = await client.approvals.ListBudgets(policy_pb2.ListBudgetsRequest(page_size=500))
    return {
        "budgets": [
            {
                "principal_id": one.principal_id,
                "metric": one.metric,
                "daily_limit": one.daily_limit,
                "used_today": one.used_today,
                "left_today": max(0, one.daily_limit - one.used_today),
                "resets": instant(one.reset_time),
            }
            for one in found.budgets
        ]
    }


async def audit_entry(client: Client, name: str) -> Content:
    """Read one entry of the log."""
    return _plain(await client.audit.GetAuditEntry(audit_pb2.GetAuditEntryRequest(entry_id=name)))


async def event_types(client: Client) -> list[webhook_pb2.EventType]:
    """Return every event type that there is to send."""
    found: list[webhook_pb2.EventType] = []
    token = ""
    while len(found) < 2_000:
        request = webhook_pb2.ListEventTypesRequest(page_size=500, page_token=token)
        page = await client.webhooks.ListEventTypes(request)
        found += page.event_types
        token = page.next_page_token
        if not token:
            break
    return found


async def event_type(client: Client, name: str) -> Content:
    """Read an event type with its schema. Raises NoSuchResource."""
    every = {one.name: one for one in await event_types(client)}
    if name not in every:
        raise NoSuchResource("event type", name, list(every))
    return _plain(every[name]) | {"schema": from_struct(every[name].schema)}


async def events(client: Client) -> Content:
    """Read the names of all event types."""
    every = await event_types(client)
    return {"event_types": [{"name": one.name, "version": one.version, "sent": one.description} for one in every]}


async def step_kind(client: Client, name: str) -> Content:
    """Read a kind of step with its settings. Raises NoSuchResource."""
    types = (await client.workflows.ListStepTypes(workflow_pb2.ListStepTypesRequest())).step_types
    for one in types:
        if one.kind == name:
            return _plain(one) | {"config_schema": from_struct(one.config_schema)}
    raise NoSuchResource("step kind", name, [one.kind for one in types])


async def step_kinds(client: Client) -> Content:
    """Read what workflows are made of."""
    types = (await client.workflows.ListStepTypes(workflow_pb2.ListStepTypesRequest())).step_types
    return {"step_kinds": [{"kind": one.kind, "does": one.summary, "exits": list(one.exits)} for one in types]}


async def template(client: Client, name: str) -> Content:
    """Read a workflow to start from. Raises NoSuchResource."""
    found = (await client.workflows.ListWorkflowTemplates(workflow_pb2.ListWorkflowTemplatesRequest())).templates
    for one in found:
        if one.id == name:
            return _plain(one)
    raise NoSuchResource("template", name, [one.id for one in found])


async def schema(client: Client) -> Content:
    """Read the schema of workflow documents."""
    answer = await client.workflows.GetWorkflowSchema(workflow_pb2.GetWorkflowSchemaRequest())
    return from_struct(answer.schema)
