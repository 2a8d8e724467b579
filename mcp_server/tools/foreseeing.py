"""What a preview of enrolling shows beside who is left out: when messages would leave, and what else runs already."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import grpc
from pydantic import BaseModel, Field

from dripstone.v1 import enrollment_pb2, record_pb2, workflow_pb2
from dripstone.v1.client import Client
from dripstone.v1.enrollment_pb2 import EnrollResult
from mcp_server.tools.enrollments import Collision, Contact, Send, named, waiting_for
from mcp_server.values import clip, compact, instant, to_struct

LOOKED_AT = 20
"""Contacts that are looked up among enrollments: their ids fit one filter."""
SIMULATED = 5
"""Contacts whose way is simulated."""
HORIZON = "30d"
SHOWN = 10
_KNOWN = ("email", "first_name", "last_name", "company_name", "phone", "timezone")


class Foreseen(BaseModel):
    """What is to be expected of an enrolling."""

    sends: list[Send] = Field(default_factory=list)
    collisions: list[Collision] = Field(default_factory=list)
    basis: str = ""


async def foresee(
    client: Client, workflow_id: str, contacts: Sequence[Contact], entering: Sequence[EnrollResult]
) -> Foreseen:
    """Look at the first of those who would enter; what the caller's key may not see is left out."""
    names = {result.contact_id: named(contacts[result.index]) or result.contact_id for result in entering}
    collisions, existing = await asyncio.gather(
        _collisions(client, workflow_id, list(names)[:LOOKED_AT]),
        _existing(client, list(names)[:SIMULATED]),
    )
    some = list(entering[:SIMULATED])
    if not some:
        return Foreseen()
    # A simulation takes contacts that there are, or contacts that are described, not both.
    if existing:
        who = workflow_pb2.SimulatedContacts(contact_ids=existing)
    else:
        who = workflow_pb2.SimulatedContacts(records=[to_struct(_described(contacts[one.index])) for one in some])
    sends = await _sends(client, workflow_id, who, names)
    count = len(existing) or len(some)
    found = Foreseen(
        collisions=[one.model_copy(update={"contact": names.get(one.contact, one.contact)}) for one in collisions]
    )
    if sends is None:
        return found
    basis = f"simulated for {count} of {len(entering)} over {HORIZON}, as if nobody answered"
    return found.model_copy(update={"sends": sends, "basis": basis})


async def _collisions(client: Client, workflow_id: str, contact_ids: Sequence[str]) -> list[Collision]:
    if not contact_ids:
        return []
    who = " OR ".join(f"contact_id = {compact(one)}" for one in contact_ids)
    states = "(state = active OR state = awaiting_approval)"
    request = enrollment_pb2.ListEnrollmentsRequest(filter=f"({who}) AND {states}", page_size=SHOWN * 2)
    try:
        found = (await client.enrollments.ListEnrollments(request)).enrollments
    except grpc.aio.AioRpcError:
        return []
    return [
        Collision(
            contact=one.contact_id,
            workflow_id=one.workflow_id,
            enrollment_id=one.id,
            waits_for=waiting_for(one),
            until=instant(one.waiting.until),
        )
        for one in found
        if one.workflow_id != workflow_id
    ][:SHOWN]


async def _existing(client: Client, contact_ids: Sequence[str]) -> list[str]:
    """Return which of these contacts there are; a preview also names those that it would make."""

    async def there(contact_id: str) -> bool:
        try:
            await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=contact_id))
        except grpc.aio.AioRpcError:
            return False
        return True

    found = await asyncio.gather(*(there(one) for one in contact_ids))
    return [one for one, is_there in zip(contact_ids, found, strict=True) if is_there]


async def _sends(
    client: Client, workflow_id: str, who: workflow_pb2.SimulatedContacts, names: Mapping[str, str]
) -> list[Send] | None:
    """Return the first messages of a simulation; None where the caller may not simulate, or it did not work."""
    try:
        workflow = await client.workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id=workflow_id))
        answer = await client.workflows.SimulateWorkflow(
            workflow_pb2.SimulateWorkflowRequest(
                workflow_id=workflow_id,
                version=workflow.published_version,
                contacts=who,
                horizon=HORIZON,
                timelines=SIMULATED,
            )
        )
    except grpc.aio.AioRpcError:
        return None
    found = [
        Send(
            contact=clip(names.get(timeline.contact, timeline.contact), 80),
            step_id=entry.step_id,
            time=instant(entry.time),
            outcome="" if entry.outcome == "ok" else entry.outcome,
        )
        for timeline in answer.timelines
        for entry in timeline.entries
        if entry.kind == "message" and entry.outcome in ("ok", "held", "skipped")
    ]
    return sorted(found, key=lambda send: send.time)[:SHOWN]


def _described(contact: Contact) -> dict[str, Any]:
    known = {name: value for name in _KNOWN if (value := getattr(contact, name))}
    return {**contact.fields, **known}
