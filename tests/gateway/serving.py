"""Handlers small enough to read here, in a table that has a row for every method of the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from starlette.applications import Starlette

from core.domain.errors import Code, DripstoneError, EtagMismatch, NotFound, Violation, invalid
from core.rpc.call import Call
from core.rpc.methods import SERVICES, Method, row
from core.rpc.pipeline import Pipeline
from dripstone.v1 import agent_pb2, enrollment_pb2, event_pb2, organization_pb2, record_pb2, webhook_pb2, workflow_pb2

ENDED: list[str] = []
"""Enrollments whose endless watch was ended from outside."""


class Busy(DripstoneError):
    """The {part} is busy."""

    code = Code.UNAVAILABLE
    reason = "BUSY"
    hint = "Call again later."


class NotDrawable(DripstoneError):
    """The document cannot be drawn."""

    reason = "NOT_DRAWABLE"


async def enroll_contacts(request: enrollment_pb2.EnrollContactsRequest, call: Call) -> Message:
    if request.workflow_id == "ghost":
        raise NotFound(kind="workflow", id="ghost")
    answer = enrollment_pb2.EnrollContactsResponse()
    for index, contact in enumerate(request.contacts):
        known = contact.email == "ada@example.com"
        outcome = "ENROLL_OUTCOME_ALREADY_ENROLLED" if known else "ENROLL_OUTCOME_ENROLLED"
        answer.results.add(
            index=index, outcome=enrollment_pb2.EnrollOutcome.Value(outcome), enrollment_id=f"enr_{index}"
        )
        if not known:
            answer.enrollment_ids.append(f"enr_{index}")
    answer.created_count = len(answer.enrollment_ids)
    return answer


async def list_enrollments(request: enrollment_pb2.ListEnrollmentsRequest, call: Call) -> Message:
    return enrollment_pb2.ListEnrollmentsResponse()


async def get_enrollment(request: enrollment_pb2.GetEnrollmentRequest, call: Call) -> Message:
    enrollment = enrollment_pb2.Enrollment(
        id=request.enrollment_id,
        workflow_id=request.workflow_id,
        state=enrollment_pb2.ENROLLMENT_STATE_AWAITING_APPROVAL,
        etag='"7"',
    )
    enrollment.variables.update({"seats": 3, "share": 0.5, "plan": "größer", "tags": [1, None, True]})
    enrollment.create_time.FromJsonString("2026-03-02T09:00:00.250Z")
    return enrollment


async def watch_enrollment(request: enrollment_pb2.WatchEnrollmentRequest, call: Call) -> AsyncIterator[Message]:
    if request.enrollment_id == "enr_gone":
        raise NotFound(kind="enrollment", id="enr_gone")
    for seq in (1, 2):
        yield enrollment_pb2.WatchEnrollmentResponse(
            entry=enrollment_pb2.TraceEntry(seq=seq, step_id="hello"), resume_token=str(seq)
        )
    if request.enrollment_id == "enr_broken":
        raise RuntimeError("secret text of a programming error")
    if request.enrollment_id == "enr_endless":
        try:
            await asyncio.Event().wait()
        finally:
            ENDED.append(request.enrollment_id)


async def capture_event(request: event_pb2.CaptureEventRequest, call: Call) -> Message:
    if request.event.source_id == "nowhere":
        raise NotFound(kind="source", id="nowhere")
    if request.event.source_id == "elsewhere":
        raise invalid("event.source_id", "WRONG_KIND", "is an affiliate source", "Set event.source_id to another.")
    return event_pb2.CaptureEventResponse(data="ok")


async def get_caller(request: organization_pb2.GetCallerRequest, call: Call) -> Message:
    return organization_pb2.Caller(
        organization_id=call.caller.org_id, display_name=call.metadata.get("traceparent", "")
    )


async def update_endpoint(request: webhook_pb2.UpdateEndpointRequest, call: Call) -> Message:
    if request.endpoint.etag not in ("", '"3"'):
        raise EtagMismatch(kind="endpoint", id=request.endpoint.id, current='"3"', given=request.endpoint.etag)
    answer = webhook_pb2.Endpoint()
    answer.CopyFrom(request.endpoint)
    answer.etag = '"4"'
    return answer


async def delete_endpoint(request: webhook_pb2.DeleteEndpointRequest, call: Call) -> Message:
    if request.endpoint_id == "ep_busy":
        raise Busy(part="dispatcher", retry_after=2.2)
    return Empty()


async def get_endpoint(request: webhook_pb2.GetEndpointRequest, call: Call) -> Message:
    raise RuntimeError("secret text of a programming error")


async def rotate_secret(request: webhook_pb2.RotateSecretRequest, call: Call) -> Message:
    return webhook_pb2.RotateSecretResponse(secret="whsec_example")


async def get_workflow(request: workflow_pb2.GetWorkflowRequest, call: Call) -> Message:
    return workflow_pb2.Workflow(id=request.workflow_id, version=request.version)


async def create_workflow(request: workflow_pb2.CreateWorkflowRequest, call: Call) -> Message:
    if request.source == "draw me":
        raise NotDrawable(violations=(Violation("steps[0]", "NO_SHAPE", "has no shape"),))
    return workflow_pb2.Workflow(id=request.workflow_id, document=request.document)


async def list_step_types(request: workflow_pb2.ListStepTypesRequest, call: Call) -> Message:
    return workflow_pb2.ListStepTypesResponse()


async def upsert_record(request: record_pb2.UpsertRecordRequest, call: Call) -> Message:
    return record_pb2.UpsertRecordResponse(record=record_pb2.Record(type=request.type, fields=request.fields))


async def execute(request: agent_pb2.ExecuteRequest, call: Call) -> Message:
    return agent_pb2.Execution(id="exe_1", agent_id=request.agent_id, input=request.input)


async def unserved(request: Message, call: Call) -> Message:
    raise AssertionError("no test calls this")


HANDLERS: dict[str, Callable[..., Any]] = {
    "CaptureEvent": capture_event,
    "CreateWorkflow": create_workflow,
    "DeleteEndpoint": delete_endpoint,
    "EnrollContacts": enroll_contacts,
    "Execute": execute,
    "GetCaller": get_caller,
    "GetEndpoint": get_endpoint,
    "GetEnrollment": get_enrollment,
    "GetWorkflow": get_workflow,
    "ListEnrollments": list_enrollments,
    "ListStepTypes": list_step_types,
    "RotateSecret": rotate_secret,
    "UpdateEndpoint": update_endpoint,
    "UpsertRecord": upsert_record,
    "WatchEnrollment": watch_enrollment,
}


def method_table(seen: list[Message]) -> list[Method]:
    """Return a row for every method of the contract; unary handlers note the requests that reach them."""

    def noting(handler: Callable[..., Any]) -> Callable[..., Any]:
        async def noted(request: Message, call: Call) -> Message:
            seen.append(request)
            answer: Message = await handler(request, call)
            return answer

        return noted

    return [
        row(descriptor, handler if descriptor.server_streaming else noting(handler))
        for contract, *_ in SERVICES
        for service in contract.DESCRIPTOR.services_by_name.values()
        for descriptor in service.methods
        for handler in [HANDLERS.get(descriptor.name, unserved)]
    ]


@dataclass
class Gateway:
    """A running gateway, a client with a key for it, and what its handlers saw."""

    http: httpx2.AsyncClient
    app: Starlette
    pipeline: Pipeline
    org_id: str
    agent_key: str
    ready: list[bool] = field(default_factory=lambda: [True])
    seen: list[Message] = field(default_factory=list)


def detail(field: str, reason: str, message: str, hint: str = "", nearest: str = "") -> dict[str, str]:
    """Return one entry of an error's details."""
    told = {"field": field, "reason": reason, "message": message, "hint": hint}
    return told | ({"nearest": nearest} if nearest else {})
