"""The one clock: everything that asks for the time is handed one of these."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the time and waits for it."""

    def now(self) -> datetime:
        """Return the present instant in UTC."""
        ...

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set, or after so many seconds."""
        ...


class SystemClock:
    """The clock of the machine."""

    def now(self) -> datetime:
        """Return the present instant in UTC."""
        return datetime.now(UTC)

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set, or after so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):  # unlike wait_for, needs no task: who is woken goes on at once
                await event.wait()


class ManualClock:
    """A clock turned by hand, for tests and simulation; waiting on it waits for the event alone."""

    def __init__(self, start: datetime):
        self._now = start

    def now(self) -> datetime:
        """Return the instant it was last turned to."""
        return self._now

    def advance(self, by: timedelta) -> datetime:
        """Turn it on and return the new instant."""
        self._now += by
        return self._now

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        """Return when the event is set; time passes only by hand."""
        await event.wait()
