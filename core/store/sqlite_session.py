"""A transaction on SQLite: what is short is carried out in the loop's own thread, the rest in the connection's.

A trip to a thread costs several times what a look-up by key does, and while threads take turns everything else waits
with it. So a statement goes there only when it writes much, when it turned out not to be short just now, when it has to
wait for a lock, and to commit. A read that is not short is given up after a millisecond and asked anew in the thread.

SQLite itself does not wait for the disk at a commit (`synchronous=NORMAL`): that is done by `sqlite_disk`, so that it
can be waited for apart. What is durable is the same as with FULL, which would end each commit with this one call.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from time import perf_counter
from typing import Any, TypeVar, cast

import aiosqlite

from core.store import statement_times
from core.store.session import Write
from core.store.sqlite_disk import Disk
from core.store.statement_times import Kind, StatementTimes, kind_of

_LOOKS_AFTER = 500
"""Instructions of SQLite's machine, each far below a microsecond, between two looks at the time."""

_FEW_ROWS = 8
_FEW_CHARACTERS = 8_000
"""Of all texts that a statement writes."""

PATIENT_MILLISECONDS = 10_000
"""For how long a thread waits for a lock that another process holds."""

_T = TypeVar("_T")


class _NotHere(Exception):
    """It took too long, or a lock is held by somebody else; nothing was done."""


class _GivenUp(_NotHere):
    """It took too long."""


