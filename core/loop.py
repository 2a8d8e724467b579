"""The shape of every loop: claim, handle, repeat; then wait to be woken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from core.clock import Clock

_log = structlog.get_logger()
_FAILURE_PAUSE_SECONDS = 1.0


@dataclass(slots=True)
class Loop:
    """Turns until there is nothing to do, then waits for its wake-up or for `idle_seconds`."""

    name: str
    turn: Callable[[], Awaitable[int]]
    """Does one batch and returns how much it handled."""
    wake: asyncio.Event
    clock: Clock
    idle_seconds: float = 1.0
    few: int = 0
    """A turn that handled so many, or fewer, left nothing behind but what will wake the loop again."""
    turned: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set once it has turned, whatever came of it."""
    _stopping: bool = field(default=False, init=False)

    async def run(self) -> None:
        """Turn until stopped; a failed turn is logged and tried again, because its transaction left nothing behind."""
        while not self._stopping:
            self.wake.clear()
            try:
                handled = await self.turn()
            except Exception:
                _log.exception("loop turn failed", loop=self.name)
                self.turned.set()
                await self.clock.wait(self.wake, _FAILURE_PAUSE_SECONDS)
                continue
            self.turned.set()
            if handled <= self.few and not self._stopping:
                await self.clock.wait(self.wake, self.idle_seconds)
            await asyncio.sleep(0)  # a turn may have waited for nothing, and what else is due comes before the next one

    def stop(self) -> None:
        """End the loop after the turn under way."""
        self._stopping = True
        self.wake.set()
