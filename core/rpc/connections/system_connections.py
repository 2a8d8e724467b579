"""The part of CreateConnection, UpdateConnection and DeleteConnection that is about systems of record."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from core import ids
from core.domain.errors import Invalid, TooManyConnections, Violation
from core.domain.systems import settings as system_settings
from core.domain.systems.settings import SystemSettings
from core.rpc import changes
from core.rpc.admission.permission import spender
from core.rpc.call import Call
from core.rpc.connections.connection_messages import etag, state_of
from core.rpc.connections.system_messages import message_of, settings_in
from core.store.organizations import organizations
from core.store.records import record_schema
from core.store.systems import connections, credentials, sync_links, syncs
from core.store.systems.connections import ConnectionState
from dripstone.v1 import connection_pb2 as pb

_CHANGEABLE = ("display_name", "system", "state")
_OF_CHANNELS = ("channel", "call", "result", "rate_per_second", "daily_limit", "max_in_flight")


async def create(request: pb.CreateConnectionRequest, call: Call, most: int) -> pb.Connection:
    """Add a connection to a system of record; it does nothing until it has credentials and is told to."""
    given = request.connection
    settings = await _checked(given, call)
    await organizations.hold(call.tx)
    if await connections.count(call.tx) >= most:
        raise TooManyConnections(limit=most)
    state = state_of(given.state) or ConnectionState.ACTIVE
    row = await connections.create_system(call.tx, ids.mint("con", call.now), given.display_name, settings, state)
    await connections.set_owner(call.tx, row.id, spender(call).plain())
    return message_of(row, ())


async def update(request: pb.UpdateConnectionRequest, row: Row[Any], call: Call) -> pb.Connection:
    """Change what the mask names; credentials are forgotten where they would go to another place."""
    given = request.connection
    changes.expect("connection", row.id, given=given.etag, current=etag(row))
    present = [name for name in _CHANGEABLE if (given.HasField("system") if name == "system" else getattr(given, name))]
    fields = changes.masked(request.update_mask.paths, _CHANGEABLE) or present
    values: dict[str, Any] = {}
    if "display_name" in fields:
        values["display_name"] = given.display_name
    if "state" in fields:
        state = state_of(given.state)
        if state is None:
            hint = "Use CONNECTION_STATE_PAUSED to keep it from syncing by itself."
            raise Invalid(Violation("connection.state", "STATE_NOT_SETTABLE", "it is active or paused", hint))
        values["state"] = state
    if "system" in fields:
        settings, before = await _checked(given, call), connections.system(row)
        values |= connections.system_columns(settings, call.now)
        if settings.system != before.system:
            message = "a connection stays with its kind of system"
            raise Invalid(Violation("connection.system.system", "FIXED", message, "Create another connection."))
        if not system_settings.origins(settings) <= system_settings.origins(before):
            await credentials.remove(call.tx, row.id)
        # What was not read before must be read from the beginning.
        if (settings.mappings, settings.deletions) != (before.mappings, before.deletions):
            values["marks"] = {}
    if values:
        values["owner"] = spender(call).plain()
        row = await connections.change(call.tx, row.id, values)
    return await told(row, call)


async def remove(row: Row[Any], call: Call) -> None:
    """Forget what belongs to a connection; names of records in the other system stay with the records."""
    await syncs.remove_all(call.tx, row.id)
    await sync_links.remove_all(call.tx, row.id)
    await credentials.remove(call.tx, row.id)


async def told(row: Row[Any], call: Call) -> pb.Connection:
    """Return a connection as the contract has it."""
    return message_of(row, await credentials.which(call.tx, [row.id]))


async def _checked(given: pb.Connection, call: Call) -> SystemSettings:
    schema = await record_schema.of(call.tx)
    destinations = call.parts.webhook_sender.destinations
    settings, violations = system_settings.check(settings_in(given.system), destinations, schema)
    for number, one in enumerate(given.system.operations):
        if one.call.HasField("auth"):
            at = f"connection.system.operations[{number}].call.auth"
            hint = "Set credentials with SetCredentials."
            violations.append(Violation(at, "NOT_APPLICABLE", "what authenticates is set apart", hint))
    for name in _OF_CHANNELS:
        there = given.HasField(name) if name in ("call", "result") else bool(getattr(given, name))  # type: ignore[arg-type]
        if there:
            message = "is for connections that carry messages"
            violations.append(Violation(f"connection.{name}", "NOT_APPLICABLE", message, "Leave it out."))
    if violations:
        raise Invalid(*violations)
    return settings
