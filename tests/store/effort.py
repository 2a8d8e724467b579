"""How much a database looks at for some work: what is indexed stays cheap however many rows there are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import count as numbers
from typing import Any, cast

import aiosqlite
import asyncpg
import pytest

from core.store import statement_times
from core.store.database import Database
from core.store.sqlite_session import SqliteSession
from core.store.statement_times import Kind, StatementTimes
from core.store.transaction import Transaction

_LOOKED_AT = (
    "SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(oid)), 0)::bigint FROM pg_class "
    "WHERE relname NOT LIKE 'pg\\_%' AND relkind IN ('r', 'i')"
)


async def tidy(database: Database, table: str) -> None:
    """Let PostgreSQL clear away and count what there is, as it does by itself soon after much was written."""
    if database.is_postgresql:
        async with database.workers.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.exec_driver_sql(f"VACUUM ANALYZE {table}")


async def effort(tx: Transaction, work: Callable[[], Awaitable[Any]]) -> int:
    """Return the rows and index entries that PostgreSQL reads, or the steps that SQLite's machine makes.

    The steps are counted in tens: looking at a row takes about as many.
    """
    if tx.dialect == "postgresql":
        if not (await tx.driver()).is_in_transaction():
            raise ValueError("PostgreSQL counts by transaction, and who only reads has none: measure in another one")
        before = (await tx.fetch(_LOOKED_AT))[0][0]
        await work()
        return int((await tx.fetch(_LOOKED_AT))[0][0] - before)
    driver, steps = await tx.driver(), numbers()
    session = cast(SqliteSession, tx._session)
    times, session._times = session._times, _Apart()
    await driver.set_progress_handler(lambda: next(steps) and 0, 10)
    await work()
    await driver.set_progress_handler(None, 0)
    session._times = times
    return next(steps)


class _Apart(StatementTimes):
    """Nothing is short: in the loop's thread, SQLite's steps are counted by the product itself."""

    def is_short(self, sql: str, kind: Kind) -> bool:
        """Say no."""
        return False


def counted_trips(monkeypatch: pytest.MonkeyPatch, database: Database) -> list[tuple[Any, str]]:
    """Return what grows by each connection and its trip that the present task makes.

    What SQLite does in the loop's thread is no trip, and a busy machine does not make it one.
    """
    monkeypatch.setattr(statement_times, "SHORT_SECONDS", 10.0)
    trips: list[tuple[Any, str]] = []
    task = asyncio.current_task()

    def count(driver: Any, name: str) -> None:
        make = getattr(driver, name)

        async def counted(connection: Any, *arguments: Any, **named: Any) -> Any:
            if asyncio.current_task() is task:  # not who tells other processes, beside it
                trips.append((connection, name))
            return await make(connection, *arguments, **named)

        monkeypatch.setattr(driver, name, counted)

    for name in ("fetch", "execute", "executemany") if database.is_postgresql else ("_execute",):
        count(asyncpg.Connection if database.is_postgresql else aiosqlite.Connection, name)
    return trips
