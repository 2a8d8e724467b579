"""Bringing a database to the newest schema; safe to run by several processes at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from core.store.database import Database
from core.store.postgresql import ensure_partitions

_LOCK = 0x6472_6970  # "drip": any number that nobody else locks


def configuration() -> Config:
    """Return Alembic's configuration; there is no ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config


def _upgrade(connection: Connection) -> None:
    config = configuration()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


async def upgrade(database: Database) -> None:
    """Apply every migration that the database lacks, and make the partitions of the next days."""
    async with database.workers.begin() as connection:
        if database.is_postgresql:
            await connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        await connection.run_sync(_upgrade)
    async with database.system() as tx:
        await ensure_partitions(tx, tx.now)


async def revision(database: Database) -> str | None:
    """Return the revision a database is at; None for an empty one."""
    async with database.callers.connect() as connection:
        current: Any = await connection.run_sync(_current)
        return str(current) if current else None
