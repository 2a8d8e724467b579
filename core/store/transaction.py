"""One database transaction, of one organization or of all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from itertools import chain
from typing import Any, Literal

from sqlalchemy import Boolean, Column, Executable, Float, Integer, LargeBinary, Row, Table

from core.store.kept_rows import KeptRows
from core.store.metadata import Instant, Json, dump_json, to_micros, write_json
from core.store.session import Session, Write
from core.store.statements import EVERY_ORGANIZATION, Statements

__all__ = ["EVERY_ORGANIZATION", "StaleEnrollment", "Transaction"]


class StaleEnrollment(Exception):
    """An enrollment moved on between being read and being written; the whole transaction must be tried again."""


class Transaction:
    """Runs statements for one organization, or for all of them in a loop's transaction.

    `now` is the instant the transaction began; every row it writes carries it.
    """

    def __init__(self, session: Session, statements: Statements, org_id: str, now: datetime):
        self._session = session
        self._statements = statements
        self.org_id = org_id
        self.now = now
        self.dialect = statements.dialect
        self.kept = KeptRows()
        self.wakes: set[str] = set()
        self.spent: Counter[str] = Counter()
        """What was done by budget metric; whoever carries out a call charges its principal in the end."""
        self.once_committed: list[Callable[[], None]] = []
        """What is told to whoever measures, once there is something to tell."""
        self.repeats: set[str] = set()
        """What it answers with that another transaction committed, which may have gone ahead of the disk."""
        self.goes_ahead = False
        """Nobody is told of it when it ends, and the next one begins at once: the disk may have it a moment later."""
        self.answer_is_final = True
        """False when the call could only ask for something: repeated under its key, it is carried out anew."""

    def within(self, org_id: str) -> Transaction:
        """Return the same transaction bound to one organization: what a loop does for an enrollment stays in there."""
        bound = Transaction(self._session, self._statements, org_id, self.now)
        bound.kept = self.kept
        bound.wakes = self.wakes
        bound.spent = self.spent
        bound.once_committed = self.once_committed
        bound.repeats = self.repeats
        return bound

    async def all(self, statement: Executable) -> Sequence[Row[Any]]:
        """Return every row of a statement."""
        sql, values, shape = self._statements.asked(statement, self.org_id)
        return shape.rows(await self._rows(sql, values))

    async def first(self, statement: Executable) -> Row[Any] | None:
        """Return the first row of a statement, or None."""
        sql, values, shape = self._statements.asked(statement, self.org_id)
        found = await self._rows(sql, values)
        return shape.rows(found[:1])[0] if found else None

    async def run(self, statement: Executable) -> int:
        """Run an update or a delete and return how many rows it touched."""
        sql, values, _ = self._statements.asked(statement, self.org_id)
        return await self._count(sql, values)

    async def run_many(self, statement: Executable, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run a statement with named values once a row; it names organizations itself."""
        await self._count_many(*self._statements.many(statement, rows))

    async def insert(
        self, table: Table, rows: Sequence[Mapping[str, Any]], on_conflict: Literal["error", "ignore"] = "error"
    ) -> int:
        """Insert rows of the same columns; return how many went in: with "ignore", those whose key is taken stay out.

        Raises KeyError and ValueError for rows that do not fit each other, ValueError for a number that JSON lacks.
        """
        if not rows:
            return 0
        columns = tuple(rows[0])
        if any(len(row) != len(columns) for row in rows):
            raise ValueError(f"rows of {table.name} have different columns")
        cells = [tuple(row[name] for name in columns) for row in rows]
        if self.org_id != EVERY_ORGANIZATION and "org_id" in table.c:
            org, at = (self.org_id,), columns.index("org_id") if "org_id" in columns else len(columns)
            columns = (*columns[:at], *columns[at + 1 :], "org_id")
            cells = [(*one[:at], *one[at + 1 :], *org) for one in cells]
        ignoring = " ON CONFLICT DO NOTHING" if on_conflict == "ignore" else ""
        if self.dialect == "postgresql":
            sql = inserting(table, columns) + ignoring
            return await self._count(sql, (dump_json(as_json(table, columns, cells)),))
        sql = _insert_marks(table, columns) + ignoring
        return await self._count_many(sql, _as_values(table, columns, cells, dump_json))

    async def bulk_insert(self, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert many rows through the driver itself; `org_id` stands in the rows."""
        if not rows:
            return
        if self.dialect == "postgresql":
            values = (write_json(as_json(table, columns, rows)),)
            await self._count(inserting(table, tuple(columns)), values)
        else:
            await self._count_many(*insertion(table, columns, rows))

    async def bulk_insert_free(self, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> set[str]:
        """Insert the rows whose unique keys are free and return their ids; PostgreSQL only, where writers race."""
        sql = inserting(table, tuple(columns)) + " ON CONFLICT DO NOTHING RETURNING id"
        return {row[0] for row in await self.fetch(sql, write_json(as_json(table, columns, rows)))}

    async def write_each(self, *writes: Write) -> list[int]:
        """Run statements in one trip, each once a row, to the first that touches fewer; return how many it was.

        One trip on SQLite alone: on PostgreSQL each row is one, and a statement with several parts does better.
        """
        for sql, _ in writes:
            self.kept.before(sql)
        return await self._session.count_each(writes)

    async def write_many(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a hot statement once a row, on SQLite; it names organizations itself."""
        if rows:
            await self._count_many(sql, rows)

    async def driver(self) -> Any:
        """Return the driver's own connection (asyncpg or aiosqlite), inside this transaction, for hot statements."""
        self.kept.keep_none()
        return await self._session.driver()

    async def fetch(self, sql: str, *parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a hot statement through the driver itself and return its rows as plain tuples.

        Parameters are `$1`, `$2` … on both databases; the statement names organizations itself.
        """
        if self.dialect == "postgresql":
            return await self._rows(sql, parameters)
        named = {f"p{number}": value for number, value in enumerate(parameters, 1)}
        return await self._rows(_sqlite_marks(sql), named)

    def _rows(self, sql: str, values: Any) -> Awaitable[Sequence[Sequence[Any]]]:
        self.kept.before(sql)
        return self._session.rows(sql, values)

    def _count(self, sql: str, values: Any) -> Awaitable[int]:
        self.kept.before(sql)
        return self._session.count(sql, values)

    def _count_many(self, sql: str, rows: Sequence[Any]) -> Awaitable[int]:
        self.kept.before(sql)
        return self._session.count_many(sql, rows)

    def spend(self, metric: str, amount: int) -> None:
        """Note that something was done of which budgets allow so much a day."""
        self.spent[metric] += amount

    def wake(self, *loops: str) -> None:
        """Wake these loops once the transaction is committed."""
        self.wakes.update(loops)


@cache
def _sqlite_marks(sql: str) -> str:
    return re.sub(r"\$(\d+)", r":p\1", sql)  # not the `$` of a JSON path


def values_by_column(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Return rows as one list a column, as PostgreSQL's arrays want them."""
    return [list(column) for column in zip(*rows, strict=True)]


_TOGETHER = 8
_MANY = 64
"""Rows, from which on eight are inserted by one statement."""

Encode = Callable[[Any], Any]


def rows_of_json(columns: Mapping[str, str], parameter: int = 1) -> str:
    """Return the SQL, for PostgreSQL, that reads rows from `$1`, JSON arrays in an array; columns with their types.

    One JSON text costs the driver a tenth of what an array for each column does, and the database no more. With
    OFFSET 0 they are read before they are joined: row-level security lets no index be searched for what is computed.
    The condition, which all of them meet, lets PostgreSQL take them for few: without it, it reads a table of thousands
    from end to end to change one row.
    """
    reads = ", ".join(f"{_read(number, of)} AS {name}" for number, (name, of) in enumerate(columns.items()))
    given = f"jsonb_array_elements(${parameter}::jsonb) AS given(cells) WHERE jsonb_typeof(cells) = 'array'"
    return f"(SELECT {reads} FROM {given} OFFSET 0)"  # noqa: S608 -- names are ours


def _read(number: int, of: str) -> str:
    if of == "jsonb":
        return f"nullif(cells -> {number}, 'null')"
    return f"(cells ->> {number})::{of}"


@cache
def inserting(table: Table, columns: tuple[str, ...], parameter: int = 1) -> str:
    """Return the statement, for PostgreSQL, that inserts the rows that `as_json` made."""
    types = {name: _type_name(table.c[name]) for name in columns}
    return f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT * FROM {rows_of_json(types, parameter)} AS rows"  # noqa: S608


@cache
def _insert_marks(table: Table, columns: tuple[str, ...], rows: int = 1) -> str:
    marks = f"({', '.join('?' * len(columns))})"
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES {', '.join([marks] * rows)}"  # noqa: S608 -- the schema's names


def insertion(table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> Write:
    """Return the statement, for SQLite, that inserts rows, and their values."""
    return _insert_marks(table, tuple(columns)), _as_values(table, columns, rows)


def insertions(table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[Write]:
    """Return the statements, for SQLite, that insert rows of what it stores: of many, a few at a time take less."""
    together = len(rows) // _TOGETHER * _TOGETHER if len(rows) >= _MANY else 0
    some = [tuple(chain(*rows[start : start + _TOGETHER])) for start in range(0, together, _TOGETHER)]
    several, one = (_insert_marks(table, tuple(columns), count) for count in (_TOGETHER, 1))
    return [(several, some), (one, rows[together:])]


def as_json(table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows as JSON can have them."""
    return _encoded(rows, _json_encoders(table, tuple(columns)))


def _as_values(
    table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]], to_json: Encode = write_json
) -> list[tuple[Any, ...]]:
    """Return rows as SQLite's driver takes them."""
    return _encoded(rows, _encoders(table, tuple(columns), to_json))


@cache
def _encoders(table: Table, columns: tuple[str, ...], to_json: Encode) -> tuple[Encode | None, ...]:
    return tuple(_encoder(table.c[name], to_json) for name in columns)


def _encoder(column: Column[Any], to_json: Encode) -> Encode | None:
    if isinstance(column.type, Json):
        return to_json
    return to_micros if isinstance(column.type, Instant) else None


@cache
def _json_encoders(table: Table, columns: tuple[str, ...]) -> tuple[Encode | None, ...]:
    return tuple(_json_encoder(table.c[name]) for name in columns)


def _json_encoder(column: Column[Any]) -> Encode | None:
    if isinstance(column.type, LargeBinary):
        return lambda value: f"\\x{value.hex()}"
    return to_micros if isinstance(column.type, Instant) else None


def _encoded(rows: Sequence[tuple[Any, ...]], encoders: Sequence[Encode | None]) -> list[tuple[Any, ...]]:
    """Return rows with some columns encoded: column by column, because most need nothing."""
    if not rows:
        return []
    columns = [
        values if encode is None else [None if value is None else encode(value) for value in values]
        for encode, values in zip(encoders, zip(*rows, strict=True), strict=True)
    ]
    return list(zip(*columns, strict=True))


def _type_name(column: Column[Any]) -> str:
    match column.type:
        case Json():
            return "jsonb"
        case LargeBinary():
            return "bytea"
        case Instant() | Integer():
            return "bigint"
        case Boolean():
            return "boolean"
        case Float():
            return "double precision"
        case _:
            return "text"
