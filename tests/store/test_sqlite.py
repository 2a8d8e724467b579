"""SQLite's driver: a statement is one trip to its thread, and tells all that it told before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiosqlite
import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from core.clock import ManualClock
from core.store.database import Database
from tests.bench.workload import START

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sqlite(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Database]:
    """Return a database with one small table."""
    database = await Database.open(f"sqlite:///{tmp_path}/small.db", ManualClock(START))
    async with database.system() as tx:
        await tx.connection.execute(text("CREATE TABLE small (id INTEGER PRIMARY KEY, word TEXT UNIQUE)"))
    yield database
    await database.close()


async def test_a_transaction_makes_one_trip_a_statement_and_one_at_either_end(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips: list[str] = []
    driver: Any = aiosqlite.Connection
    make = driver._execute

    async def counted(connection: Any, function: Any, *arguments: Any, **named: Any) -> Any:
        trips.append(function.__name__)
        return await make(connection, function, *arguments, **named)

    async with sqlite.read("org_1"):
        pass  # connecting makes trips of its own
    monkeypatch.setattr(driver, "_execute", counted)
    async with sqlite.read("org_1") as tx:
        for _ in range(3):
            await tx.connection.execute(text("SELECT 1"))
    assert len(trips) == 5


async def test_rows_counts_and_errors_are_the_drivers(sqlite: Database) -> None:
    async with sqlite.system() as tx:
        insert = text("INSERT INTO small (word) VALUES (:word)")
        assert (await tx.connection.execute(insert, [{"word": "a"}, {"word": "b"}])).rowcount == 2
        assert (await tx.connection.execute(text("UPDATE small SET word = word || '!'"))).rowcount == 2
        returned = await tx.connection.execute(text("INSERT INTO small (word) VALUES ('c') RETURNING id, word"))
        assert (list(returned.keys()), returned.all()) == (["id", "word"], [(3, "c")])
        assert (await tx.connection.execute(text("SELECT id FROM small WHERE word = 'x'"))).first() is None
    with pytest.raises(IntegrityError):
        async with sqlite.system() as tx:
            await tx.connection.execute(text("INSERT INTO small (word) VALUES ('c')"))
    async with sqlite.system() as tx:
        assert (await tx.connection.execute(text("SELECT count(*) FROM small"))).scalar() == 3
