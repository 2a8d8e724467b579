"""The loop that carries replays on: makes their deliveries due, each replay at its own rate."""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog

from core.clock import Clock
from core.store.database import Database
from core.store.webhooks import replays

_SHORTEST_WAIT_SECONDS = 0.1
"""A fast replay is carried on in small batches, not row by row."""

_log = structlog.get_logger()


class Replayer:
    """Advances every running replay that is due; any number of processes may do so at once."""

    def __init__(self, database: Database, clock: Clock):
        self._database = database
        self._clock = clock
        self._timer: asyncio.TimerHandle | None = None
        self.wake = database.wakeups.event("replayer")
        """Set when a replay was begun or steered, and when the next one is due."""

    async def turn(self) -> int:
        """Make due what the rates allow now; return how many deliveries that were."""
        now = self._clock.now()
        async with self._database.system() as tx:
            running = await replays.running(tx)
        made = sum([await self._advance(row.org_id, row.id) for row in running if row.next_at <= now])
        if not made:
            self._look_again(now, [row.next_at for row in running if row.next_at > now])
        return made

    async def drain(self) -> int:
        """Turn until nothing more is due now; return how many deliveries were made due."""
        total = 0
        while made := await self.turn():
            total += made
        return total

    async def _advance(self, org_id: str, replay_id: str) -> int:
        """Advance one replay in a transaction of its own: what is wrong with it stops no other."""
        try:
            async with self._database.system() as tx:
                return await replays.advance(tx, org_id, replay_id)
        except Exception:
            _log.exception("a replay could not be carried on", replay=replay_id)
            return 0

    def _look_again(self, now: datetime, following: list[datetime]) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if following:
            wait = max((min(following) - now).total_seconds(), _SHORTEST_WAIT_SECONDS)
            self._timer = asyncio.get_running_loop().call_later(wait, self.wake.set)
