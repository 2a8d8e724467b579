"""The disk beneath SQLite's log: what of it is waited for, what is still on its way there, and what it refused."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor

import aiosqlite
import structlog

from core.store.session import Session

_to_disk = getattr(os, "fdatasync", os.fsync)
"""What SQLite calls as well; not every system has the shorter one."""

_THREADS = ThreadPoolExecutor(4, "disk")
"""Not the loop's own threads, which may all look up names or read imports while a writer waits for the disk."""


_log = structlog.get_logger()


class Disk:
    """One database's log as far as the disk has it; at most one transaction is ahead of it, so little is at stake."""

    def __init__(self, log: str):
        """`log` is the path of the write-ahead log."""
        self.log = log
        self._last: asyncio.Task[None] | None = None
        """The transaction that went ahead, on its way."""
        self._refused = False

    def sync(self) -> None:
        """Return when all that the log holds is on the disk. Raises OSError when that cannot be. For a thread."""
        try:
            file = os.open(self.log, os.O_RDWR)
        except FileNotFoundError:  # closed since, or a database without one: then SQLite itself has waited for the disk
            return
        try:
            _to_disk(file)
        except OSError:
            self._refused = True
            raise
        finally:
            os.close(file)  # no lock goes with it: SQLite holds those on its other files

    async def wait(self) -> None:
        """Return when all that the log holds is on the disk. Raises OSError when that cannot be."""
        await asyncio.get_running_loop().run_in_executor(_THREADS, self.sync)

    async def commit_ahead(self, session: Session) -> None:
        """Commit once the last one is on the disk, and see this one there. Raises OSError if the last is not."""
        if self._last is not None:
            await asyncio.wait((self._last,))  # whoever is cancelled here leaves it to others to be told
            last, self._last = self._last, None
            last.result()
        await session.commit_ahead()
        self._last = asyncio.create_task(session.on_disk())

    async def arrive(self) -> None:
        """Return when what went ahead is on the disk. Raises OSError if it cannot be."""
        if self._last is not None:
            await asyncio.shield(self._last)

    def check(self) -> None:
        """Raise OSError where the disk has refused something: what is written after it would be lost with it."""
        if self._refused:
            raise OSError("the disk refused what was written last")

    async def mend(self, connection: aiosqlite.Connection) -> None:
        """Write the log back into the file where the disk refused some of it. Raises OSError while that cannot be.

        The system takes what was refused for written: the next call would pass, and leave a hole in the log behind
        which recovery finds nothing, whatever has been promised of it.
        """
        if not self._refused:
            return
        ((is_busy, *_),) = await connection.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)")
        if is_busy:
            raise OSError("the disk refused something, and the log cannot be written back while others read it")
        last, self._refused, self._last = self._last, False, None
        why = last.exception() if last is not None and last.done() else None
        _log.error("the disk refused a write; all of the log is in the file now", file=self.log, error=why)
