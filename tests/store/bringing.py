"""Bringing events to a database, and asking what is there."""

from __future__ import annotations

from pathlib import Path

from core.clock import ManualClock
from core.store.database import Database
from core.store.events import events
from core.store.events.events import NewEvent
from core.store.transaction import Transaction

EVENT = "evt_01kjprzb00aats7gr24n7fbkaz"
STORED = "SELECT count(*) FROM events WHERE org_id = $1"


async def opened(folder: Path, clock: ManualClock) -> Database:
    """Return a database in a file, `a.db`."""
    database = await Database.open(f"sqlite:///{folder}/a.db", clock)
    await database.create_schema()
    return database


async def store(tx: Transaction, event: str = EVENT) -> None:
    """Store an event."""
    await events.store(tx, [NewEvent(event, "api", "action", "form.submitted", {}, None, tx.now, "")])


async def asked(database: Database, sql: str, *values: str) -> int:
    """Return the number that a statement comes to."""
    async with database.read("org_a") as tx:
        return int((await tx.fetch(sql, *values))[0][0])
