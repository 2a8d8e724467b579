"""Handlers of WebhookService for the catalogue of event types: the core's own, and those of the organization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row

from core.domain.errors import Invalid, TooManyEventTypes
from core.domain.frozen import frozen
from core.domain.webhooks import own_types
from core.domain.webhooks.event_type_export import document
from core.domain.webhooks.event_types import CATALOGUE, EVENT_TYPES, EventType
from core.rpc.call import Call
from core.rpc.convert import from_struct, to_struct
from core.store import paging
from core.store.metadata import write_json
from core.store.webhooks import event_types as store
from dripstone.v1 import webhook_pb2 as pb

MOST_BYTES = 1 << 20
"""Of schemas on one page: clients take 4 MB unless told otherwise, and a schema may have 20,000 characters."""

_LOOKED_AT_ONCE = 50
_LIST = "event types"
_POSITIONS = {one.name: number for number, one in enumerate(EVENT_TYPES)}


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
    """Return a page of the newest versions: the core's own in the catalogue's order, then the organization's."""
    page = await _page(call, paging.page_size(request.page_size), request.page_token)
    shown = [*map(_message, page.core), *map(_own, page.own)]
    return pb.ListEventTypesResponse(event_types=shown, next_page_token=page.next_token)


async def export_event_types(request: pb.ExportEventTypesRequest, call: Call) -> pb.ExportEventTypesResponse:
    """Return a page of them as the webhooks of an OpenAPI document, for tools that make receivers."""
    page = await _page(call, paging.page_size(request.page_size or paging.LARGEST_SIZE), request.page_token)
    shown: list[tuple[EventType, tuple[str, ...]]] = [(one, ()) for one in page.core]
    for row in page.own:
        shown.append((EventType(row.name, row.version, row.description, row.schema), tuple(row.breaking_changes)))
    return pb.ExportEventTypesResponse(document=to_struct(document(shown)), next_page_token=page.next_token)


@frozen
class _Page:
    """Types that follow each other."""

    core: Sequence[EventType]
    own: Sequence[Row[Any]]
    next_token: str


async def _page(call: Call, size: int, token: str) -> _Page:
    """Return so many types, or as many as have room; names tell the two kinds apart, for the core's are reserved.

    Raises Invalid for a token of another list.
    """
    after = paging.decode_token(token, _LIST) if token else ""
    core: Sequence[EventType] = ()
    if not after or after in CATALOGUE:
        first = _POSITIONS[after] + 1 if after else 0
        core, after = EVENT_TYPES[first : first + size], ""
        if first + len(core) < len(EVENT_TYPES):
            return _Page(core, (), paging.encode_token(core[-1].name, _LIST))
    own: list[Row[Any]] = []
    taken = 0
    while True:
        rows = await store.newest(call.tx, after=after, limit=min(_LOOKED_AT_ONCE, size - len(core) - len(own) + 1))
        for row in rows:
            taken += len(write_json(row.schema))
            if len(core) + len(own) == size or (taken > MOST_BYTES and own):
                last = own[-1].name if own else core[-1].name
                return _Page(core, own, paging.encode_token(last, _LIST))
            own.append(row)
        if len(rows) < _LOOKED_AT_ONCE:
            return _Page(core, own, "")
        after = own[-1].name


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
