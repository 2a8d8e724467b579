"""Moves enrollments that are due, batch by batch, as the engine's loop does, and tells what it took."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from core.bootstrap import Core
from core.clock import ManualClock
from core.store.metadata import from_micros
from core.store.transaction import EVERY_ORGANIZATION
from tests.bench.child import tell, told_to_go
from tests.bench.jobs.engine import engine, lags, lags_during, log_position, percentile, resident_bytes, row_writes

_IDLE_SECONDS = 0.3
_MODELS = 3
"""Enrollments that the movers are copies of, and that are moved with them."""


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Turn the ticker at the instant `now` for at most `seconds`, or `until` the first batch is committed.

    As many `turns` go on at once as in a process that serves, unless it is said.
    """
    opening = time.monotonic()
    async with engine(spec["url"], spec["folder"], ManualClock(from_micros(spec["now"]))) as core:
        if spec.get("until") == "first":
            moved = await core.ticker.turn()
            return {"moved": moved, "opening": opening, "first": time.monotonic(), "rss": resident_bytes()}
        await _only_movers_are_due(core, spec["now"], spec["total"])
        rows, position = await row_writes(core), await log_position(core)
        idle = await lags_during(asyncio.sleep(_IDLE_SECONDS)) if spec.get("lag") else []
        await told_to_go()
        cpu, started = time.process_time(), time.monotonic()
        turns = spec.get("turns") or core.ticker.at_once
        drain = asyncio.create_task(_drain(core, turns, started + spec["seconds"], spec["total"]))
        late = await lags(drain.done) if spec.get("lag") else []
        moved = await drain
        ended, cpu = time.monotonic(), time.process_time() - cpu
        result = {"moved": moved, "started": started, "ended": ended, "cpu": cpu, "rss": resident_bytes()}
        if spec.get("lag"):
            result |= {"lag": percentile(late, 99), "idle_lag": percentile(idle, 99)}
        return result | {"wal": await log_position(core) - position, "rows": await row_writes(core) - rows}


async def _only_movers_are_due(core: Core, now: int, movers: int) -> None:
    """Refuse to measure with sleepers that are awake. Raises AssertionError."""
    async with core.database.read(EVERY_ORGANIZATION) as tx:
        rows = await tx.fetch("SELECT count(*) FROM enrollments e WHERE e.due_at <= $1", now)
    due = int(rows[0][0])
    if not movers // 2 <= due <= movers + _MODELS:
        raise AssertionError(f"{due:,} are due, but there are {movers:,} movers")


async def _drain(core: Core, at_once: int, deadline: float, total: int) -> int:
    moved = 0

    async def turns() -> None:
        nonlocal moved
        while time.monotonic() < deadline and (batch := await core.ticker.turn()):
            moved += batch
            tell(done=moved, total=total)

    await asyncio.gather(*(turns() for _ in range(at_once)))
    return moved
