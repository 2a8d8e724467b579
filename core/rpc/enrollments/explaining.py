"""Handler of EnrollmentService: why a contact is not in a workflow, rule by rule."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from core.domain.errors import NotFound, invalid
from core.domain.records import identity
from core.engine import why_not as answer
from core.rpc.call import Call
from core.rpc.convert import to_struct, to_timestamp
from core.store.messages import outgoing
from core.store.records import identifiers
from core.store.workflows import enrollments
from dripstone.v1 import enrollment_pb2 as pb

_MOST_MESSAGES = 3


async def why_not(request: pb.WhyNotRequest, call: Call) -> pb.WhyNotResponse:
    """Tell from stored facts what keeps a contact out of a workflow, or that it is in."""
    contact_id = await _contact(request, call)
    found = await answer.explain(call.tx, call.parts.versions, request.workflow_id, contact_id)
    latest = await enrollments.latest(call.tx, request.workflow_id, contact_id)
    lost = await outgoing.lost(call.tx, latest.id, _MOST_MESSAGES) if latest is not None else []
    return pb.WhyNotResponse(
        contact_id=contact_id,
        enrolled=found.verdict == "enrolled",
        enrollment_id=latest.id if latest is not None else "",
        why=" ".join((found.summary, *map(_told, lost[-1:]))),
        reasons=[
            pb.EntryReason(
                rule=reason.rule,
                holds=reason.holds,
                message=reason.sentence,
                inputs=to_struct(reason.inputs),
                time=to_timestamp(reason.at),
            )
            for reason in found.reasons
        ]
        + [
            pb.EntryReason(rule="message", holds=False, message=_told(row), time=to_timestamp(row.ended_at))
            for row in lost
        ],
    )


def _told(row: Row[Any]) -> str:
    return f"Message {row.ordinal} of {row.step_id} on {row.channel} was not sent: {row.outcome}."


async def _contact(request: pb.WhyNotRequest, call: Call) -> str:
    if not request.contact_id and not request.email:
        raise invalid("contact_id", "REQUIRED", "no contact is named", "Send contact_id or email.")
    if request.contact_id and request.email:
        raise invalid("contact_id", "CONFLICT", "say which contact, in one way", "Send contact_id or email.")
    if request.contact_id:
        return request.contact_id
    identifier = identity.normalise("email", request.email)
    if identifier is None:
        raise invalid("email", "BAD_EMAIL", f"{request.email[:80]!r} is no e-mail", "Write name@example.com.")
    owner = await identifiers.owner(call.tx, "contact", identifier)
    if owner is None:
        raise NotFound(kind="contact", id=request.email)
    return owner
