"""The real engine in a measured process: a core without servers, on a clock that stands where the run puts it."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path

from core import collector, logging_setup
from core.bootstrap import Core
from core.clock import Clock, SystemClock
from core.settings import Settings
from core.store.transaction import EVERY_ORGANIZATION


class ShiftedClock(SystemClock):
    """The clock of the machine, running from another instant."""

    def __init__(self, start: datetime):
        self._shift = start - super().now()

    def now(self) -> datetime:
        """Return the shifted instant."""
        return super().now() + self._shift

    def advance(self, by: timedelta) -> None:
        """Leap ahead."""
        self._shift += by


@asynccontextmanager
async def engine(url: str, folder: str, clock: Clock) -> AsyncIterator[Core]:
    """Open a core whose only role is the engine; nothing runs until it is started or its ticker turned."""
    logging_setup.configure("error")
    settings = Settings(database_url=url, data_dir=Path(folder), roles=frozenset({"engine"}), drain_seconds=5)
    core = await Core.open(settings, clock)
    collector.look_less()  # as every process does that serves
    try:
        yield core
    finally:
        await core.stop()


async def row_writes(core: Core) -> int:
    """Return how many rows this database has inserted, updated and deleted; on SQLite, this process."""
    database = core.database
    if not database.is_postgresql:
        async with database.system() as tx:
            return int((await tx.driver()).total_changes)
    await database.workers.close_free()  # a session hands in its counts at the latest when it ends
    await asyncio.sleep(0.1)
    async with database.read(EVERY_ORGANIZATION) as tx:
        rows = await tx.fetch("SELECT sum(n_tup_ins + n_tup_upd + n_tup_del) FROM pg_stat_user_tables")
    return int(rows[0][0] or 0)


async def log_position(core: Core) -> int:
    """Return how many bytes of write-ahead log PostgreSQL has written; 0 on SQLite."""
    if not core.database.is_postgresql:
        return 0
    async with core.database.read(EVERY_ORGANIZATION) as tx:
        rows = await tx.fetch("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint")
    return int(rows[0][0])


def resident_bytes() -> int:
    """Return the memory that this process holds now; where that is not told, the most it ever held."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


async def lags(until: Callable[[], bool]) -> list[float]:
    """Return by how many seconds the loop was late, every millisecond until told to end."""
    late = []
    while not until():
        before = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append(max(0.0, time.perf_counter() - before - 0.001))
    return late


async def lags_during(work: Awaitable[object]) -> list[float]:
    """Return by how many seconds the loop was late while something was done."""
    task = asyncio.ensure_future(work)
    late = await lags(task.done)
    await task
    return late


def percentile(samples: Sequence[float], percent: int) -> float:
    """Return a percentile of samples; of a single one, itself."""
    if len(samples) < 2:
        return samples[0] if samples else 0.0
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]
