"""A measured process: does the one job its argument names, in JSON, and tells how it goes in JSON lines."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any

import uvloop

from core import collector

JOBS = {
    "floors": "tests.bench.jobs.floors",
    "populate": "tests.bench.jobs.populate",
    "clone": "tests.bench.jobs.clone",
    "drain": "tests.bench.jobs.drain",
    "events": "tests.bench.jobs.events",
    "fairness": "tests.bench.jobs.fairness",
    "calls": "tests.bench.jobs.calls",
    "mcp": "tests.bench.jobs.mcp",
    "leads": "tests.bench.jobs.leads",
    "simulation": "tests.bench.jobs.simulation",
    "webhooks": "tests.bench.jobs.webhooks",
}
"""Name to module; each has `async def run(spec) -> dict`. Imported late: start-up is measured too."""


def tell(**what: Any) -> None:
    """Tell the process that started this one: `done` and `total` move its progress bar, `ready` awaits its word."""
    print(json.dumps(what), flush=True)


async def told_to_go() -> None:
    """Say that all is ready and wait until every process of this measurement is."""
    tell(ready=True)
    await asyncio.to_thread(sys.stdin.readline)


def main() -> None:
    """Do the job and tell the result."""
    spec = json.loads(sys.argv[1])
    with collector.resting():  # as in every process that serves
        job = importlib.import_module(JOBS[spec["job"]])
    tell(result=uvloop.run(job.run(spec)))


if __name__ == "__main__":
    main()
