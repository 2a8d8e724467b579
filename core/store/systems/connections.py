"""Connections: the calls that carry the messages of a channel, with their limits; and outside systems of record."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Float, Index, Integer, Row, Table, delete, func, select, text, update

from core.domain.connections.call import Call
from core.domain.connections.limits import HELD, Limits, Usage
from core.domain.connections.result import ResultMapping
from core.domain.connections.settings import Settings
from core.domain.frozen import frozen
from core.domain.systems import settings as system_settings
from core.domain.systems.settings import SystemSettings
from core.domain.webhooks import authentication
from core.domain.workflow.zones import Zone, zone_of
from core.store.messages.outgoing import MessageState, outgoing_messages
from core.store.metadata import Instant, Json, Name, from_micros, metadata, org_id, to_micros
from core.store.organizations import organizations
from core.store.paging import page
from core.store.systems.vault import Vault
from core.store.transaction import Transaction


class ConnectionState(StrEnum):
    """Where a connection is in its life."""

    ACTIVE = "active"
    PAUSED = "paused"


_ACTIVE = "state = 'active' AND kind = 'channel'"

CHANNEL, SYSTEM = "channel", "system"
"""Kinds: what carries the messages of a channel, and what is kept in step with an outside system of record."""

connections = Table(
    "connections",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("kind", Name, nullable=False, server_default="channel"),
    Column("display_name", Name, nullable=False),
    # Empty for a system of record.
    Column("channel", Name, nullable=False),
    # {"method", "url", "headers", "body", "content_type"}
    Column("call", Json, nullable=False),
    # {"scheme": "basic" | "bearer" | "oauth2" | "mtls", …}; empty for none.
    Column("auth", Json, nullable=False),
    # {"sent", "retryable", "message_id", "error"}, each CEL or empty.
    Column("result", Json, nullable=False),
    Column("rate_per_second", Float, nullable=False),
    Column("daily_limit", Integer, nullable=False),
    Column("max_in_flight", Integer, nullable=False),
    Column("state", Name, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    # What of the limits is used up: see core/domain/connections/limits.py.
    Column("rate_until", Instant),
    Column("queued_until", Instant),
    Column("gate_until", Instant),
    Column("day", Name, nullable=False),
    Column("sent", Integer, nullable=False),
    # Message id to the end of its lease, in microseconds.
    Column("calls", Json, nullable=False),
    # Of a system of record: its settings, see core/domain/systems/settings.py; credentials have a table of their own.
    Column("system", Json, nullable=False, server_default="{}"),
    # How far it is in step: {"contact": {"pull": microseconds}}; when that was last so, and when it pulls by itself.
    Column("marks", Json, nullable=False, server_default="{}"),
    Column("synced_at", Instant),
    Column("pull_at", Instant),
    # Of a system of record: whose budget pays for the syncs that begin by themselves; who has set it last.
    Column("owner", Json),
    Index(
        "connections_channel",
        "org_id",
        "channel",
        unique=True,
        sqlite_where=text(_ACTIVE),
        postgresql_where=text(_ACTIVE),
    ),
)

UNUSED: Mapping[str, Any] = {
    "rate_until": None,
    "queued_until": None,
    "gate_until": None,
    "day": "",
    "sent": 0,
    "calls": {},
}
"""The columns of a connection that has sent nothing."""


@frozen
class Carrying:
    """The connection of a channel, held by this transaction."""

    id: str
    settings: Settings
    usage: Usage
    paused: bool
    zone: Zone
    """The organization's."""


def settings(row: Row[Any]) -> Settings:
    """Return what its owner has decided about a connection; its secret as it is stored."""
    return Settings(
        display_name=row.display_name,
        channel=row.channel,
        call=Call(**row.call),
        auth=authentication.from_column(row.auth),
        result=ResultMapping(**row.result),
        limits=Limits(row.rate_per_second, row.daily_limit, row.max_in_flight),
    )


def opened(given: Settings, vault: Vault, org: str, connection_id: str) -> Settings:
    """Return settings that were stored with their secret opened. Raises MasterKeyMissing."""
    return given if given.auth is None else replace(given, auth=vault.open_auth(given.auth, about(org, connection_id)))


def sealed(given: Settings, vault: Vault, org: str, connection_id: str) -> Settings:
    """Return settings with their secret as it is stored. Raises MasterKeyMissing."""
    return given if given.auth is None else replace(given, auth=vault.seal_auth(given.auth, about(org, connection_id)))


def about(org: str, connection_id: str) -> str:
    """Return what the secret of a connection is bound to."""
    return f"{org}/{connection_id}/auth"


def setting_columns(given: Settings, fields: Collection[str]) -> dict[str, Any]:
    """Return these fields of settings as columns."""
    columns = {
        "display_name": given.display_name,
        "channel": given.channel,
        "call": asdict(given.call),
        "result": asdict(given.result),
        "rate_per_second": given.limits.rate_per_second,
        "daily_limit": given.limits.daily_limit,
        "max_in_flight": given.limits.max_in_flight,
    }
    chosen = {name: columns[name] for name in columns if name in fields}
    return {**chosen, "auth": authentication.column(given.auth)} if "call" in fields else chosen


def usage(row: Row[Any]) -> Usage:
    """Return what of its limits is used up."""
    calls = {message: from_micros(until) for message, until in row.calls.items()}
    return Usage(row.rate_until, row.queued_until, row.gate_until, row.day, row.sent, calls)


