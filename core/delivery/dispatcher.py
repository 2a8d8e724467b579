"""The dispatcher: claims due deliveries, sends them outside any transaction, and records what became of them.

The rolling pool is `core/delivery/pool.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from functools import partial

from core import ids
from core.clock import Clock
from core.delivery.attempt import completion, send_signed
from core.delivery.http import WebhookSender
from core.delivery.pool import Pool
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

_RECENT_DAYS = 5
"""Partitions of a busy turn on PostgreSQL: the longest schedule and a day. Older ones hold only what was parked."""

_LOOKS_BACK_EVERY = 16
"""Every so many turns, and whenever nothing recent is due, all partitions are looked at."""


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
        self._database = database
        self._sender = sender
        self._clock = clock
        self._on_final = on_final
        self._on_attempt = on_attempt
        self._lease = lease
        self._turns = int(ids.jitter() * 1024)  # several processes begin at different organizations
        self.wake = database.wakeups.event("dispatcher")
        """Set when there may be something to claim or to record."""
        self._pool = Pool(
            "delivery",
            self.wake,
            concurrency,
            claim=self._claim,
            attempt=self._attempt,
            record=self._record,
            release=self._release,
        )

    async def turn(self) -> int:
        """Record what has finished and claim for the free places; return how many deliveries were touched."""
        return await self._pool.turn()

    async def drain(self) -> int:
        """Turn until nothing is due now and nothing is under way; return how many deliveries were touched."""
        return await self._pool.drain()

    async def recover(self) -> int:
        """Give back every lease of a process that died; only right while no other process sends, as on SQLite."""
        async with self._database.system() as tx:
            return await outbox.release_all(tx)

    async def stop(self, grace_seconds: float) -> None:
        """Claim no more, wait so long for what is under way, record it, and give the rest back."""
        await self._pool.stop(grace_seconds)

    async def _claim(self, free: int) -> list[ClaimedDelivery]:
        self._turns += 1
        busy = Counter((delivery.org_id, delivery.endpoint_id) for delivery in self._pool.flying)
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

    async def _attempt(self, delivery: ClaimedDelivery) -> Completion:
        started_at = self._clock.now()
        result = await send_signed(
            self._sender, delivery.url, delivery.keys, delivery.message_id, delivery.payload, started_at
        )
        self._on_attempt(result.outcome, result.duration)
        return completion(delivery, started_at, result, self._clock.now())

    async def _record(self, batch: Sequence[Completion]) -> None:
        async with self._database.system() as tx:
            await record(tx, batch, self._on_final)

    async def _release(self, abandoned: Collection[ClaimedDelivery]) -> None:
        if abandoned:
            async with self._database.system() as tx:
                await outbox.release(tx, abandoned)
