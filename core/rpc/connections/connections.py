"""Handlers of ConnectionService: what carries the messages of a channel, and within which limits.

What is particular to systems of record is in system_connections.py.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from google.protobuf.empty_pb2 import Empty
from sqlalchemy import Row

from core import ids
from core.domain.connections import settings as connection_settings
from core.domain.connections.settings import Settings, Surroundings
from core.domain.errors import ChannelTaken, Invalid, NotFound, TooManyConnections, Violation
from core.domain.nearest import did_you_mean
from core.domain.webhooks import authentication
from core.rpc import changes
from core.rpc.call import Call
from core.rpc.connections import system_connections, system_messages
from core.rpc.connections.connection_messages import FIELDS, etag, merged, message_of, settings_in, state_of
from core.store.organizations import organizations
from core.store.systems import connections, credentials
from core.store.systems.connections import ConnectionState
from dripstone.v1 import connection_pb2 as pb

MAX_CONNECTIONS = 100
"""Of one organization."""

_CHANGEABLE = (*FIELDS, "state")


async def create_connection(request: pb.CreateConnectionRequest, call: Call) -> pb.Connection:
    """Add a connection; it carries its channel at once, unless it is to begin paused."""
    kind = request.connection.kind
    if kind == connections.SYSTEM:
        return await system_connections.create(request, call, MAX_CONNECTIONS)
    if kind not in ("", connections.CHANNEL):
        hint = did_you_mean(kind, (connections.CHANNEL, connections.SYSTEM), "Use channel or system.")
        raise Invalid(Violation("connection.kind", "UNKNOWN_KIND", "there is no such kind of connection", hint))
    settings, violations = connection_settings.check(settings_in(request.connection), FIELDS, _surroundings(call))
    if violations:
        raise Invalid(*violations)
    await organizations.hold(call.tx)
    if await connections.count(call.tx) >= MAX_CONNECTIONS:
        raise TooManyConnections(limit=MAX_CONNECTIONS)
    state = state_of(request.connection.state) or ConnectionState.ACTIVE
    if state is ConnectionState.ACTIVE:
        await _channel_is_free(call, settings.channel)
    connection_id = ids.mint("con", call.now)
    settings = connections.sealed(settings, call.parts.vault, call.caller.org_id, connection_id)
    row = await connections.create(call.tx, connection_id, settings, state)
    await connections.bring_forward(call.tx, settings.channel)
    return await _told(row, call)


async def get_connection(request: pb.GetConnectionRequest, call: Call) -> pb.Connection:
    """Return one connection."""
    return await _told(await _get(call, request.connection_id), call)


async def list_connections(request: pb.ListConnectionsRequest, call: Call) -> pb.ListConnectionsResponse:
    """Return a page of connections, newest first."""
    rows, token = await connections.listed(call.tx, request.page_size, request.page_token)
    zone = await connections.zone(call.tx)
    signed = await credentials.which(call.tx, [row.id for row in rows if row.kind == connections.SYSTEM])
    told = [
        system_messages.message_of(row, signed) if row.kind == connections.SYSTEM else message_of(row, zone, call.now)
        for row in rows
    ]
    return pb.ListConnectionsResponse(connections=told, next_page_token=token)


async def update_connection(request: pb.UpdateConnectionRequest, call: Call) -> pb.Connection:
    """Change what the mask names; what waits for the connection asks again at once."""
    wanted = request.connection
    await organizations.hold(call.tx)  # of two that become active at once, the second sees the first
    row = await _get(call, wanted.id, lock=True)
    if wanted.kind and wanted.kind != row.kind:
        message = f"{row.id} stays a connection of kind {row.kind}"
        raise Invalid(Violation("connection.kind", "FIXED", message, "Create another connection."))
    if row.kind == connections.SYSTEM:
        return await system_connections.update(request, row, call)
    changes.expect("connection", row.id, given=wanted.etag, current=etag(row))
    fields = _mask(request)
    if not fields:
        return await _told(row, call)
    state = _state(row, wanted, fields)
    settings = _changed(row, wanted, fields, call)
    if "call" in fields:
        settings = connections.sealed(settings, call.parts.vault, call.caller.org_id, row.id)
    if state is ConnectionState.ACTIVE and (state != row.state or settings.channel != row.channel):
        await _channel_is_free(call, settings.channel, but=row.id)
    await connections.bring_forward(call.tx, row.channel)
    values: dict[str, Any] = {**connections.setting_columns(settings, fields), "state": state, "queued_until": None}
    if "call" in fields:
        values["gate_until"] = None
    row = await connections.change(call.tx, row.id, values)
    if "channel" in fields:
        await connections.bring_forward(call.tx, row.channel)
    return await _told(row, call)


async def delete_connection(request: pb.DeleteConnectionRequest, call: Call) -> Empty:
    """Remove a connection; what waits for it goes on as if there had been none."""
    row = await _get(call, request.connection_id, lock=True)
    await connections.remove(call.tx, row.id)
    if row.kind == connections.SYSTEM:
        await system_connections.remove(row, call)
    else:
        await connections.bring_forward(call.tx, row.channel)
    return Empty()


async def _get(call: Call, connection_id: str, *, lock: bool = False) -> Row[Any]:
    row = await connections.get(call.tx, connection_id, lock=lock)
    if row is None:
        raise NotFound(kind="connection", id=connection_id)
    return row


async def _told(row: Row[Any], call: Call) -> pb.Connection:
    if row.kind == connections.SYSTEM:
        return await system_connections.told(row, call)
    return message_of(row, await connections.zone(call.tx), call.now)


async def _channel_is_free(call: Call, channel: str, *, but: str = "") -> None:
    taken = await connections.active_on(call.tx, channel, but=but)
    if taken is not None:
        raise ChannelTaken(connection_id=taken.id, channel=channel)


def _surroundings(call: Call) -> Surroundings:
    return Surroundings(call.parts.webhook_sender.destinations, call.now)


def _mask(request: pb.UpdateConnectionRequest) -> list[str]:
    """Return the fields to change: those of the mask, or those that are set."""
    given = [name for name in _CHANGEABLE if _is_set(request.connection, name)]
    return changes.masked(request.update_mask.paths, _CHANGEABLE) or given


def _is_set(connection: pb.Connection, name: str) -> bool:
    if name in ("call", "result"):
        return connection.HasField(name)  # type: ignore[arg-type]
    return bool(getattr(connection, name))


def _state(row: Row[Any], wanted: pb.Connection, fields: Collection[str]) -> ConnectionState:
    state = state_of(wanted.state) if "state" in fields else ConnectionState(row.state)
    if state is None:
        message = "a connection is active or paused"
        hint = "Use CONNECTION_STATE_PAUSED to hold its messages."
        raise Invalid(Violation("connection.state", "STATE_NOT_SETTABLE", message, hint))
    return state


def _changed(row: Row[Any], wanted: pb.Connection, fields: Collection[str], call: Call) -> Settings:
    """Return the settings as they will be.

    Raises Invalid with everything that is wrong.
    """
    present = connections.settings(row)
    given = settings_in(wanted)
    if "call" in fields and authentication.keeps(given.auth, present.auth):  # else a lost secret could not be set anew
        present = connections.opened(present, call.parts.vault, call.caller.org_id, row.id)
    given = replace(given, auth=authentication.kept(given.auth, present.auth))
    settings, violations = connection_settings.check(merged(present, given, fields), fields, _surroundings(call))
    if "call" in fields and not violations:
        where = {"url": settings.call.host, "url_before": present.call.host, "field": "connection.call.auth"}
        violations += changes.secrets_that_move(settings.auth, present.auth, **where)
    if violations:
        raise Invalid(*violations)
    return settings
