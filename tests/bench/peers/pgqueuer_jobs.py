"""PgQueuer: one worker, 256 jobs a batch; each job is logged by PgQueuer itself.

Modes: `empty` does nothing in a job; `row` writes one history row in it, as a durable step would have to.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import timedelta

import asyncpg
import uvloop
from pgqueuer import PgQueuer
from pgqueuer.models import Job
from telling import PAYLOAD, arguments, tell

BATCH = 256
ENQUEUE_AT_ONCE = 1_000
SLEEPERS_AT_ONCE = 50_000
CLONE = (
    "INSERT INTO pgqueuer ({columns}) SELECT {columns} FROM pgqueuer, generate_series(1, {count}) "
    "WHERE execute_after > now() + interval '1 day' AND id = (SELECT max(id) FROM pgqueuer)"
)


async def main() -> None:
    given = arguments()
    async with asyncpg.create_pool(given.url, min_size=8, max_size=8) as pool:
        queuer = PgQueuer.from_asyncpg_pool(pool)
        await queuer.qm.queries.install()
        await pool.execute(
            "CREATE TABLE history (id bigserial PRIMARY KEY, job bigint NOT NULL, payload text NOT NULL)"
        )
        await sleep_in(pool, queuer, given.sleepers)
        for start in range(0, given.jobs, ENQUEUE_AT_ONCE):
            count = min(ENQUEUE_AT_ONCE, given.jobs - start)
            await queuer.qm.queries.enqueue(["step"] * count, [PAYLOAD.encode()] * count, [0] * count)
            tell(done=start, total=given.jobs)
        await pool.execute("VACUUM ANALYZE")
        finished = 0

        @queuer.entrypoint("step")
        async def step(job: Job) -> None:
            nonlocal finished
            if given.mode == "row":
                await pool.execute("INSERT INTO history (job, payload) VALUES ($1, $2)", job.id, PAYLOAD)
            finished += 1
            if finished >= given.jobs:
                queuer.shutdown.set()

        start_at = time.perf_counter()

        async def watch() -> None:
            while time.perf_counter() - start_at < given.seconds:
                await asyncio.sleep(0.2)
                tell(done=finished, total=given.jobs)
            queuer.shutdown.set()

        watching = asyncio.create_task(watch())
        with contextlib.suppress(asyncio.CancelledError):
            await queuer.qm.run(batch_size=BATCH, dequeue_timeout=timedelta(seconds=1))
        spent = time.perf_counter() - start_at  # every log row is written by now
        watching.cancel()
        tell(result={"per_second": finished / spent, "jobs": finished})


async def sleep_in(pool: asyncpg.Pool, queuer: PgQueuer, sleepers: int) -> None:
    """Put jobs into the table that are due in a month."""
    if not sleepers:
        return
    await queuer.qm.queries.enqueue("step", PAYLOAD.encode(), 0, timedelta(days=30))
    rows = await pool.fetch(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'pgqueuer' "
        "AND column_name <> 'id' AND is_generated = 'NEVER'"
    )
    columns = ", ".join(row["column_name"] for row in rows)
    for start in range(0, sleepers, SLEEPERS_AT_ONCE):
        count = min(SLEEPERS_AT_ONCE, sleepers - start)
        await without_triggers(pool, CLONE.format(columns=columns, count=count))
        tell(done=start + count, total=sleepers)


async def without_triggers(pool: asyncpg.Pool, statement: str) -> None:
    """Run a statement that wakes nobody."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(statement)


if __name__ == "__main__":
    uvloop.run(main())
