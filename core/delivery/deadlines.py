"""The deadlines of all that is under way, watched by one timer: one for each request costs half as much as sending."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from math import inf


@dataclass(slots=True)
class Deadlines:
    """Ends what takes too long; what is in time costs an entry in a table."""

    _ends: dict[asyncio.Timeout, float] = field(default_factory=dict)
    """When each ends, by the loop's clock."""
    _timer: asyncio.TimerHandle | None = None
    _rings_at: float = inf

    def watch(self, limit: asyncio.Timeout, seconds: float) -> None:
        """End the block of this limit, which has been entered, after so many seconds, unless it is forgotten before."""
        loop = asyncio.get_running_loop()
        end = self._ends[limit] = loop.time() + seconds
        if end < self._rings_at:
            self._ring(loop, end)

    def forget(self, limit: asyncio.Timeout) -> None:
        """Watch this one no more."""
        self._ends.pop(limit, None)

    def close(self) -> None:
        """Stop the timer; nothing is under way any more."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings_at = None, inf

    def _ring(self, loop: asyncio.AbstractEventLoop, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._rings_at = loop.call_at(at, self._rang, loop), at

    def _rang(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._timer, self._rings_at = None, inf
        for limit in [limit for limit, end in self._ends.items() if end <= now]:
            del self._ends[limit]
            limit.reschedule(now)
        if self._ends:
            self._ring(loop, min(self._ends.values()))
