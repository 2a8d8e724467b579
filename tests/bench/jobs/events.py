"""Events come in at a steady pace while the engine's loops run: how long until each one's next step is committed."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from core.bootstrap import Core
from core.domain.records.ingestion import IncomingEvent
from core.store.events.ingestion import ingest
from core.store.metadata import from_micros
from core.store.transaction import EVERY_ORGANIZATION
from tests.bench import workload
from tests.bench.child import tell
from tests.bench.jobs.engine import ShiftedClock, engine, percentile

_LONGEST_WAIT = 10.0
_REV = "SELECT e.rev FROM enrollments e WHERE e.org_id = $1 AND e.id = $2"


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Post `count` events, `pace` seconds apart, for at most `seconds`; return percentiles of the time in seconds.

    The engine is idle otherwise, or as busy as what is due at the instant `now` makes it.
    """
    async with engine(spec["url"], spec["folder"], ShiftedClock(from_micros(spec["now"]))) as core:
        await core.join()
        await core.outward.scheduler.turn()
        if not spec["busy"]:
            while moved := await core.ticker.turn():
                tell(note=f"{moved} were due")
        await core.start()
        await asyncio.sleep(0.2)
        taken: list[float] = []
        deadline = time.monotonic() + spec["seconds"]
        for number in range(spec["count"]):
            taken.append(await _one(core, spec, number % spec["listeners"]))
            tell(done=number + 1, total=spec["count"])
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(spec["pace"])
    return {"count": len(taken), "p50": percentile(taken, 50), "p99": percentile(taken, 99), "most": max(taken)}


async def _one(core: Core, spec: dict[str, Any], number: int) -> float:
    """Post one event and return the seconds from its arrival to the commit of the step that it led to."""
    enrollment = workload.copy_of(spec["enrollment"], spec["prefix"], number)
    before = await _rev(core, spec["org"], enrollment)
    event = IncomingEvent(
        event_type="action",
        event_name=workload.EVENT,
        source_id=workload.SOURCE_ID,
        fields={"email": workload.email(spec["prefix"], f"{number:0{workload.COPY_DIGITS}d}")},
    )
    committed = core.database.wakeups.event("watch")  # signalled after every commit that moved somebody
    try:
        start = time.perf_counter()
        async with core.database.write(spec["org"]) as tx:
            (result,) = await ingest(tx, [event], actor="bench")
        assert result.status == "accepted", result
        while True:
            await asyncio.wait_for(committed.wait(), _LONGEST_WAIT)
            now = time.perf_counter()
            committed.clear()
            if await _rev(core, spec["org"], enrollment) > before:
                return now - start
    finally:
        core.database.wakeups.forget("watch", committed)


async def _rev(core: Core, org: str, enrollment: str) -> int:
    async with core.database.read(EVERY_ORGANIZATION) as tx:
        rows = await tx.fetch(_REV, org, enrollment)
    return int(rows[0][0])
