"""Syncs that begin by themselves: at their time, and where something has changed here that goes there."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select, update

from core.domain import names
from core.store.control import audit
from core.store.records.record_rows import record_changes
from core.store.systems import connections, credentials, syncs
from core.store.systems.syncs import SCHEDULE
from core.store.transaction import Transaction

_BY_SYNC = "sync:"


async def begin_due(tx: Transaction) -> int:
    """Begin the syncs that are due, in a system transaction; return how many those are."""
    begun = 0
    for row in await connections.active_systems(tx):
        here = tx.within(row.org_id)
        settings = connections.system(row)
        pulls = row.pull_at is not None and row.pull_at <= tx.now
        if not pulls and not settings.push_changes:
            continue
        if settings.system != "http" and not await credentials.which(here, [row.id]):
            continue
        if pulls:
            begun += await _begin(here, row, "both" if settings.push_changes else "pull")
        elif await _changed(here, row.id):
            begun += await _begin(here, row, "push")
    if begun:
        tx.wake("syncer")
    return begun


async def _begin(tx: Transaction, row: Row[Any], direction: str) -> int:
    """Begin one, unless one is under way: then this comes again."""
    settings = connections.system(row)
    types = [mapping.type for mapping in settings.mappings]
    how: dict[str, Any] = {"whole": False, "preview": False, "actor": SCHEDULE, "spender": row.owner}
    begun = await syncs.begin(tx, row.id, direction, types, **how)
    if begun is None:
        return 0
    if direction != "push":
        values = {"pull_at": connections.system_columns(settings, tx.now)["pull_at"]}
        await tx.run(update(connections.connections).where(connections.connections.c.id == row.id).values(values))
    summary = "began to bring records in step with an outside system"
    await audit.by_system(tx, tx.org_id, "StartSync", subject_id=begun.id, summary=summary, reason="", cause=SCHEDULE)
    return 1


async def _changed(tx: Transaction, connection_id: str) -> bool:
    """Tell whether a record has changed here since the last sync that went there, by anything but a sync."""
    c = syncs.syncs.c
    went = select(c.created_at).where(c.connection_id == connection_id, c.direction != "pull", c.preview.is_(False))
    last = await tx.first(went.order_by(c.id.desc()).limit(1))
    changes = record_changes.c
    statement = select(changes.id).where(~changes.cause.startswith(_BY_SYNC)).limit(1)
    if last is not None:
        statement = statement.where(changes.id >= names.compose("chg", last.created_at, 0))
        statement = statement.where(changes.created_at > last.created_at)
    return await tx.first(statement) is not None
