"""Who is connected to a database: what a dead process had sent to PostgreSQL may still be carried out for a moment."""

from __future__ import annotations

import asyncio

from core.store.database import Database

_CLIENTS = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend'"


async def connections(database: Database) -> set[int]:
    """Return the processes of PostgreSQL that serve somebody on this database; on SQLite there are none."""
    if not database.is_postgresql:
        return set()
    async with database.system() as tx:
        return {pid for (pid,) in await tx.fetch(_CLIENTS)}


async def left_alone(database: Database, ours: set[int]) -> None:
    """Return when nobody but these is served any more."""
    async with asyncio.timeout(30):
        while await connections(database) - ours:
            pass  # each question takes the database a moment, and the dead hardly more
