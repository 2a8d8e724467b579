"""The dispatcher: claims due deliveries, sends them outside any transaction, and records what became of them.

Sending is a rolling pool: a turn claims for the free places only and records whatever has finished, so a slow receiver
holds its own place and nobody else's.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from functools import partial

import structlog

from core import ids
from core.clock import Clock
from core.delivery.attempt import completion, send_signed
from core.delivery.http import WebhookSender
from core.delivery.record import record
from core.domain.webhooks.classify import Outcome
from core.store import outbox
from core.store.database import Database
from core.store.deliveries import FinalDelivery
from core.store.metadata import day_of
from core.store.outbox import ClaimedDelivery, Completion
from core.store.transaction import Transaction

OnFinal = Callable[[Transaction, list[FinalDelivery]], Awaitable[None]]
"""Told, in the transaction that records it, which awaited messages got their final outcome."""

OnAttempt = Callable[[Outcome, timedelta], None]
"""Told how each attempt ended and how long it took, for metrics."""

LEASE = timedelta(seconds=45)
"""Longer than the deadline of an attempt, so that only a dead process loses one."""

CONCURRENCY = 64
_RECORDED_AT_ONCE = 64

_RECENT_DAYS = 5
"""Partitions of a busy turn on PostgreSQL: the longest schedule and a day. Older ones hold only what was parked."""

_LOOKS_BACK_EVERY = 16
"""Every so many turns, and whenever nothing recent is due, all partitions are looked at."""

_log = structlog.get_logger()


def _unmeasured(_outcome: Outcome, _duration: timedelta) -> None:
    return


async def _nobody(_tx: Transaction, _finals: list[FinalDelivery]) -> None:
    return


class Dispatcher:
    """The loop that carries the outbox out."""

    def __init__(
        self,
        database: Database,
        sender: WebhookSender,
        clock: Clock,
        *,
        on_final: OnFinal = _nobody,
        on_attempt: OnAttempt = _unmeasured,
        concurrency: int = CONCURRENCY,
        lease: timedelta = LEASE,
    ):
        self.wake = database.wakeups.event("dispatcher")
        """Set when there may be something to claim or to record."""
        self._database = database
        self._sender = sender
        self._clock = clock
        self._on_final = on_final
        self._on_attempt = on_attempt
        self._concurrency = concurrency
        self._lease = lease
        self._flying: dict[asyncio.Task[None], ClaimedDelivery] = {}
        self._finished: list[Completion] = []
        self._turns = int(ids.jitter() * 1024)  # several processes begin at different organizations
        self._stopping = False

    async def turn(self) -> int:
        """Record what has finished and claim for the free places; return how many deliveries were touched."""
        recorded = await self._record_finished()
        claimed = [] if self._stopping else await self._claim()
        for delivery in claimed:
            task = asyncio.create_task(self._attempt(delivery), name=f"delivery {delivery.id}")
            self._flying[task] = delivery
            task.add_done_callback(self._landed)
        return recorded + len(claimed)

    async def drain(self) -> int:
        """Turn until nothing is due now and nothing is under way; return how many deliveries were touched."""
        total = 0
        while (touched := await self.turn()) or self._flying or self._finished:
            total += touched
            if self._flying:
                await asyncio.wait(tuple(self._flying), return_when=asyncio.FIRST_COMPLETED)
        return total

    async def recover(self) -> int:
        """Give back every lease of a process that died; only right while no other process sends, as on SQLite."""
        async with self._database.system() as tx:
            return await outbox.release_all(tx)

    async def stop(self, grace_seconds: float) -> None:
        """Claim no more, wait so long for what is under way, record it, and give the rest back."""
        self._stopping = True
        if self._flying:
            await asyncio.wait(tuple(self._flying), timeout=grace_seconds)
        abandoned = dict(self._flying)
        for task in abandoned:
            task.cancel()
        await asyncio.gather(*abandoned, return_exceptions=True)
        while await self._record_finished():
            pass
        async with self._database.system() as tx:
            await outbox.release(tx, abandoned.values())

    async def _claim(self) -> list[ClaimedDelivery]:
        free = self._concurrency - len(self._flying) - len(self._finished)
        if free <= 0:
            return []
        self._turns += 1
        busy = Counter((delivery.org_id, delivery.endpoint_id) for delivery in self._flying.values())
        async with self._database.system() as tx:
            claim = partial(
                outbox.claim,
                tx,
                limit=free,
                lease=self._lease,
                token=ids.mint("lse", tx.now),
                busy=busy,
                offset=self._turns,
            )
            recent = day_of(tx.now) - _RECENT_DAYS
            if self._database.is_postgresql and self._turns % _LOOKS_BACK_EVERY:
                return await claim(since_day=recent) or await claim()
            return await claim()

    async def _attempt(self, delivery: ClaimedDelivery) -> None:
        started_at = self._clock.now()
        result = await send_signed(
            self._sender, delivery.url, delivery.keys, delivery.message_id, delivery.payload, started_at
        )
        self._on_attempt(result.outcome, result.duration)
        self._finished.append(completion(delivery, started_at, result, self._clock.now()))

    def _landed(self, task: asyncio.Task[None]) -> None:
        delivery = self._flying.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lease runs out and another attempt is made.
            _log.error("attempt broke", delivery=delivery.id, error=repr(error))
        self.wake.set()

    async def _record_finished(self) -> int:
        batch, self._finished = self._finished[:_RECORDED_AT_ONCE], self._finished[_RECORDED_AT_ONCE:]
        if not batch:
            return 0
        try:
            await self._record(batch)
        except Exception:
            _log.exception("recording attempts failed; trying one by one", attempts=len(batch))
            for single in batch:
                await self._record_alone(single)
        return len(batch)

    async def _record_alone(self, single: Completion) -> None:
        try:
            await self._record([single])
        except Exception:
            # Its lease runs out and the delivery is made again under the same id.
            _log.exception("an attempt could not be recorded", delivery=single.delivery.id)

    async def _record(self, batch: Sequence[Completion]) -> None:
        async with self._database.system() as tx:
            await record(tx, batch, self._on_final)
