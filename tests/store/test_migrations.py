"""One migration tree for both databases, and it makes what the tables say."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from core.clock import ManualClock
from core.rpc import methods, pipeline
from core.store import migrate
from core.store.database import Database
from core.store.metadata import metadata
from core.store.postgresql import PARTITIONED

pytestmark = pytest.mark.anyio


def _differences(connection: Connection) -> list[object]:
    partitions = PARTITIONED

    def ours(name: str | None, kind: str, _parents: object) -> bool:
        return kind != "table" or not any(str(name).startswith(f"{table}_") for table in partitions)

    def of_ours(_object: object, name: str | None, kind: str, *_: object) -> bool:
        return ours(name, kind, None)

    context = MigrationContext.configure(
        connection, opts={"compare_type": False, "include_name": ours, "include_object": of_ours}
    )
    return compare_metadata(context, metadata)


async def test_migrations_make_exactly_the_schema_of_the_tables(database_url: str, clock: ManualClock) -> None:
    assert methods.table(), pipeline  # with them, every table group is imported
    database = await Database.open(database_url, clock)
    await migrate.upgrade(database)
    async with database.workers.engine.connect() as connection:
        differences = await connection.run_sync(_differences)
    assert differences == []
    (head,) = ScriptDirectory.from_config(migrate.configuration()).get_heads()
    assert await migrate.revision(database) == head == migrate.newest()
    await migrate.upgrade(database)  # a second time there is nothing to do
    await database.close()


async def test_every_revision_can_be_undone(database_url: str, clock: ManualClock) -> None:
    database = await Database.open(database_url, clock)
    await migrate.upgrade(database)

    def down(connection: Connection) -> None:
        config = migrate.configuration()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")

    async with database.workers.engine.begin() as connection:
        if database.is_postgresql:  # the partitions of coming days hang on the parents
            await connection.execute(text("SET client_min_messages = warning"))
        await connection.run_sync(down)
    async with database.workers.engine.connect() as connection:
        left = await connection.run_sync(lambda c: [t for t in metadata.tables if c.dialect.has_table(c, t)])
    assert left == []
    await database.close()


async def test_contacts_that_are_there_already_are_found_by_their_company(
    database_url: str, clock: ManualClock
) -> None:
    database = await Database.open(database_url, clock)

    def up_to(revision: str) -> Callable[[Connection], None]:
        def up(connection: Connection) -> None:
            config = migrate.configuration()
            config.attributes["connection"] = connection
            command.upgrade(config, revision)

        return up

    insert = "INSERT INTO records (org_id, id, type, fields, rev, created_at, updated_at) VALUES "
    rows = [("cnt_1", "contact", '{"company_id": "cmp_1"}'), ("cnt_2", "contact", "{}"), ("cmp_1", "company", "{}")]
    async with database.workers.engine.begin() as connection:
        await connection.run_sync(up_to("0006"))
        for row in rows:
            await connection.exec_driver_sql(f"{insert} ('org_a', '{row[0]}', '{row[1]}', '{row[2]}', 1, 0, 0)")
        await connection.run_sync(up_to("head"))
        found = await connection.exec_driver_sql("SELECT id, company_id FROM records ORDER BY id")
        assert [tuple(row) for row in found] == [("cmp_1", None), ("cnt_1", "cmp_1"), ("cnt_2", None)]
    await database.close()
