"""Telling loops that there is work: at once inside the process, and through a side connection between processes.

A NOTIFY inside the writing transaction would serialise every commit of the database; this one is sent after the
commit, on a connection of its own, at most once in 20 ms. It may be lost: the loops also look by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

import asyncpg

from core.store.session import BROKEN

CHANNEL = "dripstone_wake"
_COALESCE_SECONDS = 0.02
_RECONNECT_SECONDS = 1.0


class Wakeups:
    """The events that loops and watchers wait on, by name."""

    def __init__(self) -> None:
        self._events: dict[str, set[asyncio.Event]] = {}
        self._outgoing: set[str] = set()
        self._pending = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._own_pid = 0

    def event(self, *names: str) -> asyncio.Event:
        """Return a new event that is set whenever one of the names is signalled."""
        event = asyncio.Event()
        for name in names:
            self._events.setdefault(name, set()).add(event)
        return event

    def forget(self, name: str, event: asyncio.Event) -> None:
        """Stop setting an event for a name."""
        self._events.get(name, set()).discard(event)

    def signal(self, names: Iterable[str]) -> None:
        """Wake whoever waits for these names, here and in the other processes."""
        names = set(names)
        self._set(names)
        if self._task is not None:
            self._outgoing |= names
            self._pending.set()

    def _set(self, names: Iterable[str]) -> None:
        for name in names:
            for event in self._events.get(name, ()):
                event.set()

    def connect(self, dsn: str) -> None:
        """Start exchanging signals with other processes through PostgreSQL."""
        self._task = asyncio.create_task(self._exchange(dsn), name="wakeups")

    async def close(self) -> None:
        """Stop exchanging signals."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _exchange(self, dsn: str) -> None:
        while True:
            names: set[str] = set()
            with contextlib.suppress(OSError, asyncpg.PostgresError, *BROKEN):
                # A signal takes a place in the log and waits for the disk, like a commit; this one may be lost.
                connection = await asyncpg.connect(dsn, server_settings={"synchronous_commit": "off"})
                try:
                    connection.add_termination_listener(lambda _: self._pending.set())
                    self._own_pid = connection.get_server_pid()  # asked now: a closed connection no longer tells
                    await connection.add_listener(CHANNEL, self._heard)
                    while True:
                        await self._pending.wait()
                        self._pending.clear()
                        names, self._outgoing = self._outgoing, set()
                        await connection.execute("SELECT pg_notify($1, $2)", CHANNEL, ",".join(sorted(names)))
                        await asyncio.sleep(_COALESCE_SECONDS)
                finally:
                    connection.terminate()
            self._outgoing |= names
            await asyncio.sleep(_RECONNECT_SECONDS)

    def _heard(self, _connection: Any, pid: int, _channel: str, payload: str) -> None:
        if pid != self._own_pid:  # what this process said itself, its own loops know already
            self._set(payload.split(","))
