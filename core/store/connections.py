"""The connections that transactions take and give back: opened as they are wanted, kept, the one used last first.

SQLAlchemy opens and closes them. Its own pool would switch greenlets for each transaction, which costs more than a
look-up by key.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.engine import Dialect
from sqlalchemy.util import greenlet_spawn

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

_LONGEST_WAIT_SECONDS = 30


class NoConnection(Exception):
    """Every connection was taken for as long as anybody waits for one."""


class Connections:
    """At most so many connections of an engine; who waits for one has it before who comes later."""

    def __init__(self, engine: Engine, most: int, is_open: Callable[[Any], bool] = lambda _driver: True):
        """`is_open` tells of a driver's connection whether the database has not closed it meanwhile."""
        self._engine = engine
        self._is_open = is_open
        self._free: list[PoolProxiedConnection] = []
        self._room = asyncio.Semaphore(most)
        self._ending: set[asyncio.Task[None]] = set()
        self._is_closed = False

    @property
    def dialect(self) -> Dialect:
        """Return what SQLAlchemy knows of the database."""
        return self._engine.dialect

    @property
    def engine(self) -> AsyncEngine:
        """Return SQLAlchemy's own way to the database, for changes of the schema."""
        from sqlalchemy.ext.asyncio import AsyncEngine  # brings the whole ORM, which nothing else here needs

        return AsyncEngine(self._engine)

    async def take(self) -> PoolProxiedConnection:
        """Return a connection that is the caller's until it gives it back. Raises NoConnection, and driver's errors."""
        if self._is_closed:
            raise NoConnection
        if self._room.locked():
            try:
                async with asyncio.timeout(_LONGEST_WAIT_SECONDS):
                    await self._room.acquire()
            except TimeoutError:
                raise NoConnection from None
        else:
            await self._room.acquire()
        try:
            while self._free:
                kept = self._free.pop()
                if self._is_open(kept.driver_connection):
                    return kept
                await self._ended(_closed(kept))
            return await greenlet_spawn(self._engine.raw_connection)
        except BaseException:
            self._room.release()
            raise

    async def give_back(self, connection: PoolProxiedConnection, *, is_spent: bool) -> None:
        """Keep a connection for the next who wants one; one that nobody can use any more is closed."""
        if is_spent or self._is_closed:
            await self._ended(self._closed_and_gone(connection))
        else:
            self._free.append(connection)
            self._room.release()

    async def close_free(self) -> None:
        """Close those that nobody has; others are opened where they are wanted."""
        while self._free:
            await self._ended(_closed(self._free.pop()))

    async def close(self) -> None:
        """Close those that nobody has, and every other one when it is given back; nobody takes one any more."""
        self._is_closed = True
        await self.close_free()

    async def _closed_and_gone(self, connection: PoolProxiedConnection) -> None:
        try:
            await _closed(connection)
        finally:
            self._room.release()

    async def _ended(self, ending: Coroutine[Any, Any, None]) -> None:
        """Wait for what goes on to its end, whoever gives up waiting: a connection that is half closed keeps locks."""
        task = asyncio.create_task(ending)
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        await asyncio.shield(task)


async def _closed(connection: PoolProxiedConnection) -> None:
    await greenlet_spawn(connection.invalidate)
    connection.close()
