"""Work that is carried to its end although nobody waits for it any more.

A client's deadline cancels its call. Cancelled in the middle, a transaction would leave its connection behind in an
unknown state, and on SQLite that is the one connection that writes. So the call's waiting is cancelled, not its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import Context
from typing import Any, TypeVar

_T = TypeVar("_T")


class UnderWay:
    """The work that is under way in this process."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, work: Coroutine[Any, Any, _T], context: Context | None = None) -> asyncio.Task[_T]:
        """Begin work that nobody cancels: who gives it up stops waiting for it."""
        task = asyncio.create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def to_its_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Wait for work that goes on when the waiting is cancelled."""
        return await asyncio.shield(self.begin(work))

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # seen, so that nobody complains that it was not

    async def finish(self, seconds: float) -> None:
        """Wait for all of it, so long at most."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=seconds)
