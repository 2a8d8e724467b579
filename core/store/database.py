"""The database: SQLite in one file or PostgreSQL, opened once, handing out transactions."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import field
from pathlib import Path
from typing import Any

import asyncpg
from sqlalchemy import Connection, Engine, PoolProxiedConnection, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.pool import NullPool

from core.clock import Clock
from core.domain.frozen import frozen
from core.store import postgresql
from core.store.connections import Connections, NoConnection
from core.store.metadata import dump_json, metadata, read_json
from core.store.session import BROKEN, PostgresqlReading, PostgresqlSession, Session
from core.store.sqlite_disk import Disk
from core.store.sqlite_session import PATIENT_MILLISECONDS, SqliteSession
from core.store.statement_times import StatementTimes
from core.store.statements import EVERY_ORGANIZATION, Statements
from core.store.transaction import StaleEnrollment, Transaction
from core.store.wakeups import Wakeups

_STATEMENTS = 400
"""A connection keeps what it has prepared: the product has fewer statements than this."""
_WORKERS = 8
"""One for every loop of a process, two turns of the engine among them."""
_PAGES_A_CHECKPOINT = 4_000
"""Of SQLite's log, 16 MiB: with its own figure every second batch of the engine writes the whole log back, and waits
for the disk three times instead of once."""


@frozen
class Database:
    """One database and two sets of connections to it: `callers` for API calls, `workers` for the loops.

    SQLite has one writer, so there the workers have one connection and every write goes through it.
    """

    url: URL
    callers: Connections
    workers: Connections
    clock: Clock
    wakeups: Wakeups
    statements: Statements
    disk: Disk
    """Beneath SQLite's log."""
    statement_times: StatementTimes = field(default_factory=StatementTimes)

    @classmethod
    async def open(cls, url: str, clock: Clock, *, pool_size: int = 8) -> Database:
        """Connect to `sqlite:///path` or `postgresql://…`.

        Raises ValueError for another kind of address.
        """
        parsed = make_url(url)
        wakeups, disk = Wakeups(), Disk("")
        match parsed.get_backend_name():
            case "sqlite":
                callers, workers = _sqlite(parsed, pool_size)
                disk = Disk(_log(parsed))
            case "postgresql":
                callers, workers = _postgresql(parsed, pool_size)
                wakeups.connect(parsed.set(drivername="postgresql").render_as_string(hide_password=False))
            case other:
                raise ValueError(f"{other} is not a database this runs on; use sqlite:///… or postgresql://…")
        return cls(parsed, callers, workers, clock, wakeups, Statements(callers.dialect), disk)

    @property
    def is_postgresql(self) -> bool:
        """Tell which of the two it is."""
        return self.url.get_backend_name() == "postgresql"

    def read(self, org_id: str) -> AbstractAsyncContextManager[Transaction]:
        """Open what reads for one organization: on SQLite a transaction, on PostgreSQL each statement by itself."""
        return self._begun(self.callers, org_id, reads=True)

    def write(self, org_id: str) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction for one organization; commits at the end, rolls back on an exception."""
        return self._begun(self.callers if self.is_postgresql else self.workers, org_id)

    def system(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a loop's transaction over every organization; its statements name organizations themselves."""
        return self._begun(self.workers, EVERY_ORGANIZATION)

    @asynccontextmanager
    async def _begun(self, connections: Connections, org_id: str, *, reads: bool = False) -> AsyncIterator[Transaction]:
        connection = await connections.take()
        driver: Any = connection.driver_connection
        session = self._session(connection, connections, org_id, reads=reads)
        waits = False
        try:
            if not (reads or self.is_postgresql):
                await self.disk.mend(driver)
            tx = Transaction(session, self.statements, org_id, self.clock.now())
            try:
                yield tx
                if not reads:
                    self.disk.check()
                waits = await self._commit(tx, session)
                if self.is_postgresql and waits:
                    await session.on_disk()
            except BaseException:
                await session.rollback()
                raise
        finally:
            await connections.give_back(connection, is_spent=session.is_spent)
        if not self.is_postgresql and waits:
            await session.on_disk()  # others have the one connection that writes meanwhile
        self.wakeups.signal(tx.wakes)
        for tell in tx.once_committed:
            tell()
        if not (reads or tx.goes_ahead):
            await self.disk.arrive()  # what stands before it in the log

    async def _commit(self, tx: Transaction, session: Session) -> bool:
        """Commit; what only the matcher waits for, it may see before it is on the disk. Tell if that is waited for yet.

        The matcher's own commit comes later in the log: nothing that follows from an event is ever on the disk without
        it. Whoever is told of an event once more is told when it is on the disk, too.

        A batch of the engine, too, goes to SQLite's disk while the next one is decided; on PostgreSQL another turn
        does that. Who sends out what follows from it has committed that first, or waits for `on_disk`.
        """
        if tx.goes_ahead and not self.is_postgresql:
            await self.disk.commit_ahead(session)
            return False
        if tx.wakes != {"matcher"}:
            await session.commit()
            return bool(tx.repeats)
        await session.commit_ahead()
        self.wakeups.signal(tx.wakes)
        tx.wakes.clear()
        return True

    def _session(
        self, connection: PoolProxiedConnection, connections: Connections, org_id: str, *, reads: bool
    ) -> Session:
        driver: Any = connection.driver_connection
        if not self.is_postgresql:
            begin = "BEGIN" if connections is self.callers else "BEGIN IMMEDIATE"
            return SqliteSession(driver, begin, self.statement_times, self.disk)
        if reads:
            return PostgresqlReading(driver, connection.info, org_id, postgresql.showing(org_id))
        if connections is self.callers:
            return PostgresqlSession(driver, postgresql.beginning(org_id))
        return PostgresqlSession(driver, "BEGIN;")  # a worker's connection may see every organization

    async def create_schema(self) -> None:
        """Create every table straight from the metadata, without migrations; for tests and simulation."""
        async with self.workers.engine.begin() as connection:
            await connection.run_sync(metadata.create_all)
            if self.is_postgresql:
                for statement in postgresql.finishing_statements(metadata):
                    await connection.exec_driver_sql(statement)

    async def on_disk(self) -> None:
        """Return when everything that can be read is on the disk: for who sends out what it has only read."""
        if not self.is_postgresql:
            await self.disk.arrive()
            await self.disk.wait()
            return
        connection = await self.workers.take()
        session = self._session(connection, self.workers, EVERY_ORGANIZATION, reads=False)
        try:
            await session.on_disk()
        finally:
            await self.workers.give_back(connection, is_spent=session.is_spent)

    async def close(self) -> None:
        """Close every connection."""
        async with AsyncExitStack() as closing:
            closing.push_async_callback(self.disk.arrive)
            closing.push_async_callback(self.workers.close)
            closing.push_async_callback(self.callers.close)
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
    if isinstance(error, OperationalError | InterfaceError | NoConnection | OSError | TimeoutError):
        return True
    if isinstance(error, (sqlite3.OperationalError, asyncpg.PostgresConnectionError, *BROKEN)):
        return True
    if isinstance(error, asyncpg.OperatorInterventionError | asyncpg.InsufficientResourcesError):
        return True
    return may_pass_again(error)


