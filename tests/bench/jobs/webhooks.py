"""The real dispatcher against a receiver next door: how fast, for how much CPU, and how soon after the commit."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from core import collector, ids, logging_setup
from core.clock import SystemClock
from core.delivery.dispatcher import Dispatcher
from core.delivery.http import WebhookSender
from core.domain.effects import Emit
from core.domain.webhooks import signing
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.classify import Outcome
from core.loop import Loop
from core.store import migrate, postgresql
from core.store.database import Database
from core.store.metadata import from_micros
from core.store.organizations.organizations import organizations
from core.store.transaction import EVERY_ORGANIZATION
from core.store.webhooks import deliveries, endpoints
from core.store.webhooks.deliveries import Emission
from tests.bench.child import tell
from tests.bench.jobs.engine import percentile
from tests.bench.jobs.receiving import receiving
from tests.certificates import certificate

_ORG = "org_bench"
_BATCH = 500
_DATA = {"contact_id": "cnt_bench", "note": "x" * 850}
"""With the rest of the message, about a kilobyte."""

_DEAD_DNS_SECONDS = 4.0
_OPENING = 1000
"""Deliveries that open connections before any is measured; no more than are measured."""

_ANY_PENDING = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE org_id = $1 AND state = 'pending')"
_FIRST_ATTEMPTS = (
    "SELECT d.message_id, d.endpoint_id, a.started_at FROM delivery_attempts a "
    "JOIN deliveries d ON d.org_id = a.org_id AND d.id = a.delivery_id AND d.day = a.day "
    "WHERE a.org_id = $1 AND a.number = 1"
)


async def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Measure what `what` names: `bare`, `throughput` or `latency`."""
    logging_setup.configure("critical")
    folder = Path(spec["folder"])
    files = [str(path) for path in certificate(folder)] if spec["tls"] else []
    context = ssl.create_default_context(cafile=files[0]) if files else None
    async with receiving(*files) as port:
        base = f"{'https' if files else 'http'}://127.0.0.1:{port}"
        if spec["what"] == "bare":
            return await _bare(base, context, spec["concurrency"], spec["seconds"])
        async with _sending(spec["url"], context) as (database, dispatcher, made):
            if spec["what"] == "throughput":
                return await _throughput(database, dispatcher, made, base, spec["count"], spec["endpoints"])
            return await _latency(database, dispatcher, base, spec)


class _Resolver(AbstractResolver):
    """Resolves nothing, after as long as an unreachable name server takes to be given up."""

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[ResolveResult]:
        await asyncio.sleep(_DEAD_DNS_SECONDS)
        raise OSError("no name server answers")

    async def close(self) -> None:
        return


@dataclass(slots=True)
class _Made:
    """How many attempts have been made, so that nobody has to ask the database while they are."""

    count: int = 0
    _awaited: int = 0
    _all: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, _outcome: Outcome, _duration: timedelta) -> None:
        """Count one, as the dispatcher tells it."""
        self.count += 1
        if self.count == self._awaited:
            self._all.set()

    async def reach(self, count: int) -> None:
        """Return when so many have been made."""
        self._awaited = count
        self._all.clear()
        if self.count < count:
            await self._all.wait()


@asynccontextmanager
async def _sending(url: str, context: ssl.SSLContext | None) -> AsyncIterator[tuple[Database, Dispatcher, _Made]]:
    clock = SystemClock()
    database = await Database.open(url, clock)
    await migrate.upgrade(database)
    sender = WebhookSender(Destinations.of(["127.0.0.0/8"]), resolver=_Resolver(), ssl_context=context)
    made = _Made()
    dispatcher = Dispatcher(database, sender, clock, on_attempt=made.note)
    async with database.system() as tx:
        row = {"org_id": _ORG, "display_name": "Bench", "timezone": "UTC", "created_at": tx.now}
        await tx.insert(organizations, [row], on_conflict="ignore")
        await postgresql.ensure_partitions(tx, tx.now)
    collector.look_less()
    try:
        yield database, dispatcher, made
    finally:
        await dispatcher.stop(0)
        await sender.close()
        await database.close()


@asynccontextmanager
async def _running(database: Database, dispatcher: Dispatcher) -> AsyncIterator[None]:
    loop = Loop("dispatcher", dispatcher.turn, dispatcher.wake, database.clock)
    task = asyncio.create_task(loop.run())
    try:
        yield
    finally:
        loop.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _endpoints(database: Database, urls: Sequence[str]) -> list[str]:
    made = []
    async with database.write(_ORG) as tx:
        for url in urls:
            made.append(ids.mint("ep", tx.now))
            secret = signing.secret_from(ids.new_secret_bytes())
            await endpoints.create(tx, made[-1], secret=secret, url=url)
    return made


