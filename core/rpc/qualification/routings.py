"""Handlers of QualificationService for routings: documents that say who gets a lead."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, or_, select

from core.domain import names
from core.domain.errors import Invalid, invalid
from core.domain.routing import lint
from core.domain.routing.document import Routing
from core.domain.routing.lint import Member
from core.domain.routing.parse import compiled, with_lines
from core.domain.workflow import own_kinds
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.store.organizations.members import MemberState, members
from core.store.qualification import routing_leads, routings
from core.store.records import record_schema
from core.store.transaction import Transaction
from dripstone.v1 import routing_pb2 as pb

_ID_HINT = "Use lower-case letters, digits, hyphens and underscores, at most 63, such as inbound-emea."


async def publish_routing(request: pb.PublishRoutingRequest, call: Call) -> pb.Routing:
    """Compile a routing and make it the newest version. Raises Invalid with everything that is wrong."""
    if not names.is_slug(request.routing_id):
        raise invalid("routing_id", "NOT_A_SLUG", "cannot be an id", _ID_HINT)
    routing = compiled(request.source, own_kinds.of((await record_schema.of(call.tx)).custom_kinds))
    known = await _members(call.tx, routing)
    able = sorted(one.email for one in known.values() if not one.removed and one.role != "viewer")
    if problems := list(lint.members(routing, known, able)):
        raise Invalid(*with_lines(request.source, problems))
    row = await routings.publish(
        call.tx,
        request.routing_id,
        title=routing.title,
        source=request.source,
        published_by=call.caller.principal_id,
        own=routing.own,
    )
    return _message(row)


async def _members(tx: Transaction, routing: Routing) -> dict[str, Member]:
    """Return all members who are there and those whom a routing names, by id and by e-mail."""
    table = members.c
    named = sorted(routing.names)
    wanted = or_(table.state == MemberState.ACTIVE, table.id.in_(named), table.email.in_(named))
    found = [
        Member(row.id, row.email, row.role, row.state != MemberState.ACTIVE)
        for row in await tx.all(select(members).where(wanted))
    ]
    found.sort(key=lambda one: not one.removed)  # an address is free again once its owner was removed
    return {name: one for one in found for name in (one.id, one.email)}


async def get_routing(request: pb.GetRoutingRequest, call: Call) -> pb.Routing:
    """Return a version of a routing. Raises NotFound."""
    if request.version < 0:
        raise invalid("version", "OUT_OF_RANGE", "must be 0 or more", "Send 0 for the newest version.")
    row = await routings.get_version(call.tx, request.routing_id, request.version)
    if row is None:
        version = f" version {request.version}" if request.version else ""
        raise await routing_leads.unknown(call.tx, f"{request.routing_id}{version}")
    return _message(row)


async def list_routings(request: pb.ListRoutingsRequest, call: Call) -> pb.ListRoutingsResponse:
    """Return a page of routings, the most recently published first."""
    rows, token = await routings.list_newest(call.tx, request.page_size, request.page_token)
    found = [
        pb.Routing(id=row.id, version=row.newest_version, title=row.title, create_time=to_timestamp(row.updated_at))
        for row in rows
    ]
    return pb.ListRoutingsResponse(routings=found, next_page_token=token)


def _message(row: Row[Any]) -> pb.Routing:
    return pb.Routing(
        id=row.routing_id,
        version=row.version,
        title=row.title,
        source=row.source,
        create_time=to_timestamp(row.created_at),
    )
