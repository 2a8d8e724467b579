"""Handlers of QualificationService for assignments: a lead given to somebody, taken up, given back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Row

from core.domain.errors import NotFound, invalid
from core.domain.routing.decide import OWNERS
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.rpc.listing import listed
from core.store.organizations import members
from core.store.qualification import assignments, rerouting, routing_leads, routing_sight
from core.store.qualification.assignments import AssignmentState
from core.store.qualification.rerouting import DEFAULT_ROUTING
from core.store.qualification.routing_leads import NAMED, Routed, Why
from core.store.transaction import Transaction
from dripstone.v1 import routing_pb2 as pb

_FIELDS: Mapping[str, str] = {
    "lead_id": "reference",
    "member_id": "reference",
    "routing_id": "string",
    "state": "string",
}


async def assign_owner(request: pb.AssignOwnerRequest, call: Call) -> pb.Assignment:
    """Give a lead to whom a routing says, or to a named member; a preview takes no turn.

    Raises NotFound, and Invalid for a member who cannot own leads.
    """
    if request.member_id:
        return await _give(request, call)
    routing_id = request.routing_id or DEFAULT_ROUTING
    if request.preview:
        lead, contact = await routing_leads.lead_of(call.tx, request.lead_id)
        facts = None if contact is None else contact.facts
        excluded = await routing_leads.gave_back(call.tx, lead.id)
        routed = await routing_leads.consider(call.tx, routing_id, facts, lead.facts, excluded=excluded)
        return _proposal(request.lead_id, routed)
    routed, row = await routing_leads.route(call.tx, routing_id, request.lead_id, _why(request, call))
    if row is None:
        call.tx.answer_is_final = False  # asked again under its key, somebody may be able to take it
        return _proposal(request.lead_id, routed)
    return await _message(call.tx, row)


def _why(request: pb.AssignOwnerRequest, call: Call) -> Why:
    return Why(call.caller.principal_id, call.cause, request.reason)


async def _give(request: pb.AssignOwnerRequest, call: Call) -> pb.Assignment:
    if request.routing_id:
        message = "does not go with member_id, who gets the lead whatever a routing says"
        raise invalid("routing_id", "CONFLICT", message, "Send one of them.")
    member = await members.get_active(call.tx, request.member_id)
    if member is None:
        raise NotFound(kind="member", id=request.member_id)
    if member.role not in OWNERS:
        hint = "Name an editor, or change the member's role."
        raise invalid("member_id", "CANNOT_OWN", f"is a {member.role}, who cannot own leads", hint)
    if request.preview:
        await routing_leads.lead_of(call.tx, request.lead_id)
        about = {"lead_id": request.lead_id, "member_id": member.id, "display_name": member.display_name}
        return pb.Assignment(**about, method=NAMED)
    return await _message(call.tx, await routing_leads.give(call.tx, request.lead_id, member, _why(request, call)))


async def accept_assignment(request: pb.AcceptAssignmentRequest, call: Call) -> pb.Assignment:
    """End the time to respond. Raises NotFound, and WrongState for an assignment that is over."""
    row = await rerouting.held(call.tx, request.assignment_id, "accepting it")
    if row.state == AssignmentState.OPEN:
        row = await assignments.change(call.tx, row.id, state=AssignmentState.ACCEPTED, check_at=None)
    return await _message(call.tx, row)


async def decline_assignment(request: pb.DeclineAssignmentRequest, call: Call) -> pb.Assignment:
    """Route a lead again without the one who gives it back. Raises NotFound and WrongState."""
    who = {"actor": call.caller.principal_id, "cause": call.cause}
    row = await rerouting.decline(call.tx, request.assignment_id, **who, reason=request.reason)
    return await _message(call.tx, row)


async def get_assignment(request: pb.GetAssignmentRequest, call: Call) -> pb.Assignment:
    """Return an assignment. Raises NotFound."""
    row = await assignments.get(call.tx, request.assignment_id)
    if row is None:
        raise NotFound(kind="assignment", id=request.assignment_id)
    return await _message(call.tx, row)


async def list_assignments(request: pb.ListAssignmentsRequest, call: Call) -> pb.ListAssignmentsResponse:
    """Return a page of assignments, newest first."""
    rows, token = await listed(call.tx, request, assignments.listed(), assignments.assignments, _FIELDS)
    there = await _names(call.tx, rows)
    found = [_assignment(row, there.get(row.member_id, "")) for row in rows]
    return pb.ListAssignmentsResponse(assignments=found, next_page_token=token)


async def _names(tx: Transaction, rows: Iterable[Row[Any]]) -> dict[str, str]:
    found = await routing_sight.members_named(tx, {row.member_id for row in rows})
    return {row.id: row.display_name for row in found}


async def _message(tx: Transaction, row: Row[Any]) -> pb.Assignment:
    return _assignment(row, (await _names(tx, [row])).get(row.member_id, ""))


def _assignment(row: Row[Any], display_name: str) -> pb.Assignment:
    return pb.Assignment(
        id=row.id,
        lead_id=row.lead_id,
        member_id=row.member_id,
        display_name=display_name,
        routing_id=row.routing_id,
        routing_version=row.routing_version,
        rule_id=row.rule_id,
        method=row.method,
        skipped=[pb.OwnerCandidate(member_id=member, reason=reason) for member, reason in row.skipped],
        skipped_rules=row.skipped_rules,
        state=pb.AssignmentState.Value(f"ASSIGNMENT_STATE_{row.state.upper()}"),
        response_due_time=to_timestamp(row.response_due_at),
        previous_assignment_id=row.previous_id,
        cause=row.cause,
        create_time=to_timestamp(row.created_at),
    )


def _proposal(lead_id: str, routed: Routed) -> pb.Assignment:
    """Return who it would be, or that it is nobody."""
    decision = routed.decision
    return pb.Assignment(
        lead_id=lead_id,
        member_id=decision.person.id if decision.person else "",
        display_name=decision.person.name if decision.person else "",
        routing_id=routed.routing_id,
        routing_version=routed.version,
        rule_id=decision.rule.id if decision.rule else "",
        method=decision.method,
        skipped=[pb.OwnerCandidate(member_id=one.member, reason=one.reason) for one in decision.passed],
        skipped_rules=decision.skipped_rules,
        response_due_time=to_timestamp(routing_leads.due(routed)),
    )
