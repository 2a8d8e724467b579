"""Who takes a connection, who waits for one, and what becomes of one that is spent."""

from __future__ import annotations

import asyncio

import pytest

from core.store import connections
from core.store.connections import NoConnection
from core.store.database import Database, is_outage

pytestmark = pytest.mark.anyio


async def test_who_waits_has_it_before_who_gave_it_back(database: Database) -> None:
    turns: list[str] = []

    async def take_again_and_again() -> None:
        for _ in range(50):
            async with database.system() as tx:
                await tx.fetch("SELECT 1")
            turns.append("again")

    async def once() -> None:
        async with database.system() as tx:
            await tx.fetch("SELECT 1")
        turns.append("once")

    busy = [asyncio.create_task(take_again_and_again()) for _ in range(8)]  # as many as PostgreSQL has for workers
    await asyncio.sleep(0)
    await once()
    assert turns.index("once") < 50
    await asyncio.gather(*busy)


async def test_who_waits_too_long_is_told_that_the_database_is_busy(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "_LONGEST_WAIT_SECONDS", 0.001)
    taken = [await database.workers.take() for _ in range(8 if database.is_postgresql else 1)]
    with pytest.raises(NoConnection) as raised:
        await database.workers.take()
    assert is_outage(raised.value)
    for one in taken:
        await database.workers.give_back(one, is_spent=False)
    assert await database.workers.take() is taken[-1], "the one used last is the first to be used"
    await database.workers.give_back(taken[-1], is_spent=True)
    fresh = await database.workers.take()
    assert fresh is not taken[-1]
    await database.workers.give_back(fresh, is_spent=False)


async def test_after_the_end_nobody_takes_one_and_what_is_given_back_is_closed(database: Database) -> None:
    taken = await database.workers.take()
    await database.workers.close()
    with pytest.raises(NoConnection):
        await database.workers.take()
    await database.workers.give_back(taken, is_spent=False)
    assert taken.dbapi_connection is None
