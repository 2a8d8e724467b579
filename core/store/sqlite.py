"""SQLite's driver with one trip to its thread a statement: SQLAlchemy's own adapter makes four.

A trip costs more than most statements: two threads take turns for it. A cursor is opened, run, read to its end and
closed in one, which changes nothing for whoever asked: the adapter keeps every row in memory anyway.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from typing import Any

import aiosqlite
from sqlalchemy.dialects.sqlite.aiosqlite import (
    AsyncAdapt_aiosqlite_connection,
    AsyncAdapt_aiosqlite_cursor,
    AsyncAdapt_aiosqlite_dbapi,
)
from sqlalchemy.util import EMPTY_DICT


class _Outcome:
    """What a statement did, where the adapter looks for the driver's cursor."""

    __slots__ = ("arraysize", "description", "lastrowid", "rowcount")

    def __init__(self) -> None:
        self.arraysize = 1
        self.description: Any = None
        self.rowcount = -1
        self.lastrowid: int | None = None


class _Cursor(AsyncAdapt_aiosqlite_cursor):
    """One statement and its rows."""

    __slots__ = ()

    def __init__(self, connection: AsyncAdapt_aiosqlite_connection) -> None:
        outcome: Any = _Outcome()
        self._adapt_connection = connection
        self._connection = connection._connection
        self._cursor = outcome
        self._soft_closed_memoized = EMPTY_DICT
        self._rows = deque()

    def close(self) -> None:
        """Forget the rows; the driver's cursor is closed already."""
        self._rows.clear()

    async def _async_soft_close(self) -> None:
        """Do nothing: the driver's cursor is closed already."""

    async def _execute_async(self, operation: Any, parameters: Any) -> Any:
        await self._carried_out("execute", operation, () if parameters is None else parameters)

    async def _executemany_async(self, operation: Any, seq_of_parameters: Any) -> Any:
        await self._carried_out("executemany", operation, seq_of_parameters)

    async def _carried_out(self, method: str, sql: str, parameters: Any) -> None:
        driver: Any = self._connection
        async with self._adapt_connection._execute_mutex:
            found = await driver._execute(_in_one_trip, driver._conn, method, sql, parameters)
        outcome: Any = self._cursor
        rows, outcome.description, outcome.rowcount, outcome.lastrowid = found
        self._rows = deque(rows)


def _in_one_trip(
    connection: sqlite3.Connection, method: str, sql: str, parameters: Any
) -> tuple[list[Any], Any, int, int | None]:
    """Run a statement in the driver's thread; return its rows, their description, and what it did."""
    cursor = connection.cursor()
    try:
        getattr(cursor, method)(sql, parameters)
        rows = cursor.fetchall() if cursor.description else []
        return rows, cursor.description, cursor.rowcount, cursor.lastrowid
    finally:
        cursor.close()


class _Connection(AsyncAdapt_aiosqlite_connection):
    __slots__ = ()
    _cursor_cls: Any = _Cursor


class Driver(AsyncAdapt_aiosqlite_dbapi):
    """What SQLAlchemy takes for the driver's module."""

    def __init__(self) -> None:
        """Adapt aiosqlite."""
        super().__init__(aiosqlite, sqlite3)

    def connect(self, *arguments: Any, **named: Any) -> AsyncAdapt_aiosqlite_connection:
        """Connect as the adapter does."""
        return _Connection(self, super().connect(*arguments, **named)._connection)
