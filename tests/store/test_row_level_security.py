"""PostgreSQL itself keeps organizations apart: a connection that skips our own predicate reads and writes nothing.

Every table gets a row of one organization; another one then asks past `Transaction`, by tables and by partitions.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, Table, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from core.rpc import methods
from core.store import postgresql
from core.store.database import Database
from core.store.metadata import Instant, Json, metadata

pytestmark = pytest.mark.anyio

OWNER, STRANGER = "org_owner", "org_stranger"


def _plain(column: Column[Any]) -> Any:
    match column.type:
        case Instant():
            return datetime(2026, 3, 2, tzinfo=UTC)
        case Json():
            return {}
        case Boolean():
            return False
        case Float():
            return 1.0
        case Integer():
            return 1
        case LargeBinary():
            return b"x"
        case _:
            return "x"


def _row(table: Table, org: str) -> dict[str, Any]:
    given = [column for column in table.columns if column.computed is None]
    return {column.name: org if column.name == "org_id" else _plain(column) for column in given}


async def _as(connection: AsyncConnection, org: str) -> None:
    await connection.execute(text("SELECT set_config('app.org', :org, true)"), {"org": org})


async def _refused(connection: AsyncConnection, statement: Any) -> bool:
    try:
        async with connection.begin_nested():
            await connection.execute(statement)
    except DBAPIError as error:
        return "row-level security" in str(error)
    return False


async def test_no_table_is_open_to_a_stranger_who_asks_past_our_own_predicate(postgresql_database: Database) -> None:
    methods.table()  # imports every table
    database = postgresql_database
    async with database.system() as tx:
        await postgresql.ensure_partitions(tx, tx.now)
    tables = [table for table in metadata.tables.values() if "org_id" in table.c]
    assert len(tables) == len(metadata.tables), "every table belongs to organizations"
    for table in tables:
        async with database.callers.engine.connect() as connection, connection.begin() as transaction:
            await connection.execute(text("SET TRANSACTION READ WRITE"))
            name = table.name
            await _as(connection, OWNER)
            await connection.execute(table.insert().values(_row(table, OWNER)))
            assert (await connection.execute(text(f"SELECT count(*) FROM {name}"))).scalar() == 1, name
            await _as(connection, STRANGER)
            assert (await connection.execute(text(f"SELECT count(*) FROM {name}"))).scalar() == 0, name
            assert (await connection.execute(text(f"UPDATE {name} SET org_id = org_id"))).rowcount == 0, name
            assert (await connection.execute(text(f"DELETE FROM {name}"))).rowcount == 0, name
            assert await _refused(connection, table.insert().values(_row(table, OWNER))), name
            await transaction.rollback()


async def test_partitions_hide_what_their_parents_hide(postgresql_database: Database) -> None:
    async with postgresql_database.system() as tx:
        await postgresql.ensure_partitions(tx, tx.now)
        open_to_all = await tx.fetch(
            "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relname <> 'alembic_version' "
            "AND relnamespace = current_schema()::regnamespace AND NOT (relrowsecurity AND relforcerowsecurity)"
        )
        partitions = await tx.fetch("SELECT count(*) FROM pg_inherits")
    assert list(open_to_all) == []
    assert partitions[0][0] > len(postgresql.PARTITIONED)


async def test_a_session_that_names_no_organization_is_refused(postgresql_database: Database) -> None:
    async with postgresql_database.callers.engine.connect() as connection, connection.begin() as transaction:
        await connection.execute(text("SELECT set_config('app.org', '', true)"))
        for name in metadata.tables:
            assert (await connection.execute(text(f"SELECT count(*) FROM {name}"))).scalar() == 0, name
        await transaction.rollback()