class SqliteSession:
    """A transaction on a connection that does not wait for locks by itself."""

    def __init__(self, connection: aiosqlite.Connection, begin: str, times: StatementTimes, disk: Disk):
        self._connection = connection
        self._begin = begin
        self._disk = disk
        self._times = times
        self._begun = False
        self._is_settled = False
        """Whether a statement went through: from then on, nobody else's lock can be in the way."""
        self._trips = 0
        """That the thread is on, or that nobody waited for the end of: meanwhile nothing is done here."""
        self._changes = 0

    async def rows(self, sql: str, values: Any) -> Sequence[Sequence[Any]]:
        """Run a statement and return its rows."""
        return await self._done(sql, kind_of(sql), _rows, sql, values, is_small=_is_small(values))

    async def count(self, sql: str, values: Any) -> int:
        """Run a statement and return how many rows it touched."""
        return await self._done(sql, kind_of(sql), _count, sql, values, is_small=_is_small(values))

    async def count_many(self, sql: str, rows: Iterable[Any]) -> int:
        """Run a statement once a row and return how many rows it touched."""
        each = rows if isinstance(rows, Sequence) else list(rows)
        return await self._done(sql, Kind.ROWS, _count_many, sql, each, is_small=_are_few(each))

    async def count_each(self, writes: Sequence[Write]) -> list[int]:
        """Run statements, each once a row, in one go; return how many rows each touched."""
        if not writes:
            return []
        every = [row for _, rows in writes for row in rows]
        return await self._done(writes[0][0], Kind.ROWS, _count_each, writes, is_small=_are_few(every))

    async def driver(self) -> aiosqlite.Connection:
        """Return the driver's connection, inside the transaction."""
        if not self._begun:
            await self._trip(lambda _connection: None)
        return self._connection

    async def commit(self) -> None:
        """Commit, unless nothing was asked; what changed nothing has nothing to wait for."""
        if not self._begun:
            return
        if not self._trips and self._raw.total_changes == self._changes:
            self._carry_out(_commit)
        else:
            await self._trip(_commit_to_disk, self._disk)

    async def commit_ahead(self) -> None:
        """Commit what others may see before it is on the disk; whoever promises it to somebody waits for `on_disk`."""
        if self._begun:
            await self._trip(_commit)

    async def on_disk(self) -> None:
        """Return when what was committed is on the disk; the connection may have been given back before."""
        await self._disk.wait()

    async def rollback(self) -> None:
        """Roll back what there is."""
        if self._trips:
            with suppress(sqlite3.Error, ValueError):  # then it is closed when given back
                await cast(Any, self._connection)._execute(self._roll_back)
                self._trips = 0
        else:
            with suppress(sqlite3.Error, ValueError):
                self._roll_back()

    @property
    def is_spent(self) -> bool:
        """Tell whether the transaction has not ended, or the thread may still be at it."""
        return bool(self._trips) or self._connection.in_transaction

    async def _done(self, sql: str, kind: Kind, what: Callable[..., _T], *arguments: Any, is_small: bool) -> _T:
        if self._times.has_to_give_way():
            await asyncio.sleep(0)  # many short ones are long together
        was_given_up = False
        if is_small and not self._trips and self._times.is_short(sql, kind):
            try:
                return self._here(sql, kind, what, arguments)
            except _NotHere as why:
                was_given_up = isinstance(why, _GivenUp)
        done, seconds = await self._trip(what, *arguments)
        if is_small:
            self._times.took(sql, kind, seconds)
        if was_given_up and seconds <= statement_times.SHORT_SECONDS:
            self._times.was_the_machine(sql)
        return done

    def _here(self, sql: str, kind: Kind, what: Callable[..., _T], arguments: tuple[Any, ...]) -> _T:
        """Do it in this thread. Raises _NotHere."""
        try:
            self._start()
            done, seconds = self._limited(what, arguments) if kind is Kind.READ else self._carry_out(what, *arguments)
        except sqlite3.OperationalError as error:
            if kind is Kind.READ and _is(error, sqlite3.SQLITE_INTERRUPT):
                self._times.was_long(sql, kind)
                raise _GivenUp from None
            if not self._is_settled and _is(error, sqlite3.SQLITE_BUSY):
                raise _NotHere from None
            raise
        self._times.spend(seconds)
        self._times.took(sql, kind, seconds)
        return done

    def _limited(self, what: Callable[..., _T], arguments: tuple[Any, ...]) -> tuple[_T, float]:
        """Read, for so long at most. Raises sqlite3.OperationalError, with the code of an interrupt, after it."""
        over = perf_counter() + statement_times.SHORT_SECONDS
        self._raw.set_progress_handler(lambda: perf_counter() > over, _LOOKS_AFTER)
        try:
            return self._carry_out(what, *arguments)
        finally:
            self._raw.set_progress_handler(None, 0)

    async def _trip(self, what: Callable[..., _T], *arguments: Any) -> tuple[_T, float]:
        """Do it in the connection's thread; return with it how many seconds that took there."""
        self._trips += 1
        try:
            done: tuple[_T, float] = await cast(Any, self._connection)._execute(self._patiently, what, arguments)
        except Exception:
            self._trips -= 1
            raise
        self._trips -= 1
        return done

    def _patiently(self, what: Callable[..., _T], arguments: tuple[Any, ...]) -> tuple[_T, float]:
        """In the connection's thread: wait for who holds a lock, for so long at most."""
        if self._is_settled:
            return self._carry_out(what, *arguments)
        self._raw.execute(f"PRAGMA busy_timeout={PATIENT_MILLISECONDS}")
        try:
            self._start()
            return self._carry_out(what, *arguments)
        finally:
            self._raw.execute("PRAGMA busy_timeout=0")

    def _start(self) -> None:
        """Begin where that is due."""
        if not self._begun:
            self._raw.cursor().execute(self._begin)
            self._begun = True
            self._changes = self._raw.total_changes

    def _carry_out(self, what: Callable[..., _T], *arguments: Any) -> tuple[_T, float]:
        """Do it, in a transaction that has begun; return with it how many seconds it took."""
        if not self._raw.in_transaction:  # SQLite ends one by itself where it cannot go on, as on a full disk
            raise sqlite3.OperationalError("the transaction was rolled back")
        began = perf_counter()
        done = what(self._raw, *arguments)
        self._is_settled = True
        return done, perf_counter() - began

    def _roll_back(self) -> None:
        if self._raw.in_transaction:
            self._raw.rollback()

    @property
    def _raw(self) -> sqlite3.Connection:
        return self._connection._conn


def _rows(connection: sqlite3.Connection, sql: str, values: Any) -> list[Any]:
    return connection.cursor().execute(sql, values).fetchall()


def _count(connection: sqlite3.Connection, sql: str, values: Any) -> int:
    return connection.cursor().execute(sql, values).rowcount


def _count_many(connection: sqlite3.Connection, sql: str, rows: Iterable[Any]) -> int:
    return connection.cursor().executemany(sql, rows).rowcount


def _count_each(connection: sqlite3.Connection, writes: Sequence[Write]) -> list[int]:
    touched: list[int] = []
    for sql, rows in writes:
        touched.append(_count_many(connection, sql, rows) if rows else 0)
        if touched[-1] < len(rows):
            break
    return touched


def _commit(connection: sqlite3.Connection) -> None:
    connection.commit()


def _commit_to_disk(connection: sqlite3.Connection, disk: Disk) -> None:
    connection.commit()
    disk.sync()


def _are_few(rows: Collection[Any]) -> bool:
    return len(rows) <= _FEW_ROWS and all(_is_small(row) for row in rows)


def _is_small(values: Any) -> bool:
    characters = 0
    for value in values.values() if isinstance(values, Mapping) else values:
        if isinstance(value, str | bytes):
            characters += len(value)
    return characters <= _FEW_CHARACTERS


def _is(error: sqlite3.Error, code: int) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == code
