"""What only PostgreSQL has: row-level security and partitions by day."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import MetaData

from core.store.metadata import day_of
from core.store.transaction import Transaction

PARTITIONED = ("trace_entries", "messages", "deliveries", "delivery_attempts", "events", "audit_entries")
"""Append-only history, ranged by the column `day`."""

DAYS_AHEAD = 7
_LOCK = 0x6472_6971  # any number that nobody else locks
_LOCK_MILLISECONDS = 200

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


READS_ONLY = {"default_transaction_read_only": "on"}
"""What a session is told from which callers get what they read; a transaction that writes says so."""


def beginning(org_id: str) -> str:
    """Return the statements, sent as one, that begin a transaction that writes, of the one organization it can see."""
    return f"BEGIN READ WRITE; {_shown(org_id, until_its_end='true')};"


def showing(org_id: str) -> str:
    """Return the statement after which a session sees one organization, but for transactions that say another."""
    return _shown(org_id, until_its_end="false")


def _shown(org_id: str, *, until_its_end: str) -> str:
    quoted = org_id.replace("'", "''")  # a backslash means nothing there
    return f"SELECT set_config('app.org', '{quoted}', {until_its_end})"


def default_partition(table: str) -> str:
    """Return the statement that catches rows of days without a partition of their own."""
    return f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT"


def finishing_statements(metadata: MetaData) -> list[str]:
    """Return what a schema made from the metadata still lacks."""
    tables = sorted(metadata.tables)
    partitioned = [default_partition(table) for table in PARTITIONED if table in tables]
    return partitioned + isolation_statements(
        [*tables, *(f"{table}_default" for table in PARTITIONED if table in tables)]
    )


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
    if opened := await _open_partitions(tx):
        await driver.execute("".join(f"{one};" for one in isolation_statements(opened)))
    return made


async def _open_partitions(tx: Transaction) -> list[str]:
    """Return the partitions that hide nothing from who names them: the policies of their parents are not theirs."""
    found = await tx.fetch(
        "SELECT child.relname FROM pg_inherits JOIN pg_class child ON child.oid = inhrelid "
        "JOIN pg_class parent ON parent.oid = inhparent "
        "WHERE parent.relname = ANY($1) AND child.relkind = 'r' AND NOT child.relrowsecurity "
        "AND child.relnamespace = current_schema()::regnamespace",
        list(PARTITIONED),
    )
    return [str(name) for (name,) in found]


async def old_partitions(tx: Transaction, table: str, before_day: int) -> list[str]:
    """Return the partitions of days before this one, the oldest first."""
    days = sorted(
        int(day)
        for (name,) in await tx.fetch(_MADE, table)
        if (day := str(name).removeprefix(f"{table}_")).isdigit() and int(day) < before_day
    )
    return [f"{table}_{day}" for day in days]


async def drop_partition(tx: Transaction, table: str, partition: str, unless: str) -> bool:
    """Drop a partition in a transaction of its own, unless it has a row of this condition; tell whether it is gone.

    Nobody reads or writes the table meanwhile, so it is not waited for long: then it fails with a lock timeout, and
    may pass another time.
    """
    driver = await tx.driver()
    kept = f"SELECT EXISTS (SELECT 1 FROM {partition} AS t WHERE {unless})"  # noqa: S608 -- names are ours
    if await driver.fetchval(kept):
        return False
    await driver.execute(f"SET LOCAL lock_timeout = '{_LOCK_MILLISECONDS}ms'")
    await driver.execute(f"LOCK TABLE ONLY {table} IN ACCESS EXCLUSIVE MODE")
    if await driver.fetchval(kept):  # somebody made one of them pending again
        return False
    await driver.execute(f"DROP TABLE {partition}")
    return True
