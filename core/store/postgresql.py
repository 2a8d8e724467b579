"""What only PostgreSQL has: row-level security and partitions by day."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import MetaData

from core.store.metadata import day_of
from core.store.transaction import Transaction

PARTITIONED = ("trace_entries", "messages", "deliveries", "delivery_attempts", "events")
"""Append-only history, ranged by the column `day`."""

DAYS_AHEAD = 7
_LOCK = 0x6472_6971  # any number that nobody else locks

_MADE = (
    "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid WHERE inhparent = $1::regclass"
)


def isolation_statements(tables: Iterable[str]) -> list[str]:
    """Return the statements that hide every row of another organization, also from the tables' owner.

    A session that never said which organization it works for gets an error, not all rows.
    """
    statements = []
    for table in tables:
        statements += [
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
            f"CREATE POLICY organization ON {table} USING "
            f"(current_setting('app.org') = '*' OR org_id = current_setting('app.org'))",
        ]
    return statements


def default_partition(table: str) -> str:
    """Return the statement that catches rows of days without a partition of their own."""
    return f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT"


def finishing_statements(metadata: MetaData) -> list[str]:
    """Return what a schema made from the metadata still lacks."""
    tables = sorted(metadata.tables)
    partitioned = [default_partition(table) for table in PARTITIONED if table in tables]
    return partitioned + isolation_statements(tables)


async def ensure_partitions(tx: Transaction, now: datetime) -> int:
    """Make the partitions of today and the next days, in a system transaction; return how many were new.

    A day whose rows already stand in the default partition stays there.
    """
    if tx.dialect != "postgresql":
        return 0
    made = 0
    driver = await tx.driver()
    await driver.execute(f"SELECT pg_advisory_xact_lock({_LOCK})")  # one process makes them, the others then see them
    today = day_of(now)
    for table in PARTITIONED:
        there = {row[0] for row in await tx.fetch(_MADE, table)}
        latest = await driver.fetchval(f"SELECT max(day) FROM {table}_default")  # noqa: S608 -- names are ours
        for day in range(max(today, (latest or 0) + 1), today + DAYS_AHEAD + 1):
            if f"{table}_{day}" not in there:
                await driver.execute(
                    f"CREATE TABLE {table}_{day} PARTITION OF {table} FOR VALUES FROM ({day}) TO ({day + 1})"
                )
                made += 1
    return made