async def _emit(database: Database, receivers: Sequence[str]) -> tuple[list[str], datetime]:
    """Emit a message for each of these endpoints; return the messages and when they were committed."""
    async with database.write(_ORG) as tx:
        messages = [ids.mint("msg", tx.now) for _ in receivers]
        emissions = [
            Emission(_ORG, Emit(message, "bench.happened", _DATA, endpoint_id=receiver))
            for message, receiver in zip(messages, receivers, strict=True)
        ]
        await deliveries.emit(tx, emissions)
    return messages, database.clock.now()


async def _throughput(
    database: Database, dispatcher: Dispatcher, made: _Made, base: str, count: int, endpoint_count: int
) -> dict[str, Any]:
    """Send `count` messages that are due when it begins, over connections that are open: the bare loop's are, too."""
    there = await _endpoints(database, [f"{base}/{number}" for number in range(endpoint_count)])
    opening = min(count, _OPENING)
    await _due(database, there, opening)
    async with _running(database, dispatcher):
        await _all_sent(database, made, opening)
    await _due(database, there, count)
    cpu, start = time.process_time(), time.perf_counter()
    async with _running(database, dispatcher):
        await _all_sent(database, made, opening + count)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"per_second": count / seconds, "per_cpu_second": count / cpu}


async def _due(database: Database, there: Sequence[str], count: int) -> None:
    for first in range(0, count, _BATCH):
        await _emit(database, [there[n % len(there)] for n in range(first, min(first + _BATCH, count))])
        tell(done=first, total=2 * count)


async def _all_sent(database: Database, made: _Made, count: int) -> None:
    """Return when so many attempts have been made and nothing is pending any more."""
    await made.reach(count)
    while await _any_pending(database):  # noqa: ASYNC110 -- what is measured shall not have to tell
        await asyncio.sleep(0.02)


async def _any_pending(database: Database) -> bool:
    async with database.read(EVERY_ORGANIZATION) as tx:
        return bool((await tx.fetch(_ANY_PENDING, _ORG))[0][0])


async def _bare(base: str, context: ssl.SSLContext | None, concurrency: int, seconds: float) -> dict[str, Any]:
    """POST as fast as aiohttp can, from so many tasks, and do nothing else."""
    body = b"x" * 1000
    done = 0
    connector = aiohttp.TCPConnector(limit=0, ssl=True if context is None else context)
    async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:

        async def repeat(until: float) -> None:
            nonlocal done
            while time.perf_counter() < until:
                headers = {"content-type": "application/json"}
                async with session.post(base + "/", data=body, headers=headers) as response:
                    await response.read()
                done += 1

        await asyncio.gather(*(repeat(time.perf_counter() + 0.2) for _ in range(concurrency)))  # opens connections
        done, cpu, start = 0, time.process_time(), time.perf_counter()
        await asyncio.gather(*(repeat(start + seconds) for _ in range(concurrency)))
        spent, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"per_second": done / spent, "per_cpu_second": done / cpu}


async def _latency(database: Database, dispatcher: Dispatcher, base: str, spec: dict[str, Any]) -> dict[str, Any]:
    """Emit at a pace of `rate` messages a second for `seconds` to `endpoints` of which a share is `bad` in three ways.

    Tells how long after their commit first attempts to healthy ones began.
    """
    each = round(spec["endpoints"] * spec["bad"])
    bad = [f"{base}/hang"] * each + [f"{base}/fail"] * each + [f"http://dead{n}.example/" for n in range(each)]
    well = await _endpoints(database, [f"{base}/{number}" for number in range(spec["endpoints"] - len(bad))])
    everybody = well + await _endpoints(database, bad)
    committed: dict[str, datetime] = {}
    async with _running(database, dispatcher):
        start, sent, total = time.perf_counter(), 0, round(spec["rate"] * spec["seconds"])
        while sent < total:
            due = min(round((time.perf_counter() - start) * spec["rate"]) - sent, total - sent)
            if due > 0:
                messages, at = await _emit(database, [everybody[(sent + n) % len(everybody)] for n in range(due)])
                committed |= dict.fromkeys(messages, at)
                sent += due
                tell(done=sent, total=total)
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.5)
    async with database.read(EVERY_ORGANIZATION) as tx:
        rows = await tx.fetch(_FIRST_ATTEMPTS, _ORG)
    healthy = set(well)
    waits = [
        max((from_micros(at) - committed[message]).total_seconds(), 0.0)
        for message, endpoint, at in rows
        if endpoint in healthy
    ]
    expected = sum(everybody[n % len(everybody)] in healthy for n in range(total))
    return {
        "count": len(waits),
        "missing": expected - len(waits),
        "p50": percentile(waits, 50),
        "p99": percentile(waits, 99),
    }
