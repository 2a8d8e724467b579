"""The database: SQLite in one file or PostgreSQL, opened once, handing out transactions."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import Connection, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool
from sqlalchemy.util import greenlet_spawn

from core.clock import Clock
from core.store import postgresql
from core.store.metadata import dump_json, metadata, read_json
from core.store.session import BROKEN, PostgresqlSession, Session, SqliteSession
from core.store.statements import EVERY_ORGANIZATION, Statements
from core.store.transaction import StaleEnrollment, Transaction
from core.store.wakeups import Wakeups

_BUSY_MILLISECONDS = 10_000
_POOL_WAIT_SECONDS = 30
_PREPARED = {"statement_cache_size": 400, "max_cached_statement_lifetime": 0}
"""A connection to PostgreSQL keeps what it has prepared: the product has fewer statements than this."""


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
    statements: Statements

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
        return cls(parsed, callers, workers, clock, wakeups, Statements(callers.dialect))

    @property
    def is_postgresql(self) -> bool:
        """Tell which of the two it is."""
        return self.url.get_backend_name() == "postgresql"

    def read(self, org_id: str) -> AbstractAsyncContextManager[Transaction]:
        """Open a read-only transaction for one organization."""
        return self._begun(self.callers, org_id, reads=True)

    def write(self, org_id: str) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction for one organization; commits at the end, rolls back on an exception."""
        return self._begun(self.callers if self.is_postgresql else self.workers, org_id)

    def system(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a loop's transaction over every organization; its statements name organizations themselves."""
        return self._begun(self.workers, EVERY_ORGANIZATION)

    @asynccontextmanager
    async def _begun(self, engine: AsyncEngine, org_id: str, *, reads: bool = False) -> AsyncIterator[Transaction]:
        pooled = await engine.raw_connection()
        session = self._session(pooled.driver_connection, engine, org_id, reads=reads)
        try:
            tx = Transaction(session, self.statements, org_id, self.clock.now())
            try:
                yield tx
                await session.commit()
            except BaseException:
                await session.rollback()
                raise
        finally:
            if session.is_spent:  # nobody could begin another transaction on it; SQLite has no other one that writes
                await asyncio.shield(greenlet_spawn(pooled.invalidate))
            pooled.close()
        self.wakeups.signal(tx.wakes)
        for tell in tx.once_committed:
            tell()
        if engine is self.workers and not self.is_postgresql:
            await asyncio.sleep(0)  # who waits for the one connection that writes takes it before the same one again

    def _session(self, driver: Any, engine: AsyncEngine, org_id: str, *, reads: bool) -> Session:
        if not self.is_postgresql:
            return SqliteSession(driver, "BEGIN" if engine is self.callers else "BEGIN IMMEDIATE")
        if engine is self.callers:
            return PostgresqlSession(driver, postgresql.beginning(org_id, reads=reads))
        return PostgresqlSession(driver, "BEGIN;")  # a worker's connection may see every organization

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


ERRORS = (DBAPIError, sqlite3.Error, asyncpg.PostgresError, *BROKEN)
"""What a database may say to a statement."""

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
    if isinstance(error, (sqlite3.OperationalError, asyncpg.PostgresConnectionError, *BROKEN)):
        return True
    if isinstance(error, asyncpg.OperatorInterventionError | asyncpg.InsufficientResourcesError):
        return True
    return may_pass_again(error)


def _sqlite_engines(url: URL, pool_size: int) -> tuple[AsyncEngine, AsyncEngine]:
    url = url.set(drivername="sqlite+aiosqlite")
    if not url.database or url.database == ":memory:":
        raise ValueError("SQLite needs a file here: several connections share it")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    writer, readers = _engine(url, 1), _engine(url, pool_size)
    for engine, begin, query_only in ((writer, "BEGIN IMMEDIATE", 0), (readers, "BEGIN", 1)):
        _own_sqlite_transactions(engine, begin, query_only)
    return readers, writer


def _own_sqlite_transactions(engine: AsyncEngine, begin: str, query_only: int) -> None:
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
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(begin)


def _postgresql_engines(url: URL, pool_size: int) -> tuple[AsyncEngine, AsyncEngine]:
    url = url.set(drivername="postgresql+asyncpg")
    callers = _engine(url, pool_size, **_PREPARED, server_settings={"application_name": "dripstone api"})
    workers = _engine(
        url,
        8,  # one for every loop of a process, two turns of the engine among them
        **_PREPARED,
        server_settings={
            "application_name": "dripstone worker",
            "app.org": EVERY_ORGANIZATION,
            # A claim planned while nothing was due sorts every due row for each batch once a burst comes.
            "plan_cache_mode": "force_generic_plan",
            "idle_in_transaction_session_timeout": "60s",
        },
    )
    for engine in (callers, workers):
        event.listen(engine.sync_engine, "checkout", _alive)
    return callers, workers


def _engine(url: URL, pool_size: int, **connect_args: Any) -> AsyncEngine:
    return create_async_engine(
        url,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=pool_size,
        pool_use_lifo=True,  # the connection used last has the statements prepared, and its pages at hand
        max_overflow=0,
        pool_timeout=_POOL_WAIT_SECONDS,
        connect_args=connect_args,
        # Every connection leaves here through a transaction that ended, or is closed: there is nothing to reset.
        pool_reset_on_return=None,
        json_serializer=dump_json,
        json_deserializer=read_json,
        hide_parameters=True,  # errors are logged, and parameters hold secrets and people's data
    )


def _alive(connection: Any, _record: Any, _fairy: Any) -> None:
    """Connect anew where the server has gone meanwhile and is perhaps back: one that is closed knows it."""
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError("the server closed its connections")
