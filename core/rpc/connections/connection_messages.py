"""Connections, between the contract's messages and the domain; what is secret goes in and never comes out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from core.domain.connections import limits
from core.domain.connections.call import Call
from core.domain.connections.limits import Limits
from core.domain.connections.result import ResultMapping
from core.domain.connections.settings import Settings
from core.domain.workflow.zones import Zone
from core.rpc.convert import to_timestamp
from core.rpc.webhooks import endpoint_auth
from core.store.systems import connections
from core.store.systems.connections import ConnectionState
from dripstone.v1 import connection_pb2 as pb

LIMITS = ("rate_per_second", "daily_limit", "max_in_flight")
FIELDS = ("display_name", "channel", "call", "result", *LIMITS)
"""What its owner decides."""

_STATES = {state: pb.ConnectionState.Value(f"CONNECTION_STATE_{state.name}") for state in ConnectionState}


def state_value(row: Row[Any]) -> pb.ConnectionState.ValueType:
    """Return the state of a connection as the contract has it."""
    return _STATES[ConnectionState(row.state)]


def etag(row: Row[Any]) -> str:
    """Return the version of a connection."""
    return f'"{row.rev}"'


def state_of(value: int) -> ConnectionState | None:
    """Return a state; None for none."""
    return next((state for state, number in _STATES.items() if number == value), None)


def settings_in(given: pb.Connection) -> Settings:
    """Return what a message says, as it stands."""
    call, result = given.call, given.result
    return Settings(
        display_name=given.display_name,
        channel=given.channel,
        call=Call(call.method, call.url, dict(call.headers), call.body, call.content_type),
        auth=endpoint_auth.from_message(call.auth),
        result=ResultMapping(result.sent, result.retryable, result.message_id, result.error),
        limits=Limits(given.rate_per_second, given.daily_limit, given.max_in_flight),
    )


def merged(present: Settings, given: Settings, fields: Collection[str]) -> Settings:
    """Return the present settings with these fields of what is given."""
    whole = [name for name in ("display_name", "channel", "call", "result") if name in fields]
    changes: dict[str, Any] = {name: getattr(given, name) for name in whole}
    if "call" in fields:
        changes["auth"] = given.auth
    numbers: dict[str, Any] = {name: getattr(given.limits, name) for name in LIMITS if name in fields}
    return replace(present, **changes, limits=replace(present.limits, **numbers))


def message_of(row: Row[Any], zone: Zone, now: datetime) -> pb.Connection:
    """Return a connection without what is secret."""
    settings = connections.settings(row)
    call = settings.call
    return pb.Connection(
        id=row.id,
        kind=row.kind,
        display_name=settings.display_name,
        channel=settings.channel,
        call=pb.HttpCall(
            method=call.method,
            url=call.url,
            headers=call.headers,
            body=call.body,
            content_type=call.content_type,
            auth=endpoint_auth.to_message(settings.auth),
        ),
        result=pb.ResultMapping(**row.result),
        rate_per_second=settings.limits.rate_per_second,
        daily_limit=settings.limits.daily_limit,
        max_in_flight=settings.limits.max_in_flight,
        state=_STATES[ConnectionState(row.state)],
        etag=etag(row),
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
        sent_today=limits.sent_today(connections.usage(row), zone, now),
    )
