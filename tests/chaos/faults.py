"""Faults at the database's own door: a statement that breaks once, or power that goes off between any two of them.

They sit in the drivers' own connection classes, which SQLAlchemy lets anybody choose: nothing of the product is
replaced, and statements that go past SQLAlchemy break as well.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import asyncpg
from sqlalchemy import event

from core.store.database import Database

Kind = Literal["cut before", "cut after", "hiccup"]
"""Power goes off before a statement, or after it (a commit that nobody hears of); or one statement fails, once."""


_PASSING = ("ROLLBACK", "PRAGMA")
"""What a database does by itself when a process is gone, and what only sets a connection up."""


class PowerCut(OSError):
    """The process has lost its database for good; to the database, it has died."""


class Hiccup(Exception):
    """One statement failed for no reason that anybody could foresee."""


@dataclass(slots=True)
class Faults:
    """What goes wrong on the connections of one database."""

    off: bool = False
    """Power is off: no statement passes any more."""
    fired: bool = False
    """Something went wrong since it was armed."""
    _kind: Kind = "hiccup"
    _left: int = 0
    _struck: bool = False
    """Power goes off as soon as the statement under way is through."""

    def arm(self, kind: Kind, statements: int) -> None:
        """Let so many statements pass, then do it."""
        self._kind, self._left, self._struck, self.fired = kind, statements + 1, False, False

    def disarm(self) -> None:
        """Let everything pass from now on."""
        self._left, self._struck, self.fired = 0, False, False

    async def attach(self, database: Database) -> None:
        """Sit in every connection that the database opens from now on; those that are open are closed."""
        for connections in (database.callers, database.workers):
            event.listen(connections.engine.sync_engine, "do_connect", self._connecting)
            await connections.close_free()
            async with (
                connections.engine.connect()
            ):  # what SQLAlchemy asks a database first is none of the product's statements
                pass

    def _connecting(self, dialect: Any, _record: Any, _arguments: Any, options: dict[str, Any]) -> None:
        if dialect.name == "sqlite":
            options["factory"] = partial(_SqliteConnection, self)
            return
        options["connection_class"] = type("Breaking", (_PostgresqlConnection,), {"__slots__": (), "faults": self})
        options["prepared_statement_cache_size"] = 0  # what is prepared already would pass by this door

    def before(self, sql: str) -> None:
        """Break before a statement, where that is due."""
        if sql.startswith(_PASSING):
            return
        if self.off:
            raise PowerCut("the power is off")
        if self._kind == "hiccup" and sql.startswith("BEGIN") and sql.endswith(";"):
            return  # PostgreSQL never refuses to begin, and its driver does not expect it to
        if self._left:
            self._left -= 1
            self._struck = not self._left and self._kind == "cut after"
            if not self._left and not self._struck:
                self._break()

    def after(self, sql: str) -> None:
        """Break after a statement, where that is due."""
        if self._struck and not sql.startswith(_PASSING):
            self._struck = False
            self._break()

    def _break(self) -> None:
        self.fired = True
        if self._kind == "hiccup":
            raise Hiccup("a statement failed")
        self.off = True
        raise PowerCut("the power goes off")


class _SqliteCursor(sqlite3.Cursor):
    def execute(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        faults: Faults = self.connection.faults  # type: ignore[attr-defined]
        faults.before(sql)
        made = super().execute(sql, *arguments)
        faults.after(sql)
        return made

    def executemany(self, sql: str, *arguments: Any) -> sqlite3.Cursor:
        faults: Faults = self.connection.faults  # type: ignore[attr-defined]
        faults.before(sql)
        made = super().executemany(sql, *arguments)
        faults.after(sql)
        return made


class _SqliteConnection(sqlite3.Connection):
    def __init__(self, faults: Faults, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.faults = faults

    def cursor(self, *_arguments: Any) -> Any:
        return super().cursor(_SqliteCursor)

    def commit(self) -> None:
        self.faults.before("COMMIT")
        super().commit()
        self.faults.after("COMMIT")


class _PostgresqlConnection(asyncpg.Connection):  # type: ignore[misc]
    __slots__ = ()
    faults: Faults

    async def execute(self, query: str, *arguments: Any, **options: Any) -> Any:
        self.faults.before(query)
        made = await super().execute(query, *arguments, **options)
        self.faults.after(query)
        return made

    async def executemany(self, command: str, *arguments: Any, **options: Any) -> Any:
        self.faults.before(command)
        made = await super().executemany(command, *arguments, **options)
        self.faults.after(command)
        return made

    async def fetch(self, query: str, *arguments: Any, **options: Any) -> Any:
        self.faults.before(query)
        made = await super().fetch(query, *arguments, **options)
        self.faults.after(query)
        return made

    async def prepare(self, query: str, **options: Any) -> Any:
        self.faults.before(query)
        made = await super().prepare(query, **options)
        self.faults.after(query)
        return made
