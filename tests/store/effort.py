"""How much a database looks at for some work: what is indexed stays cheap however many rows there are."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import count
from typing import Any

from core.store.database import Database
from core.store.transaction import Transaction

_LOOKED_AT = (
    "SELECT coalesce(sum(pg_stat_get_xact_tuples_returned(oid)), 0)::bigint FROM pg_class "
    "WHERE relname NOT LIKE 'pg\\_%' AND relkind IN ('r', 'i')"
)


async def tidy(database: Database, table: str) -> None:
    """Let PostgreSQL clear away and count what there is, as it does by itself soon after much was written."""
    if database.is_postgresql:
        async with database.workers.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.exec_driver_sql(f"VACUUM ANALYZE {table}")


async def effort(tx: Transaction, work: Callable[[], Awaitable[Any]]) -> int:
    """Return the rows and index entries that PostgreSQL reads, or the steps that SQLite's machine makes.

    The steps are counted in tens: looking at a row takes about as many.
    """
    if tx.dialect == "postgresql":
        before = (await tx.fetch(_LOOKED_AT))[0][0]
        await work()
        return int((await tx.fetch(_LOOKED_AT))[0][0] - before)
    driver, steps = await tx.driver(), count()
    await driver.set_progress_handler(lambda: next(steps) and 0, 10)
    await work()
    await driver.set_progress_handler(None, 0)
    return next(steps)