def _log(url: URL) -> str:
    return f"{Path(url.database or '').resolve()}-wal"  # beside the file itself, not beside a link to it


def _sqlite(url: URL, most: int) -> tuple[Connections, Connections]:
    url = url.set(drivername="sqlite+aiosqlite")
    if not url.database or url.database == ":memory:":
        raise ValueError("SQLite needs a file here: several connections share it")
    Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    used = {"cached_statements": _STATEMENTS, "check_same_thread": False}
    writer, readers = _engine(url, **used), _engine(url, **used)
    for engine, begin, query_only in ((writer, "BEGIN IMMEDIATE", 0), (readers, "BEGIN", 1)):
        _own_sqlite_transactions(engine, begin, query_only)
    return Connections(readers, most), Connections(writer, 1)


def _own_sqlite_transactions(engine: Engine, begin: str, query_only: int) -> None:
    @event.listens_for(engine, "connect")
    def connected(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver must not begin by itself
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={PATIENT_MILLISECONDS}")
        cursor.execute("PRAGMA journal_mode=WAL")
        (mode,) = cursor.fetchone()  # not every file system can have a log
        for pragma in (
            # With a log, `SqliteSession` waits for the disk.
            f"synchronous={'NORMAL' if mode == 'wal' else 'FULL'}",
            f"wal_autocheckpoint={_PAGES_A_CHECKPOINT}",
            "foreign_keys=ON",
            f"query_only={query_only}",
            "table_list",  # reads the schema, for milliseconds: here, not within a statement in the loop's thread
            "busy_timeout=0",
        ):
            cursor.execute(f"PRAGMA {pragma}")
            cursor.fetchall()
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA busy_timeout={PATIENT_MILLISECONDS}")
        connection.exec_driver_sql("PRAGMA synchronous=FULL")
        connection.exec_driver_sql(begin)


def _postgresql(url: URL, most: int) -> tuple[Connections, Connections]:
    url = url.set(drivername="postgresql+asyncpg")
    prepared = {"statement_cache_size": _STATEMENTS, "max_cached_statement_lifetime": 0}
    reading = {"application_name": "dripstone api", **postgresql.READS_ONLY}
    callers = _engine(url, **prepared, server_settings=reading)
    workers = _engine(
        url,
        **prepared,
        server_settings={
            "application_name": "dripstone worker",
            "app.org": EVERY_ORGANIZATION,
            # A claim planned while nothing was due sorts every due row for each batch once a burst comes.
            "plan_cache_mode": "force_generic_plan",
            "idle_in_transaction_session_timeout": "60s",
        },
    )
    return Connections(callers, most, _is_open), Connections(workers, _WORKERS, _is_open)


def _is_open(connection: asyncpg.Connection) -> bool:
    return not connection.is_closed()  # the server may have gone meanwhile, and be back


def _engine(url: URL, **connect_args: Any) -> Engine:
    return create_engine(
        url,
        poolclass=NullPool,  # kept by `Connections`
        connect_args=connect_args,
        # Every connection leaves here through a transaction that ended, or is closed: there is nothing to reset.
        pool_reset_on_return=None,
        json_serializer=dump_json,
        json_deserializer=read_json,
        hide_parameters=True,  # errors are logged, and parameters hold secrets and people's data
    )
