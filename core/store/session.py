"""One transaction on a driver's own connection, in as few trips as there can be: it begins with its first statement.

A trip costs more than most statements: SQLite's goes to another thread, PostgreSQL's to another process.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

import asyncpg

Write = tuple[str, Sequence[tuple[Any, ...]]]
"""A statement and the values of each row that it is run for."""


BROKEN = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What the driver itself says: of a connection that is gone, or going while a statement is sent."""


class Session(Protocol):
    """What a transaction asks of its connection."""

    async def rows(self, sql: str, values: Any) -> Sequence[Sequence[Any]]:
        """Run a statement and return its rows."""

    async def count(self, sql: str, values: Any) -> int:
        """Run a statement and return how many rows it touched."""

    async def count_many(self, sql: str, rows: Iterable[Any]) -> int:
        """Run a statement once a row; return how many rows it touched, as far as the driver tells (0 if not)."""

    async def count_each(self, writes: Sequence[Write]) -> list[int]:
        """Run statements, each once a row, to the first that touches fewer; return how many rows each touched."""

    async def driver(self) -> Any:
        """Return the driver's connection, inside the transaction."""

    async def commit(self) -> None:
        """Commit. Raises the driver's error, and leaves it to the caller to roll back."""

    async def commit_ahead(self) -> None:
        """Commit what others may see before it is on the disk; whoever promises it to somebody waits for `on_disk`."""

    async def on_disk(self) -> None:
        """Return when what was committed is on the disk; on SQLite the connection may have been given back before."""

    async def rollback(self) -> None:
        """Roll back what there is; a connection that cannot is spent."""

    @property
    def is_spent(self) -> bool:
        """Tell whether nobody can use the connection any more: it is gone, or its transaction has not ended."""


_COMMIT_AHEAD = "SET LOCAL synchronous_commit = off; COMMIT;"
_TO_DISK = "SELECT pg_logical_emit_message(true, 'dripstone', '')"
_MAY_SEE = "may_see"
"""Among what a pool keeps about a connection: the organization that its session was told last."""


class PostgresqlSession:
    """A transaction on PostgreSQL; what holds in it is said in the trip that begins it."""

    def __init__(self, connection: Any, begin: str):
        self._connection = connection
        self._begin = begin
        self._begun = False
        self._is_beginning = False
        """That nobody waited for the end of it: whether a transaction is open is not known."""

    async def rows(self, sql: str, values: Any) -> Sequence[Sequence[Any]]:
        """Run a statement and return its rows."""
        if not self._begun:
            await self.driver()
        return cast(Sequence[Sequence[Any]], await self._connection.fetch(sql, *values))

    async def count(self, sql: str, values: Any) -> int:
        """Run a statement and return how many rows it touched."""
        if not self._begun:
            await self.driver()
        touched = (await self._connection.execute(sql, *values)).rpartition(" ")[2]
        return int(touched) if touched.isdigit() else 0

    async def count_many(self, sql: str, rows: Iterable[Any]) -> int:
        """Run a statement once a row; this driver does not tell what that touched."""
        await (await self.driver()).executemany(sql, rows)
        return 0

    async def count_each(self, writes: Sequence[Write]) -> list[int]:
        """Run statements, a trip for each row: this driver counts no other way."""
        touched: list[int] = []
        for sql, rows in writes:
            touched.append(sum([await self.count(sql, row) for row in rows]))
            if touched[-1] < len(rows):
                break
        return touched

    async def driver(self) -> Any:
        """Return the driver's connection, inside the transaction."""
        if not self._begun:
            self._is_beginning = True
            await self._connection.execute(self._begin)
            self._is_beginning = False
            self._begun = True
        return self._connection

    async def commit(self) -> None:
        """Commit, unless nothing was asked."""
        if (
            self._begun and await self._connection.execute("COMMIT;") != "COMMIT"
        ):  # a statement failed; who asked went on
            raise asyncpg.InFailedSQLTransactionError("the transaction was rolled back")

    async def commit_ahead(self) -> None:
        """Commit what others may see before it is on the disk; whoever promises it to somebody waits for `on_disk`."""
        if self._begun and await self._connection.execute(_COMMIT_AHEAD) != "COMMIT":
            raise asyncpg.InFailedSQLTransactionError("the transaction was rolled back")

    async def on_disk(self) -> None:
        """Return when what was committed is on the disk: what is written to the log takes all before it along."""
        await self._connection.execute(_TO_DISK)

    async def rollback(self) -> None:
        """Roll back what there is."""
        if not self._connection.is_closed() and self._connection.is_in_transaction():
            with suppress(asyncpg.PostgresError, *BROKEN, OSError):  # then it is closed when given back
                await self._connection.execute("ROLLBACK;")

    @property
    def is_spent(self) -> bool:
        """Tell whether the server has gone, or the transaction has not ended."""
        return bool(self._is_beginning or self._connection.is_closed() or self._connection.is_in_transaction())


class PostgresqlReading(PostgresqlSession):
    """Statements that only read, each a transaction by itself: to begin one and to end it would be two more trips.

    They would see no less of what others commit meanwhile: between its statements a transaction holds nothing still,
    as its isolation is READ COMMITTED. The connection refuses writes, and is told anew for whom it reads unless the
    one who had it last read for the same.
    """

    def __init__(self, connection: Any, kept: MutableMapping[str, Any], org_id: str, show: str):
        """`kept` stays with the connection; `show` is the statement that lets it see the organization."""
        super().__init__(connection, show)
        self._kept = kept
        self._org_id = org_id

    async def driver(self) -> Any:
        """Return the driver's connection, on which one organization can be seen."""
        if self._kept.get(_MAY_SEE) != self._org_id:
            self._kept.pop(_MAY_SEE, None)
            self._is_beginning = True
            await self._connection.execute(self._begin)
            self._is_beginning = False
            self._kept[_MAY_SEE] = self._org_id
        self._begun = True
        return self._connection

    async def commit(self) -> None:
        """There is nothing to commit."""

    async def rollback(self) -> None:
        """There is nothing to roll back."""
