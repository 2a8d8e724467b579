"""The database: SQLite in one file or PostgreSQL, opened once, handing out transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import event, make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from core.clock import Clock
from core.store import postgresql
from core.store.metadata import dump_json, metadata, read_json
from core.store.transaction import EVERY_ORGANIZATION, StaleEnrollment, Transaction
from core.store.wakeups import Wakeups

_BUSY_MILLISECONDS = 10_000
_POOL_WAIT_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Database:
    """Two pools on one database: `callers` for API calls, `workers` for the loops.

    SQLite has one writer, so there the worker pool is that one connection and every write goes through it.
    """

    url: URL
    callers: AsyncEngine
    workers: AsyncEngine
    clock: Clock
    wakeups: Wakeups

    @classmethod
    async def open(cls, url: str, clock: Clock, *, pool_size: int = 8) -> Database:
        """Connect to `sqlite:///path` or `postgresql://…`.

        Raises ValueError for another kind of address.
        """
        parsed = make_url(url)
        wakeups = Wakeups()
        match parsed.get_backend_name():
            case "sqlite":
                callers, workers = _sqlite_engines(parsed, pool_size)
            case "postgresql":
                callers, workers = _postgresql_engines(parsed, pool_size)
                wakeups.connect(parsed.set(drivername="postgresql").render_as_string(hide_password=False))
            case other:
                raise ValueError(f"{other} is not a database this runs on; use sqlite:///… or postgresql://…")
        return cls(parsed, callers, workers, clock, wakeups)

    @property
    def is_postgresql(self) -> bool:
        """Tell which of the two it is."""
        return self.url.get_backend_name() == "postgresql"

    @asynccontextmanager
    async def read(self, org_id: str) -> AsyncIterator[Transaction]:
        """Open a read-only transaction for one organization."""
        async with self.callers.connect() as connection:
            await connection.execution_options(postgresql_readonly=True)
            async with connection.begin():
                yield await self._enter(Transaction(connection, org_id, self.clock.now()))

    @asynccontextmanager
    async def write(self, org_id: str) -> AsyncIterator[Transaction]:
        """Open a transaction for one organization; commits at the end, rolls back on an exception."""
        engine = self.callers if self.is_postgresql else self.workers
        async with engine.connect() as connection, connection.begin():
            tx = await self._enter(Transaction(connection, org_id, self.clock.now()))
            yield tx
        self.wakeups.signal(tx.wakes)

    @asynccontextmanager
    async def system(self) -> AsyncIterator[Transaction]:
        """Open a loop's transaction over every organization; its statements name organizations themselves."""
        async with self.workers.connect() as connection, connection.begin():
            tx = Transaction(connection, EVERY_ORGANIZATION, self.clock.now())
            yield tx
        self.wakeups.signal(tx.wakes)

    async def _enter(self, tx: Transaction) -> Transaction:
        if tx.dialect == "postgresql":
            await tx.connection.execute(text("SELECT set_config('app.org', :org, true)"), {"org": tx.org_id})
        return tx

    async def create_schema(self) -> None:
        """Create every table straight from the metadata, without migrations; for tests and simulation."""
        async with self.workers.begin() as connection:
            await connection.run_sync(metadata.create_all)
            if self.is_postgresql:
                for statement in postgresql.finishing_statements(metadata):
                    await connection.exec_driver_sql(statement)

    async def close(self) -> None:
        """Close every connection."""
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.workers.dispose)
            closing.push_async_callback(self.callers.dispose)
            await self.wakeups.close()


_TRY_AGAIN = frozenset({"40P01", "40001"})
"""PostgreSQL's codes for a deadlock and for a serialization failure: the same transaction may well pass now."""


def may_pass_again(error: BaseException) -> bool:
    """Tell whether a transaction failed only because of others that ran beside it."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    return isinstance(error, StaleEnrollment) or getattr(cause, "sqlstate", None) in _TRY_AGAIN


def is_outage(error: BaseException) -> bool:
    """Tell whether the database itself is away, busy or gone, whatever was asked of it."""
    if isinstance(error, OperationalError | InterfaceError | PoolTimeout | OSError | TimeoutError):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    if isinstance(error, sqlite3.OperationalError | asyncpg.InterfaceError | asyncpg.PostgresConnectionError):
        return True
    return may_pass_again(error) or isinstance(error, asyncpg.OperatorInterventionError)


def _sqlite_engines(url: URL, pool_size: int) -> tuple[AsyncEngine, AsyncEngine]:
    url = url.set(drivername="sqlite+aiosqlite")
    if not url.database or url.database == ":memory:":
        raise ValueError("SQLite needs a file here: several connections share it")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    writer = _engine(url, 1)
    readers = _engine(url, pool_size)
    for engine, begin, query_only in ((writer, "BEGIN IMMEDIATE", 0), (readers, "BEGIN", 1)):
        _own_transactions(engine, begin, query_only)
    return readers, writer


def _own_transactions(engine: AsyncEngine, begin: str, query_only: int) -> None:
    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin by itself
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={_BUSY_MILLISECONDS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
            f"query_only={query_only}",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begun(connection: Any) -> None:
        connection.exec_driver_sql(begin)


def _postgresql_engines(url: URL, pool_size: int) -> tuple[AsyncEngine, AsyncEngine]:
    url = url.set(drivername="postgresql+asyncpg")
    callers = _engine(url, pool_size, server_settings={"application_name": "dripstone api"})
    workers = _engine(
        url,
        8,  # one for every loop of a process, two turns of the engine among them
        server_settings={
            "application_name": "dripstone worker",
            "app.org": EVERY_ORGANIZATION,
            # A claim planned while nothing was due sorts every due row for each batch once a burst comes.
            "plan_cache_mode": "force_generic_plan",
            "idle_in_transaction_session_timeout": "60s",
        },
    )
    return callers, workers


def _engine(url: URL, pool_size: int, **connect_args: Any) -> AsyncEngine:
    engine = create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=_POOL_WAIT_SECONDS,
        connect_args=connect_args,
        # Every connection leaves here through a transaction that ended, or is closed: there is nothing to reset.
        pool_reset_on_return=None,
        json_serializer=dump_json,
        json_deserializer=read_json,
        hide_parameters=True,  # errors are logged, and parameters hold secrets and people's data
    )
    event.listen(engine.sync_engine, "checkin", _no_transaction_left)
    return engine


def _no_transaction_left(connection: Any, record: Any) -> None:
    """Close a connection whose transaction is still open: a commit that fails, as on a full disk, may leave it so.

    Nobody could begin another one on it, and on SQLite it is the one connection that writes.
    """
    driver = None if connection is None else connection.driver_connection
    if driver is None:
        return
    open_still = driver.is_in_transaction() if isinstance(driver, asyncpg.Connection) else driver.in_transaction
    if open_still:
        record.invalidate()
