"""Handler of EnrollmentService: messages to contacts, and what became of each."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from core.domain.errors import NotFound
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.rpc.listing import listed
from core.store.messages import outgoing
from core.store.messages.outgoing import MessageState
from core.store.workflows import enrollments, workflows
from dripstone.v1 import enrollment_pb2 as pb

_FILTERED = {
    name: "string" for name in ("state", "contact_id", "step_id", "channel", "purpose", "enrollment_id", "workflow_id")
}


async def list_outgoing_messages(
    request: pb.ListOutgoingMessagesRequest, call: Call
) -> pb.ListOutgoingMessagesResponse:
    """Return a page of messages, newest first. Raises NotFound for a workflow or enrollment that there is not."""
    if request.workflow_id and await workflows.get(call.tx, request.workflow_id) is None:
        raise NotFound(kind="workflow", id=request.workflow_id)
    if request.enrollment_id and await enrollments.get(call.tx, request.enrollment_id) is None:
        raise NotFound(kind="enrollment", id=request.enrollment_id)
    statement = outgoing.listing(workflow_id=request.workflow_id, enrollment_id=request.enrollment_id)
    within = f"{request.workflow_id}|{request.enrollment_id}"
    rows, token = await listed(call.tx, request, statement, outgoing.outgoing_messages, _FILTERED, within=within)
    return pb.ListOutgoingMessagesResponse(messages=[_message(row) for row in rows], next_page_token=token)


def _message(row: Row[Any]) -> pb.OutgoingMessage:
    return pb.OutgoingMessage(
        id=row.id,
        enrollment_id=row.enrollment_id,
        workflow_id=row.workflow_id,
        step_id=row.step_id,
        contact_id=row.contact_id,
        channel=row.channel,
        purpose=row.purpose,
        to=row.recipient,
        subject=row.subject,
        ordinal=row.ordinal,
        state=row.state,
        outcome=row.outcome,
        attempts=row.attempts,
        due_time=None if MessageState(row.state).final else to_timestamp(row.due_at),
        create_time=to_timestamp(row.created_at),
        end_time=to_timestamp(row.ended_at),
        provider_id=row.provider_id,
    )
