"""Bringing a database to the newest schema; safe to run by several processes at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from core.store.database import Database
from core.store.postgresql import ensure_partitions
from core.store.transaction import EVERY_ORGANIZATION, Transaction

if TYPE_CHECKING:
    from alembic.config import Config

_MIGRATIONS = Path(__file__).parent / "migrations"
_IS_THERE_SQLITE = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
_LOCK = 0x6472_6970  # "drip": any number that nobody else locks


def configuration() -> Config:
    """Return Alembic's configuration; there is no ini file."""
    from alembic.config import Config  # slow to load: a database that is at the newest schema does without

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def newest() -> str:
    """Return the newest revision there is: they form one line, and their files' names begin with their numbers."""
    return max(path.name for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")).partition("_")[0]


def _upgrade(connection: Connection) -> None:
    from alembic import command

    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def upgrade(database: Database) -> None:
    """Apply every migration that the database lacks, and make the partitions of the next days."""
    async with database.system() as tx:
        there = await _revision(tx)
    if there != newest():
        async with database.workers.engine.begin() as connection:
            if database.is_postgresql:
                await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
            await connection.run_sync(_upgrade)  # looks again: who held the lock may have done it
    async with database.system() as tx:
        await ensure_partitions(tx, tx.now)


async def revision(database: Database) -> str | None:
    """Return the revision a database is at; None for an empty one."""
    async with database.read(EVERY_ORGANIZATION) as tx:
        return await _revision(tx)


async def _revision(tx: Transaction) -> str | None:
    there = "SELECT to_regclass('alembic_version')" if tx.dialect == "postgresql" else _IS_THERE_SQLITE
    if not any(row[0] for row in await tx.fetch(there)):
        return None
    rows = await tx.fetch("SELECT version_num FROM alembic_version")
    return rows[0][0] if rows else None
