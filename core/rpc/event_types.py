"""Handlers of WebhookService for the catalogue of event types: the core's own, and those of the organization."""

from __future__ import annotations

from typing import Any

from core.domain.errors import Invalid, TooManyEventTypes
from core.domain.webhooks import own_types
from core.domain.webhooks.event_type_export import document
from core.domain.webhooks.event_types import EVENT_TYPES, EventType
from core.rpc.call import Call
from core.rpc.convert import from_struct, to_struct
from core.store import event_types as store
from dripstone.v1 import webhook_pb2 as pb


async def create_event_type(request: pb.CreateEventTypeRequest, call: Call) -> pb.EventType:
    """Declare a type, or the next version of one. Raises Invalid for a name or a schema that cannot be."""
    schema = from_struct(request.schema)
    if wrong := own_types.problems(request.name, schema):
        raise Invalid(*wrong)
    who = call.caller.principal_id
    declared = await store.declare(call.tx, request.name, request.description, schema, created_by=who)
    if declared is None:
        raise TooManyEventTypes(limit=store.MOST_TYPES)
    message = _own(declared.type)
    message.breaking_changes.extend(declared.breaking_changes)
    return message


async def list_event_types(request: pb.ListEventTypesRequest, call: Call) -> pb.ListEventTypesResponse:
    """Return the newest version of every type: the core's own in the catalogue's order, then the organization's."""
    return pb.ListEventTypesResponse(
        event_types=[*map(_message, EVENT_TYPES), *(_own(row) for row in await store.newest(call.tx))]
    )


async def export_event_types(request: pb.ExportEventTypesRequest, call: Call) -> pb.ExportEventTypesResponse:
    """Return them as the webhooks of an OpenAPI document, for tools that make receivers."""
    own = [
        (EventType(row.name, row.version, row.description, row.schema), tuple(row.breaking_changes))
        for row in await store.newest(call.tx)
    ]
    return pb.ExportEventTypesResponse(document=to_struct(document([(one, ()) for one in EVENT_TYPES] + own)))


def _message(event_type: EventType) -> pb.EventType:
    return pb.EventType(
        name=event_type.name,
        version=event_type.version,
        description=event_type.description,
        schema=to_struct(event_type.schema),
    )


def _own(row: Any) -> pb.EventType:
    return pb.EventType(
        name=row.name, version=row.version, description=row.description, schema=to_struct(row.schema), custom=True
    )
