"""What a preview of enrolling shows beside who is left out.

When messages would leave and what else leaves, which workflows the contacts are in already, who was disqualified.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import grpc
from pydantic import BaseModel, Field

from dripstone.v1 import enrollment_pb2, record_pb2, workflow_pb2
from dripstone.v1.client import Client
from dripstone.v1.enrollment_pb2 import EnrollResult
from mcp_server.tools.enrollments import Collision, Contact, Disqualified, Send, named, waiting_for
from mcp_server.values import clip, compact, from_struct, instant, to_struct

LOOKED_AT = 18
"""Contacts that are looked up among enrollments: their ids fit one filter."""
SIMULATED = 5
"""Contacts whose way is simulated."""
HORIZON = "30d"
SHOWN = 10
_KNOWN = ("email", "first_name", "last_name", "company_name", "phone", "timezone")


class Foreseen(BaseModel):
    """What is to be expected of an enrolling."""

    sends: list[Send] = Field(default_factory=list)
    also_leaves: list[str] = Field(default_factory=list)
    collisions: list[Collision] = Field(default_factory=list)
    disqualified: list[Disqualified] = Field(default_factory=list)
    basis: str = ""


async def foresee(
    client: Client, workflow_id: str, contacts: Sequence[Contact], entering: Sequence[EnrollResult]
) -> Foreseen:
    """Look at the first of those who would enter; what the caller's key may not see is left out."""
    if not entering:
        return Foreseen()
    names = {result.contact_id: named(contacts[result.index]) or result.contact_id for result in entering}
    some = entering[:SIMULATED]
    collisions, disqualified, existing = await asyncio.gather(
        _collisions(client, workflow_id, list(names)[:LOOKED_AT]),
        _disqualified(client, list(names)[:LOOKED_AT]),
        _existing(client, [one.contact_id for one in some]),
    )
    found = Foreseen(
        collisions=[one.model_copy(update={"contact": names.get(one.contact, one.contact)}) for one in collisions],
        disqualified=[one.model_copy(update={"contact": names.get(one.contact, one.contact)}) for one in disqualified],
    )
    described = [to_struct(_described(contacts[one.index])) for one in some if one.contact_id not in existing]
    # A simulation takes contacts that there are, or contacts that are described, not both.
    groups = [
        *([workflow_pb2.SimulatedContacts(contact_ids=existing)] if existing else []),
        *([workflow_pb2.SimulatedContacts(records=described)] if described else []),
    ]
    simulated = await _simulated(client, workflow_id, groups)
    if simulated is None:
        return found
    sends, webhooks = simulated
    basis = f"simulated for {len(some)} of {len(entering)} over {HORIZON}, as if nobody answered"
    shown = [one.model_copy(update={"contact": clip(names.get(one.contact, one.contact), 80)}) for one in sends[:SHOWN]]
    return found.model_copy(update={"sends": shown, "also_leaves": webhooks[:SHOWN], "basis": basis})


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


async def _disqualified(client: Client, contact_ids: Sequence[str]) -> list[Disqualified]:
    """Return of which of these contacts the newest lead was disqualified."""
    who = " OR ".join(f"contact_id = {compact(one)}" for one in contact_ids)
    request = record_pb2.ListRecordsRequest(type="lead", filter=f"({who})", page_size=LOOKED_AT * 2)
    try:
        leads = (await client.records.ListRecords(request)).records
    except grpc.aio.AioRpcError:
        return []
    newest = dict[str, Disqualified]()
    for lead in leads:  # the newest come first
        fields = from_struct(lead.fields)
        decision = fields.get("decision") == "disqualified"
        newest.setdefault(
            str(fields.get("contact_id")),
            Disqualified(contact=str(fields.get("contact_id")), lead_id=lead.id if decision else ""),
        )
    return [one for one in newest.values() if one.lead_id]


async def _simulated(
    client: Client, workflow_id: str, groups: Sequence[workflow_pb2.SimulatedContacts]
) -> tuple[list[Send], list[str]] | None:
    """Return the messages of simulations, the first ones first, and what else leaves.

    None where the caller may not simulate, or it did not work.
    """
    sends, webhooks = list[Send](), dict[str, str]()
    try:
        number = await _published(client, workflow_id)
        for who in groups:
            answer = await client.workflows.SimulateWorkflow(
                workflow_pb2.SimulateWorkflowRequest(
                    workflow_id=workflow_id, version=number, contacts=who, horizon=HORIZON, timelines=SIMULATED
                )
            )
            for timeline in answer.timelines:
                for entry in timeline.entries:
                    if entry.kind == "message" and entry.outcome in ("ok", "held", "skipped"):
                        sends.append(_send(timeline.contact, entry))
                    elif entry.kind == "webhook" and entry.outcome == "ok":
                        webhooks[entry.step_id] = min(webhooks.get(entry.step_id, "9"), instant(entry.time))
        document = await client.workflows.GetWorkflow(
            workflow_pb2.GetWorkflowRequest(workflow_id=workflow_id, version=number)
        )
    except grpc.aio.AioRpcError:
        return None
    types = {step.id: from_struct(step.config).get("event_type", "") for step in document.document.steps}
    first = sorted(webhooks.items(), key=lambda one: one[1])
    leaves = [f"webhook {clip(str(types.get(step_id, '')), 80)} ({step_id}) {time}" for step_id, time in first]
    return sorted(sends, key=lambda send: send.time), leaves


async def _published(client: Client, workflow_id: str) -> int:
    request = workflow_pb2.GetWorkflowRequest(workflow_id=workflow_id)
    return (await client.workflows.GetWorkflow(request)).published_version


def _send(contact: str, entry: workflow_pb2.SimulatedEntry) -> Send:
    outcome = "" if entry.outcome == "ok" else entry.outcome
    return Send(contact=contact, step_id=entry.step_id, time=instant(entry.time), outcome=outcome)


def _described(contact: Contact) -> dict[str, Any]:
    known = {name: value for name in _KNOWN if (value := getattr(contact, name))}
    return {**contact.fields, **known}
