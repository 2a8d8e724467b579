"""Calls of routing handlers as the pipeline makes them: an organization with people, leads and a routing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import select, update

from core import ids
from core.clock import ManualClock
from core.domain.routing import sight
from core.domain.routing.decide import Decision, decide
from core.domain.routing.parse import compiled
from core.rpc.call import Call, Caller
from core.rpc.organizations import availability
from core.rpc.qualification import assigning, routings
from core.store.database import Database
from core.store.metadata import read_json
from core.store.organizations import members
from core.store.organizations.organizations import organizations
from core.store.qualification import routings as store
from core.store.qualification.assignments import assignments
from core.store.records import records
from core.store.webhooks.deliveries import messages
from core.store.webhooks.endpoints import create as create_endpoint
from dripstone.v1 import organization_pb2
from dripstone.v1 import routing_pb2 as pb

ORG = "org_main"

TURNS = """
title: In turn
sla: {respond_within: 30m, reroute: 1}
catch_all: {members: [ada@example.com, bob@example.com, cat@example.com]}
"""


@dataclass
class Desk:
    """An organization where Ada, Bob and Cat are editors and Vic is a viewer."""

    database: Database
    clock: ManualClock

    async def prepare(self) -> None:
        """Make it."""
        async with self.database.write(ORG) as tx:
            row = {"display_name": "Acme", "timezone": "Europe/Berlin", "created_at": tx.now}
            await tx.insert(organizations, [row])
            about = {"url": "https://x.test/", "description": "", "event_types": [], "secret": "whsec_x"}
            await create_endpoint(tx, "ep_1", retry_preset="standard", **about)
        for name, role in (("ada", "editor"), ("bob", "editor"), ("cat", "editor"), ("vic", "viewer")):
            await self.join(name, role)

    async def join(self, name: str, role: str = "editor") -> None:
        """Make a member."""
        async with self.database.write(ORG) as tx:
            member = {"id": f"mem_{name}", "email": f"{name}@example.com", "display_name": name.title()}
            await tx.insert(members.members, [{**member, "role": role, "created_at": tx.now}])

    async def __call__(self, handler: Callable[[Any, Call], Awaitable[Any]], request: Message) -> Any:
        """Call a handler in a transaction of its own."""
        caller = Caller(ORG, "key_agent", "agent", "agent", frozenset())
        async with self.database.write(ORG) as tx:
            call = Call(caller, tx.now, None, ids.mint("req", tx.now), {}, tx)  # type: ignore[arg-type]
            return await handler(request, call)

    async def publish(self, source: str = TURNS, routing_id: str = "default") -> pb.Routing:
        """Publish a routing."""
        return await self(routings.publish_routing, pb.PublishRoutingRequest(routing_id=routing_id, source=source))

    async def leads(self, count: int, **contact: Any) -> list[str]:
        """Make leads, each of a contact of its own."""
        self.clock.advance(timedelta(milliseconds=5))
        found = []
        async with self.database.write(ORG) as tx:
            for _ in range(count):
                fields = {"email": f"{ids.mint('x', tx.now)}@example.com", **contact}
                person = await records.upsert(tx, "contact", fields, actor="key_crm", cause="test")
                about = {"contact_id": person.record.id}
                lead = await records.upsert(tx, "lead", about, actor="key_crm", cause="test")
                found.append(lead.record.id)
        return found

    async def assign(self, lead_id: str, **values: Any) -> pb.Assignment:
        """Assign a lead."""
        self.clock.advance(timedelta(milliseconds=5))  # ids sort by their instant
        return await self(assigning.assign_owner, pb.AssignOwnerRequest(lead_id=lead_id, **values))

    async def assign_all(self, leads: Sequence[str], **values: Any) -> list[pb.Assignment]:
        """Assign leads, all at once."""
        return await asyncio.gather(*(self.assign(lead, **values) for lead in leads))

    async def available(self, member: str, **values: Any) -> organization_pb2.MemberAvailability:
        """Set what a member can take on."""
        given = organization_pb2.MemberAvailability(**values)
        request = organization_pb2.SetMemberAvailabilityRequest(member_id=member, availability=given)
        return await self(availability.set_member_availability, request)

    async def get(self, assignment_id: str) -> pb.Assignment:
        """Return an assignment."""
        return await self(assigning.get_assignment, pb.GetAssignmentRequest(assignment_id=assignment_id))

    async def listed(self, filter: str = "") -> list[pb.Assignment]:
        """Return assignments, newest first."""
        return list((await self(assigning.list_assignments, pb.ListAssignmentsRequest(filter=filter))).assignments)

    async def fields_of(self, record_id: str) -> dict[str, Any]:
        """Return a record's fields."""
        async with self.database.read(ORG) as tx:
            record = await records.get(tx, record_id)
        assert record is not None
        return dict(record.fields)

    async def owners(self) -> dict[str, str]:
        """Return who owns each lead that somebody owns."""
        table = records.records.c
        wanted = select(table.id, table.owner_id).where(table.type == "lead", table.owner_id.is_not(None))
        async with self.database.read(ORG) as tx:
            return {row.id: row.owner_id for row in await tx.all(wanted)}

    async def change(self, record_id: str, **fields: Any) -> None:
        """Change a record."""
        async with self.database.write(ORG) as tx:
            await records.update(tx, record_id, fields, actor="key_crm", cause="edit")

    async def set_member(self, member_id: str, **values: Any) -> None:
        """Change a member."""
        async with self.database.write(ORG) as tx:
            await tx.run(update(members.members).where(members.members.c.id == member_id).values(**values))

    async def told(self, event_type: str) -> list[dict[str, Any]]:
        """Return the data of outbound events of a type, oldest first."""
        wanted = select(messages).where(messages.c.event_type == event_type).order_by(messages.c.id)
        async with self.database.read(ORG) as tx:
            return [read_json(row.payload)["data"] for row in await tx.all(wanted)]

    async def decided_again(self, assignment_id: str) -> tuple[Decision, pb.Assignment]:
        """Decide again from what an assignment saw, by the version it names."""
        async with self.database.read(ORG) as tx:
            row = await tx.first(select(assignments).where(assignments.c.id == assignment_id))
            assert row is not None
            version = await store.get_version(tx, row.routing_id, row.routing_version)
        assert version is not None
        return decide(compiled(version.source), sight.from_json(row.seen)), await self.get(assignment_id)
