"""What SQLite does in the loop's own thread, and what in another: nothing there keeps everybody else waiting."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from math import inf
from pathlib import Path
from typing import Any

import pytest

from core.clock import ManualClock
from core.store import statement_times
from core.store.database import Database
from core.store.sqlite_session import SqliteSession
from core.store.statement_times import Kind, kind_of
from core.store.transaction import EVERY_ORGANIZATION
from tests.bench import workload
from tests.store.effort import counted_trips, effort

pytestmark = pytest.mark.anyio

_LONG = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT sum(i) FROM n"
_LONGER = _LONG.replace("300000", "3000000")
_PUT = "INSERT INTO small VALUES (?)"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE small (word TEXT)")
    connection.close()
    return path


@pytest.fixture
async def database(file: Path) -> AsyncIterator[Database]:
    database = await Database.open(f"sqlite:///{file}", ManualClock(workload.START))
    await _count(database)  # opening a connection makes trips of its own
    async with database.system():
        pass
    yield database
    await database.close()


async def _count(database: Database) -> int:
    async with database.read(EVERY_ORGANIZATION) as tx:
        return int((await tx.fetch("SELECT count(*) FROM small"))[0][0])


async def test_a_short_write_makes_one_trip_to_commit(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    trips = counted_trips(monkeypatch, database)
    async with database.system() as tx:
        assert await tx.write_each((_PUT, [("a",), ("b",)]), (_PUT, [("c",)])) == [2, 1]
        assert len(await tx.fetch("SELECT word FROM small")) == 3
        assert trips == []
    assert len(trips) == 1
    assert await _count(database) == 3


async def test_what_writes_much_goes_to_a_thread(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    trips = counted_trips(monkeypatch, database)
    async with database.system() as tx:
        await tx.write_each((_PUT, [(f"{number}",) for number in range(1_000)]))
        assert len(trips) == 1
        await tx.write_each((_PUT, [("x" * 100_000,)]))
        assert len(trips) == 2
    assert await _count(database) == 1_001


async def test_an_update_has_to_prove_that_it_is_short(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    trips = counted_trips(monkeypatch, database)
    update = "UPDATE small SET word = $2 WHERE word = $1"

    async def made(*expected: int) -> None:
        for number in expected:
            await tx.fetch(update, "a", "b")
            assert len(trips) == number

    async with database.system() as tx:
        await made(1, 2, 3, 3, 3)
        monkeypatch.setattr(statement_times, "SHORT_SECONDS", 0.0)
        monkeypatch.setattr(statement_times, "_FAR_FROM_SHORT", inf)
        await made(3, 3, 4, 5)  # not short a second time in a row
        assert len(trips) == 5
        monkeypatch.setattr(statement_times, "SHORT_SECONDS", 10.0)
        await made(6, 7, 8)


async def test_what_deletes_by_a_condition_goes_to_a_thread(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips = counted_trips(monkeypatch, database)
    async with database.system() as tx:
        for number in range(1, 6):
            await tx.fetch("DELETE FROM small WHERE word < $1", "a")
            assert len(trips) == number


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("SELECT updated_at FROM a", Kind.READ),
        ("with x AS (SELECT 1) SELECT * FROM x", Kind.READ),
        ("WITH x AS (SELECT 1)\nUPDATE a SET b = 1 RETURNING c", Kind.UPDATE),
        ("update a SET b = 1", Kind.UPDATE),
        ("INSERT INTO a SELECT * FROM b ON CONFLICT DO UPDATE SET c = 1", Kind.UPDATE),
        ("DELETE FROM a", Kind.OTHER),
        ("CREATE INDEX a ON b (c)", Kind.OTHER),
        ("PRAGMA optimize", Kind.OTHER),
    ],
)
def test_what_tells_how_long_a_statement_takes(sql: str, kind: Kind) -> None:
    assert kind_of(sql) is kind


@pytest.mark.parametrize("was_the_machine", [True, False])
async def test_a_read_that_was_given_up_and_then_short_is_short(
    database: Database, monkeypatch: pytest.MonkeyPatch, was_the_machine: bool
) -> None:
    read = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 999) SELECT 1 FROM n"
    monkeypatch.setattr(statement_times, "SHORT_SECONDS", -1.0)  # so it is given up
    trip = SqliteSession._trip

    async def later(session: SqliteSession, *what: Any) -> Any:
        if was_the_machine:
            monkeypatch.setattr(statement_times, "SHORT_SECONDS", 10.0)
        return await trip(session, *what)

    monkeypatch.setattr(SqliteSession, "_trip", later)
    async with database.read(EVERY_ORGANIZATION) as tx:
        await tx.fetch(read)
    assert database.statement_times.is_short(read, Kind.READ) is was_the_machine


async def test_looking_at_the_time_does_not_break_what_begins(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(statement_times, "SHORT_SECONDS", -1.0)  # each look finds that it has taken too long
    for number in range(300):
        async with database.system() as tx:
            assert [tuple(row) for row in await tx.fetch(f"SELECT {number} FROM json_each('[1]')")] == [(number,)]
            await tx.write_each((_PUT, [(f"{number}",)]))
    assert await _count(database) == 300


async def test_effort_is_counted(database: Database) -> None:
    async with database.read(EVERY_ORGANIZATION) as tx:
        assert await effort(tx, lambda: tx.fetch(_LONG)) > 100_000


async def test_a_read_that_is_not_short_is_given_up_and_asked_in_a_thread(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips = counted_trips(monkeypatch, database)
    monkeypatch.setattr(statement_times, "SHORT_SECONDS", 0.005)
    async with database.read(EVERY_ORGANIZATION) as tx:
        assert (await tx.fetch(_LONG))[0][0] == 300_000 * 300_001 // 2
        assert len(trips) == 1
        assert not database.statement_times.is_short(_LONG, Kind.READ), "it goes there at once, the next time"
        assert len(await tx.fetch("SELECT 1")) == 1
        assert len(trips) == 1, "what is short comes back"


async def test_others_go_on_while_a_long_read_runs_and_while_a_lock_is_waited_for(
    database: Database, file: Path
) -> None:
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    async def write() -> None:
        async with database.system() as tx:
            await tx.write_each((_PUT, [("mine",)]))

    async def read() -> None:
        async with database.read(EVERY_ORGANIZATION) as tx:
            await tx.fetch(_LONGER)

    writing, reading = asyncio.create_task(write()), asyncio.create_task(read())
    await asyncio.sleep(0)
    assert not database.statement_times.is_short(_LONGER, Kind.READ)
    assert await _count(database) == 0
    assert not writing.done()
    assert not reading.done()
    reading.cancel()
    other.execute("COMMIT")
    other.close()
    await asyncio.wait_for(writing, 20)
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert await _count(database) == 1


async def test_many_short_reads_in_a_row_let_others_in(database: Database) -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    async with database.read(EVERY_ORGANIZATION) as tx:
        for _ in range(2_000):
            await tx.fetch("SELECT 1")
    task.cancel()
    assert turns > 2


async def test_a_statement_that_fails_leaves_a_connection_that_works(database: Database) -> None:
    async def fail(sql: str) -> None:
        async with database.system() as tx:
            await tx.write_each((_PUT, [("a",)]))
            await tx.fetch(sql)

    for wrong in ("SELECT missing FROM small", "INSERT INTO nowhere VALUES (1)"):
        with pytest.raises(sqlite3.OperationalError, match="no such"):
            await fail(wrong)
    assert await _count(database) == 0
