"""A flood of one organization is moved; now and then a few rows of a small one come due: how long do they wait."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from core.bootstrap import Core
from core.clock import ManualClock
from core.store.metadata import from_micros, to_micros
from core.store.transaction import EVERY_ORGANIZATION
from tests.bench.child import tell
from tests.bench.jobs.engine import engine, percentile

_DUE = "SELECT count(*) FROM enrollments e WHERE e.org_id = $1 AND e.due_at <= $2"
_PAUSE = 0.1
_IDLE_PAUSE = 0.005


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Turn the ticker from the instant `now` while the clock goes on, a second for each group of `org`'s rows."""
    clock = ManualClock(from_micros(spec["now"]))
    async with engine(spec["url"], spec["folder"], clock) as core:
        flood = _Flood(core)
        turning = asyncio.create_task(flood.run())
        waits: list[float] = []
        deadline = time.monotonic() + spec["seconds"]
        await asyncio.sleep(_PAUSE)
        while len(waits) < spec["groups"] and not flood.over and time.monotonic() < deadline:
            clock.advance(timedelta(seconds=1))
            waits.append(await _until_moved(core, spec["org"], clock))
            tell(done=len(waits), total=spec["groups"])
            await asyncio.sleep(_PAUSE)
        flood.stopping = True
        await turning
    return {
        "waits": len(waits),
        "p50": percentile(waits, 50),
        "p99": percentile(waits, 99),
        "most": max(waits, default=0.0),
        "per_second": flood.moved / flood.seconds,
    }


@dataclass(slots=True)
class _Flood:
    """The ticker at work until told to stop, and when it had nothing left for the first time."""

    core: Core
    moved: int = 0
    seconds: float = 0.0
    over: bool = False
    stopping: bool = False

    async def run(self) -> None:
        start = time.monotonic()
        while not self.stopping:
            batch = await self.core.ticker.turn()
            if not self.over:
                self.moved += batch
                self.seconds = time.monotonic() - start
                self.over = batch == 0
            if not batch:
                await asyncio.sleep(_IDLE_PAUSE)


async def _until_moved(core: Core, org: str, clock: ManualClock) -> float:
    committed = core.database.wakeups.event("watch")  # signalled after every commit that moved somebody
    start = time.perf_counter()
    try:
        while True:
            await asyncio.wait_for(committed.wait(), 10)
            now = time.perf_counter()
            committed.clear()
            async with core.database.read(EVERY_ORGANIZATION) as tx:
                if not (await tx.fetch(_DUE, org, to_micros(clock.now())))[0][0]:
                    return now - start
    finally:
        core.database.wakeups.forget("watch", committed)
