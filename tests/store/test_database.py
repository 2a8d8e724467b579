"""The promises of a transaction, on both databases."""

from __future__ import annotations

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, func, select, update

from core.store.database import Database
from core.store.metadata import Instant, Json, Name, org_id

pytestmark = pytest.mark.anyio

_scratch = MetaData()
things = Table(
    "things",
    _scratch,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("size", Integer),
    Column("at", Instant),
    Column("data", Json),
)


@pytest.fixture(autouse=True)
async def _things(database: Database) -> None:
    async with database.workers.engine.begin() as connection:
        await connection.run_sync(_scratch.create_all)


async def test_a_statement_sees_only_its_organization(database: Database) -> None:
    for org in ("org_a", "org_b"):
        async with database.write(org) as tx:
            await tx.insert(things, [{"id": "t1", "size": 1}])
    async with database.write("org_a") as tx:
        assert await tx.run(update(things).values(size=2)) == 1
    async with database.read("org_b") as tx:
        rows = await tx.all(select(things.c.org_id, things.c.size))
    assert [tuple(row) for row in rows] == [("org_b", 1)]


async def test_a_statement_over_a_table_without_organization_is_refused(database: Database) -> None:
    async with database.read("org_a") as tx:
        with pytest.raises(TypeError):
            await tx.all(select(func.count()).select_from(Table("alien", MetaData(), Column("id", Integer))))


async def test_an_exception_leaves_nothing_behind(database: Database) -> None:
    async def fail() -> None:
        async with database.write("org_a") as tx:
            await tx.insert(things, [{"id": "t1"}])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.read("org_a") as tx:
        assert await tx.all(select(things.c.id)) == []


async def test_bulk_rows_read_back_as_they_were_written(database: Database) -> None:
    async with database.system() as tx:
        await tx.bulk_insert(
            things,
            ["org_id", "id", "size", "at", "data"],
            [("org_a", f"t{n}", None if n else 7, tx.now, {"n": n, "text": 'é"'}) for n in range(3)],
        )
    async with database.read("org_a") as tx:
        rows = await tx.all(select(things).order_by(things.c.id))
        assert [tuple(row) for row in rows] == [
            ("org_a", "t0", 7, tx.now, {"n": 0, "text": 'é"'}),
            ("org_a", "t1", None, tx.now, {"n": 1, "text": 'é"'}),
            ("org_a", "t2", None, tx.now, {"n": 2, "text": 'é"'}),
        ]


async def test_insert_counts_only_the_rows_that_went_in(database: Database) -> None:
    async with database.write("org_a") as tx:
        assert await tx.insert(things, [{"id": "t1"}]) == 1
        assert await tx.insert(things, [{"id": "t1"}, {"id": "t2"}], on_conflict="ignore") == 1


async def test_a_read_transaction_cannot_write(database: Database) -> None:
    with pytest.raises(Exception, match=r"(readonly|read-only)"):
        async with database.read("org_a") as tx:
            await tx.insert(things, [{"id": "t1"}])


async def test_a_commit_wakes_and_a_rollback_does_not(database: Database) -> None:
    event = database.wakeups.event("engine")

    async def fail() -> None:
        async with database.write("org_a") as tx:
            tx.wake("engine")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert not event.is_set()
    async with database.write("org_a") as tx:
        tx.wake("engine")
    assert event.is_set()
