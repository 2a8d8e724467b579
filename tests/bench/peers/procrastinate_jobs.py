"""Procrastinate: one worker with 32 jobs at a time; each job leaves its events, which Procrastinate writes itself.

Modes: `empty` does nothing in a job; `row` writes one history row in it, as a durable step would have to.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from datetime import UTC, datetime, timedelta

import procrastinate
import psycopg
import psycopg_pool
import uvloop
from telling import PAYLOAD, arguments, tell

CONCURRENCY = 32
DEFER_AT_ONCE = 1_000
SLEEPERS_AT_ONCE = 50_000
CLONE = (
    "INSERT INTO procrastinate_jobs (queue_name, task_name, priority, args, status, scheduled_at) "
    "SELECT queue_name, task_name, priority, args, status, scheduled_at FROM procrastinate_jobs, "
    "generate_series(1, {count}) WHERE id = (SELECT max(id) FROM procrastinate_jobs)"
)


async def main() -> None:
    given = arguments()
    connector = procrastinate.PsycopgConnector(conninfo=given.url, min_size=8, max_size=16)
    app = procrastinate.App(connector=connector)
    finished = 0
    over = asyncio.Event()
    pool = psycopg_pool.AsyncConnectionPool(given.url, min_size=8, max_size=8, open=False, kwargs={"autocommit": True})

    @app.task(name="step")
    async def step(payload: str) -> None:
        nonlocal finished
        if given.mode == "row":
            async with pool.connection() as connection:
                await connection.execute("INSERT INTO history (payload) VALUES (%s)", (payload,))
        finished += 1
        if finished >= given.jobs:
            over.set()

    async with app.open_async(), pool:
        await app.schema_manager.apply_schema_async()
        await run_sql(given.url, "CREATE TABLE history (id bigserial PRIMARY KEY, payload text NOT NULL)")
        await sleep_in(given.url, step, given.sleepers)
        for start in range(0, given.jobs, DEFER_AT_ONCE):
            count = min(DEFER_AT_ONCE, given.jobs - start)
            await step.batch_defer_async(*[{"payload": PAYLOAD}] * count)
            tell(done=start, total=given.jobs)
        await run_sql(given.url, "VACUUM ANALYZE")
        start_at = time.perf_counter()
        worker = asyncio.create_task(
            app.run_worker_async(concurrency=CONCURRENCY, install_signal_handlers=False, shutdown_graceful_timeout=10)
        )
        while not over.is_set() and (left := given.seconds - (time.perf_counter() - start_at)) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), min(0.2, left))
            tell(done=finished, total=given.jobs)
        counted, spent = finished, time.perf_counter() - start_at
        worker.cancel()
        await asyncio.gather(worker, return_exceptions=True)
        tell(result={"per_second": counted / spent, "jobs": counted})


async def sleep_in(url: str, step: procrastinate.tasks.Task, sleepers: int) -> None:
    """Put jobs into the table that are due in a month."""
    if not sleepers:
        return
    await step.configure(schedule_at=datetime.now(UTC) + timedelta(days=30)).defer_async(payload=PAYLOAD)
    for start in range(0, sleepers, SLEEPERS_AT_ONCE):
        count = min(SLEEPERS_AT_ONCE, sleepers - start)
        quiet = "SET session_replication_role = replica"  # no trigger wakes anybody
        await run_sql(url, quiet, CLONE.format(count=count))
        tell(done=start + count, total=sleepers)


async def run_sql(url: str, *statements: str) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for statement in statements:
            await connection.execute(statement)  # type: ignore[arg-type]


if __name__ == "__main__":
    uvloop.run(main())
