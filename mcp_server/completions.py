"""What a client offers while a person types an argument: ids that begin so, or whose name does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

import grpc
from mcp.types import Completion

from dripstone.v1 import agent_pb2, approval_pb2, audit_pb2, enrollment_pb2, record_pb2, webhook_pb2, workflow_pb2
from dripstone.v1.client import Client
from mcp_server.readers import event_types
from mcp_server.values import compact

MOST = 100
"""Values of one answer, as the protocol has it."""
LONGEST = 200
_PAGE = 200

Known = Mapping[str, str]
"""Arguments that are filled in already."""
Completer = Callable[[Client, str, Known], Awaitable[list[str]]]


async def complete(client: Client, argument: str, typed: str, known: Known) -> Completion:
    """Return the values for an argument; none where the caller may not see them, or nothing is known of it."""
    completer = COMPLETERS.get(argument)
    if completer is None or len(typed) > LONGEST:
        return Completion(values=[])
    try:
        found = await completer(client, typed.strip(), known)
    except grpc.aio.AioRpcError:
        # Nobody asked for an error: an argument without offers is typed by hand, and the call then says what is wrong.
        return Completion(values=[])
    found = list(dict.fromkeys(found))
    return Completion(values=found[:MOST], has_more=len(found) > MOST)


def _beginning(typed: str, named: Iterable[tuple[str, str]]) -> list[str]:
    """Return the ids that begin as typed, then those whose name holds it."""
    wanted = typed.lower()
    every = list(named)
    first = [name for name, _ in every if name.lower().startswith(wanted)]
    return first + [name for name, title in every if wanted in title.lower() and name not in first]


async def _workflows(client: Client, typed: str, known: Known) -> list[str]:
    request = workflow_pb2.ListWorkflowsRequest(page_size=_PAGE)
    found = (await client.workflows.ListWorkflows(request)).workflows
    return _beginning(typed, ((one.id, one.title) for one in found))


async def _records(client: Client, typed: str, known: Known) -> list[str]:
    if typed and not typed.startswith(("cnt_", "cmp_", "lead_", "opp_", "act_")):
        answer = await client.records.FindRecords(record_pb2.FindRecordsRequest(query=typed, limit=MOST))
        return [one.record.id for one in answer.results]
    prefixes = {"contact": "cnt_", "company": "cmp_", "lead": "lead_"}
    kind = next((kind for kind, prefix in prefixes.items() if typed.startswith(prefix)), "contact")
    page = await client.records.ListRecords(record_pb2.ListRecordsRequest(type=kind, page_size=_PAGE))
    return _beginning(typed, ((one.id, "") for one in page.records))


async def _leads(client: Client, typed: str, known: Known) -> list[str]:
    """Offer e-mail addresses of contacts, or ids of leads."""
    if typed.startswith("lead_"):
        return await _records(client, typed, known)
    if not typed:
        return []
    request = record_pb2.FindRecordsRequest(query=typed, types=["contact"], limit=MOST)
    found = (await client.records.FindRecords(request)).results
    emails = (one.record.fields.fields["email"].string_value for one in found if "email" in one.record.fields.fields)
    return [email for email in emails if email]


async def _enrollments(client: Client, typed: str, known: Known) -> list[str]:
    about = known.get("contact_id") or known.get("record_id") or ""
    request = enrollment_pb2.ListEnrollmentsRequest(
        workflow_id=known.get("workflow_id", ""),
        filter=f"contact_id = {compact(about)}" if about else "",
        page_size=_PAGE,
    )
    found = (await client.enrollments.ListEnrollments(request)).enrollments
    return _beginning(typed, ((one.id, one.contact_id) for one in found))


async def _deliveries(client: Client, typed: str, known: Known) -> list[str]:
    """Offer deliveries; those that failed come first while nothing is typed."""
    request = webhook_pb2.ListDeliveriesRequest(page_size=_PAGE)
    found = (await client.webhooks.ListDeliveries(request)).deliveries
    failed_first = sorted(found, key=lambda one: one.state != webhook_pb2.DELIVERY_STATE_FAILED)
    return _beginning(typed, ((one.id, one.event_type) for one in failed_first))


async def _approvals(client: Client, typed: str, known: Known) -> list[str]:
    request = approval_pb2.ListApprovalsRequest(filter='state = "pending"', page_size=_PAGE)
    found = (await client.approvals.ListApprovals(request)).approvals
    return _beginning(typed, ((one.id, one.title) for one in found))


async def _executions(client: Client, typed: str, known: Known) -> list[str]:
    found = (await client.agents.ListExecutions(agent_pb2.ListExecutionsRequest(page_size=_PAGE))).executions
    return _beginning(typed, ((one.id, one.workflow_id) for one in found))


async def _entries(client: Client, typed: str, known: Known) -> list[str]:
    found = (await client.audit.ListAuditEntries(audit_pb2.ListAuditEntriesRequest(page_size=_PAGE))).entries
    return _beginning(typed, ((one.id, one.method) for one in found))


async def _event_types(client: Client, typed: str, known: Known) -> list[str]:
    return _beginning(typed, ((one.name, one.name) for one in await event_types(client)))


async def _step_kinds(client: Client, typed: str, known: Known) -> list[str]:
    types = (await client.workflows.ListStepTypes(workflow_pb2.ListStepTypesRequest())).step_types
    return _beginning(typed, ((one.kind, one.kind) for one in types))


async def _templates(client: Client, typed: str, known: Known) -> list[str]:
    found = (await client.workflows.ListWorkflowTemplates(workflow_pb2.ListWorkflowTemplatesRequest())).templates
    return _beginning(typed, ((one.id, one.title) for one in found))


COMPLETERS: Mapping[str, Completer] = {
    "record_id": _records,
    "lead": _leads,
    "workflow_id": _workflows,
    "enrollment_id": _enrollments,
    "delivery_id": _deliveries,
    "approval_id": _approvals,
    "execution_id": _executions,
    "entry_id": _entries,
    "event_type": _event_types,
    "kind": _step_kinds,
    "template_id": _templates,
    "template": _templates,
}
"""Who knows the values of an argument, by its name in templates of resources and in prompts."""
