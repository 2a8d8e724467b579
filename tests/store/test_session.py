"""A transaction on the driver's connection: how many trips it makes, and what it does when one of them fails."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import Column, Integer, MetaData, String, Table, select, update

from core.store.database import ERRORS, Database
from core.store.session import Write
from core.store.transaction import Transaction
from tests.store.effort import counted_trips

pytestmark = pytest.mark.anyio

_scratch = MetaData()
small = Table("small", _scratch, Column("id", Integer, primary_key=True), Column("word", String, unique=True))


@pytest.fixture(autouse=True)
async def _small(database: Database) -> None:
    async with database.workers.engine.begin() as connection:
        await connection.run_sync(_scratch.create_all)


async def _words(database: Database) -> list[str]:
    async with database.system() as tx:
        return [row.word for row in await tx.all(select(small).order_by(small.c.word))]


async def test_a_transaction_makes_few_trips(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await _words(database)  # connecting makes trips of its own
    trips = counted_trips(monkeypatch, database)
    async with database.system() as tx:
        for _ in range(3):
            await tx.all(select(small.c.id))
        ours = await tx.driver()
    made = [name for connection, name in trips if connection is ours]
    # PostgreSQL: to begin, one a statement, to commit. SQLite's are short, and there is nothing to commit.
    assert len(made) == (5 if database.is_postgresql else 0)
    trips.clear()
    async with database.system():
        pass
    assert [name for connection, name in trips if connection is ours] == [], "who asks nothing begins nothing"


async def test_rows_and_counts_are_the_drivers(database: Database) -> None:
    async with database.system() as tx:
        assert await tx.insert(small, [{"id": 1, "word": "a"}, {"id": 2, "word": "b"}]) == 2
        assert await tx.run(update(small).values(word=small.c.word + "!")) == 2
        returned = await tx.first(update(small).where(small.c.id == 1).values(word="c").returning(small.c.word))
        assert returned is not None
        assert (returned.word, returned._asdict()) == ("c", {"word": "c"})
        assert await tx.first(select(small).where(small.c.word == "x")) is None
    assert await _words(database) == ["b!", "c"]


async def test_several_writes_end_with_the_first_that_touches_too_few(database: Database) -> None:
    one, other = ("$1", "$2") if database.is_postgresql else ("?", "?")
    into, rename = f"INSERT INTO small VALUES ({one}, {other})", f"UPDATE small SET word = {one} WHERE id = {other}"
    async with database.system() as tx:
        writes: list[Write] = [
            (into, [(1, "a"), (2, "b")]),
            (into, []),
            (rename, [("c", 2), ("d", 3)]),
            (into, [(4, "e")]),
        ]
        assert await tx.write_each(*writes) == [2, 0, 1]
    assert await _words(database) == ["a", "c"]


async def test_rows_of_different_columns_are_refused(database: Database) -> None:
    with pytest.raises(ValueError, match="different columns"):
        async with database.system() as tx:
            await tx.insert(small, [{"id": 1}, {"id": 2, "word": "b"}])
    with pytest.raises(KeyError):
        async with database.system() as tx:
            await tx.insert(small, [{"id": 1}, {"word": "b"}])


async def test_what_failed_inside_is_not_committed_by_who_goes_on(database: Database) -> None:
    async def go_on(tx: Transaction) -> None:
        await tx.insert(small, [{"id": 1, "word": "a"}])
        if database.is_postgresql:
            with pytest.raises(ERRORS):
                await tx.fetch("SELECT 1 / 0")
        else:
            await tx.fetch("ROLLBACK")  # as SQLite does by itself where it cannot go on

    async def work(*, further: bool) -> None:
        async with database.system() as tx:
            await go_on(tx)
            if further:
                await tx.insert(small, [{"id": 2, "word": "b"}])

    for further in (True, False):
        with pytest.raises(ERRORS):
            await work(further=further)
    assert await _words(database) == []


async def test_who_is_cancelled_leaves_a_connection_that_works(database: Database) -> None:
    inside = asyncio.Event()

    async def wait() -> None:
        async with database.system() as tx:
            await tx.insert(small, [{"id": 1, "word": "a"}])
            inside.set()
            await asyncio.Event().wait()

    for _ in range(10):  # more than there are connections
        waiting = asyncio.create_task(wait())
        await inside.wait()
        inside.clear()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    assert await _words(database) == []