async def create(tx: Transaction, connection_id: str, given: Settings, state: ConnectionState) -> Row[Any]:
    """Insert a connection and return it; the caller holds the organization, and no active one carries its channel."""
    fields = ("display_name", "channel", "call", "result", "rate_per_second", "daily_limit", "max_in_flight")
    about = {"id": connection_id, "state": state, "rev": 1, "created_at": tx.now, "updated_at": tx.now}
    row = {**setting_columns(given, fields), **about, **UNUSED}
    await tx.insert(connections, [row])
    created = await get(tx, connection_id)
    assert created is not None
    return created


async def create_system(
    tx: Transaction, connection_id: str, display_name: str, given: SystemSettings, state: ConnectionState
) -> Row[Any]:
    """Insert a connection to a system of record and return it."""
    nothing = Settings(display_name, "", Call("", "", {}, "", ""), None, ResultMapping("", "", "", ""), Limits(0, 0, 0))
    fields = ("display_name", "channel", "call", "result", "rate_per_second", "daily_limit", "max_in_flight")
    about = {"id": connection_id, "state": state, "rev": 1, "created_at": tx.now, "updated_at": tx.now}
    of_system = {"kind": SYSTEM, **system_columns(given, tx.now)}
    await tx.insert(connections, [{**setting_columns(nothing, fields), **about, **UNUSED, **of_system}])
    row = await get(tx, connection_id)
    assert row is not None
    return row


async def set_owner(tx: Transaction, connection_id: str, owner: Mapping[str, str]) -> None:
    """Say whose budget pays for the syncs of a connection that begin by themselves."""
    await tx.run(update(connections).where(connections.c.id == connection_id).values(owner=dict(owner)))


def system(row: Row[Any]) -> SystemSettings:
    """Return what its owner has decided about a connection to a system of record."""
    return system_settings.from_column(row.system)


def system_columns(given: SystemSettings, now: datetime) -> dict[str, Any]:
    """Return settings of a system of record as columns."""
    pulls = now + timedelta(seconds=given.pull_seconds) if given.pull_seconds else None
    return {"system": system_settings.column(given), "pull_at": pulls}


async def active_systems(tx: Transaction) -> Sequence[Row[Any]]:
    """Return the active systems of record of every organization, in a system transaction."""
    c = connections.c
    return await tx.all(select(connections).where(c.kind == SYSTEM, c.state == ConnectionState.ACTIVE))


async def get(tx: Transaction, connection_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a connection, or None; `lock` holds it until the transaction ends."""
    statement = select(connections).where(connections.c.id == connection_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def count(tx: Transaction) -> int:
    """Return how many connections the organization has."""
    row = await tx.first(select(func.count()).select_from(connections))
    assert row is not None
    return int(row[0])


async def listed(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of connections, newest first, and the token of the next."""
    return await page(tx, select(connections), connections.c.id, size, token)


async def active_on(tx: Transaction, channel: str, *, but: str = "") -> Row[Any] | None:
    """Return the active connection of a channel, or None; `but` is not looked at."""
    c = connections.c
    statement = select(connections).where(
        c.channel == channel, c.kind == CHANNEL, c.state == ConnectionState.ACTIVE, c.id != but
    )
    return await tx.first(statement)


async def change(tx: Transaction, connection_id: str, values: Mapping[str, Any]) -> Row[Any]:
    """Set columns of a connection that is known to exist, count its rev, and return it."""
    changed = {**values, "rev": connections.c.rev + 1, "updated_at": tx.now}
    await tx.run(update(connections).where(connections.c.id == connection_id).values(changed))
    row = await get(tx, connection_id)
    assert row is not None
    return row


async def remove(tx: Transaction, connection_id: str) -> None:
    """Delete a connection."""
    await tx.run(delete(connections).where(connections.c.id == connection_id))


async def hold(tx: Transaction, channel: str) -> Carrying | None:
    """Return the connection of a channel, held until the transaction ends: the active one, else one that is paused."""
    c = connections.c
    statement = select(connections).where(c.channel == channel, c.kind == CHANNEL)
    row = await tx.first(statement.order_by(c.state, c.id).limit(1).with_for_update())
    return None if row is None else await _carrying(tx, row)


async def hold_again(tx: Transaction, connection_id: str) -> Carrying | None:
    """Return a connection by its id, held until the transaction ends; None where it has been deleted."""
    row = await get(tx, connection_id, lock=True)
    return None if row is None else await _carrying(tx, row)


async def zone(tx: Transaction) -> Zone:
    """Return the zone in which days are counted: the organization's."""
    return zone_of(None, None, (await organizations.get(tx)).timezone)


async def _carrying(tx: Transaction, row: Row[Any]) -> Carrying:
    return Carrying(row.id, settings(row), usage(row), row.state == ConnectionState.PAUSED, await zone(tx))


async def use(tx: Transaction, connection_id: str, used: Usage) -> None:
    """Write down what of a connection's limits is used up; the caller holds it."""
    values = {
        "rate_until": used.rate_until,
        "queued_until": used.queued_until,
        "gate_until": used.gate_until,
        "day": used.day,
        "sent": used.sent,
        "calls": {message: to_micros(until) for message, until in used.calls.items()},
    }
    await tx.run(update(connections).where(connections.c.id == connection_id).values(values))


async def bring_forward(tx: Transaction, channel: str) -> int:
    """Make the messages due that wait for the connection of a channel, and return how many: something has changed."""
    c = outgoing_messages.c
    waiting = (
        c.channel == channel,
        c.state == MessageState.PENDING.value,
        c.due_at > tx.now,
        c.outcome.startswith(HELD),
    )
    found = await tx.all(select(c.id).where(*waiting).order_by(c.id).with_for_update(skip_locked=True))
    for start in range(0, len(found), 5_000):
        ids = [row.id for row in found[start : start + 5_000]]
        await tx.run(update(outgoing_messages).where(c.id.in_(ids)).values(due_at=c.created_at))
    if found:
        tx.wake("mailer")
    return len(found)
