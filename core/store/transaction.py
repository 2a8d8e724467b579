"""One database transaction: the only place where statements are bound to an organization."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypeVar, cast

from sqlalchemy import Boolean, Column, Delete, Executable, Float, Integer, Row, Select, Table, Update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.selectable import FromClause, Join

from core.store.metadata import Instant, Json, to_micros, write_json

EVERY_ORGANIZATION = "*"
"""The organization of a system transaction, which names organizations in its own statements."""

_MOST_PARAMETERS = 30_000
_Statement = TypeVar("_Statement", Select[Any], Update, Delete)


class StaleEnrollment(Exception):
    """An enrollment moved on between being read and being written; the whole transaction must be tried again."""


class Transaction:
    """Runs statements for one organization, or for all of them in a loop's transaction.

    `now` is the instant the transaction began; every row it writes carries it.
    """

    def __init__(self, connection: AsyncConnection, org_id: str, now: datetime):
        self.connection = connection
        self.org_id = org_id
        self.now = now
        self.dialect = connection.dialect.name
        self.wakes: set[str] = set()
        self.spent: Counter[str] = Counter()
        """What was done by budget metric; whoever carries out a call charges its principal in the end."""
        self.once_committed: list[Callable[[], None]] = []
        """What is told to whoever measures, once there is something to tell."""
        self.answer_is_final = True
        """False when the call could only ask for something: repeated under its key, it is carried out anew."""
        self._driver: Any = None

    def within(self, org_id: str) -> Transaction:
        """Return the same transaction bound to one organization: what a loop does for an enrollment stays in there."""
        bound = Transaction(self.connection, org_id, self.now)
        bound.wakes = self.wakes
        bound.spent = self.spent
        bound.once_committed = self.once_committed
        bound._driver = self._driver
        return bound

    async def all(self, statement: Executable) -> Sequence[Row[Any]]:
        """Return every row of a statement."""
        return (await self.connection.execute(self._scoped(statement))).all()

    async def first(self, statement: Executable) -> Row[Any] | None:
        """Return the first row of a statement, or None."""
        return (await self.connection.execute(self._scoped(statement))).first()

    async def run(self, statement: Executable) -> int:
        """Run an update or a delete and return how many rows it touched."""
        return (await self.connection.execute(self._scoped(statement))).rowcount

    async def insert(
        self, table: Table, rows: Sequence[Mapping[str, Any]], on_conflict: Literal["error", "ignore"] = "error"
    ) -> int:
        """Insert rows and return how many went in; with "ignore", rows whose key is taken stay out."""
        if not rows:
            return 0
        if self.org_id != EVERY_ORGANIZATION and "org_id" in table.c:
            rows = [{**row, "org_id": self.org_id} for row in rows]
        construct = postgresql_insert if self.dialect == "postgresql" else sqlite_insert
        size = max(1, _MOST_PARAMETERS // len(table.c))
        inserted = 0
        for start in range(0, len(rows), size):
            statement = construct(table).values(rows[start : start + size])
            if on_conflict == "ignore":
                statement = statement.on_conflict_do_nothing()
            returning = statement.returning(next(iter(table.primary_key.columns)))
            inserted += len((await self.connection.execute(returning)).all())
        return inserted

    async def bulk_insert(self, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert many rows through the driver itself; `org_id` stands in the rows."""
        if not rows:
            return
        driver = await self.driver()
        if self.dialect == "postgresql":
            await driver.execute(inserting(table, tuple(columns)), write_json(as_json(table, columns, rows)))
        else:
            await driver.executemany(_insert_marks(table, tuple(columns)), _as_values(table, columns, rows))

    async def bulk_insert_free(self, table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> set[str]:
        """Insert the rows whose unique keys are free and return their ids; PostgreSQL only, where writers race."""
        sql = inserting(table, tuple(columns)) + " ON CONFLICT DO NOTHING RETURNING id"
        return {row[0] for row in await self.fetch(sql, write_json(as_json(table, columns, rows)))}

    async def driver(self) -> Any:
        """Return the driver's own connection (asyncpg or aiosqlite), inside this transaction, for hot statements."""
        if self._driver is None:
            self._driver = (await self.connection.get_raw_connection()).driver_connection
        return self._driver

    async def fetch(self, sql: str, *parameters: Any) -> Sequence[Sequence[Any]]:
        """Run a hot statement through the driver itself and return its rows as plain tuples.

        Parameters are `$1`, `$2` … on both databases; the statement names organizations itself.
        """
        driver = await self.driver()
        if self.dialect == "postgresql":
            return cast(Sequence[Sequence[Any]], await driver.fetch(sql, *parameters))
        named = {f"p{number}": value for number, value in enumerate(parameters, 1)}
        return cast(Sequence[Sequence[Any]], await driver.execute_fetchall(_sqlite_marks(sql), named))

    def spend(self, metric: str, amount: int) -> None:
        """Note that something was done of which budgets allow so much a day."""
        self.spent[metric] += amount

    def wake(self, *loops: str) -> None:
        """Wake these loops once the transaction is committed."""
        self.wakes.update(loops)

    def _scoped(self, statement: Executable) -> Executable:
        if self.org_id == EVERY_ORGANIZATION:
            return statement
        if isinstance(statement, Select):
            return self._where(statement, _sources(statement))
        if isinstance(statement, Update):
            return self._where(statement, _leaves(statement.table))
        if isinstance(statement, Delete):
            return self._where(statement, _leaves(statement.table))
        raise TypeError(f"{type(statement).__name__} cannot be bound to an organization")

    def _where(self, statement: _Statement, sources: Sequence[FromClause]) -> _Statement:
        for source in sources:
            if "org_id" not in source.c:
                raise TypeError(f"{source} has no organization")
            statement = statement.where(source.c.org_id == self.org_id)
        return statement


_tables_of: OrderedDict[Any, list[FromClause]] = OrderedDict()
_MOST_REMEMBERED = 2_000


def _sources(statement: Select[Any]) -> list[FromClause]:
    """Return what a query reads from.

    SQLAlchemy compiles the whole query to tell, which costs more than sending it; so it is asked once for each form of
    query. Aliases are of one query alone: those that have some are asked about every time.
    """
    form = statement._generate_cache_key()
    if form is not None and form.key in _tables_of:
        _tables_of.move_to_end(form.key)
        return _tables_of[form.key]
    found = [leaf for source in statement.get_final_froms() for leaf in _leaves(source)]
    if form is not None and all(isinstance(source, Table) for source in found):
        _tables_of[form.key] = found
        if len(_tables_of) > _MOST_REMEMBERED:
            _tables_of.popitem(last=False)
    return found


def _leaves(source: FromClause) -> list[FromClause]:
    if isinstance(source, Join):
        return _leaves(source.left) + _leaves(source.right)
    return [source]


@cache
def _sqlite_marks(sql: str) -> str:
    return re.sub(r"\$(\d+)", r":p\1", sql)  # not the `$` of a JSON path


def values_by_column(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """Return rows as one list a column, as PostgreSQL's arrays want them."""
    return [list(column) for column in zip(*rows, strict=True)]


Encode = Callable[[Any], Any]


def rows_of_json(columns: Mapping[str, str], parameter: int = 1) -> str:
    """Return the SQL, for PostgreSQL, that reads rows from `$1`, JSON arrays in an array; columns with their types.

    One JSON text costs the driver a tenth of what an array for each column does, and the database no more. With
    OFFSET 0 they are read before they are joined: row-level security lets no index be searched for what is computed.
    """
    reads = ", ".join(f"{_read(number, of)} AS {name}" for number, (name, of) in enumerate(columns.items()))
    return f"(SELECT {reads} FROM jsonb_array_elements(${parameter}::jsonb) AS given(cells) OFFSET 0)"  # noqa: S608 -- names are ours


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
def _insert_marks(table: Table, columns: tuple[str, ...]) -> str:
    marks = ", ".join("?" * len(columns))
    return f"INSERT INTO {table.name} ({', '.join(columns)}) VALUES ({marks})"  # noqa: S608 -- the schema's names


def as_json(table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows as JSON can have them."""
    return _encoded(rows, [to_micros if isinstance(table.c[name].type, Instant) else None for name in columns])


def _as_values(table: Table, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return rows as SQLite's driver takes them."""
    return _encoded(rows, [_encoder(table.c[name]) for name in columns])


def _encoder(column: Column[Any]) -> Encode | None:
    if isinstance(column.type, Json):
        return write_json
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
        case Instant() | Integer():
            return "bigint"
        case Boolean():
            return "boolean"
        case Float():
            return "double precision"
        case _:
            return "text"
