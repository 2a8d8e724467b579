"""The dispatcher: claims due deliveries, sends them outside any transaction, and records what became of them.

The rolling pool is `core/delivery/pool.py`; what may be claimed is decided in `core/store/webhooks/delivery_claims.py`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from core import ids
from core.clock import Clock
from core.delivery import attempt, probing
from core.delivery.attempt import Attempts
from core.delivery.http import WebhookSender
from core.delivery.pool import Pool
from core.delivery.record import drop_waiting, record, skip_waiting
from core.domain.webhooks import faults
from core.domain.webhooks.classify import Outcome
from core.domain.webhooks.faults import ResolverWatch
from core.domain.webhooks.states import DeliveryState
from core.store.database import Database
from core.store.metadata import day_of
from core.store.systems.vault import UNSEALED, Vault
from core.store.transaction import Transaction
from core.store.webhooks import delivery_claims, endpoint_health, outbox
from core.store.webhooks.deliveries import FinalDelivery
from core.store.webhooks.delivery_claims import LeftOver
from core.store.webhooks.outbox import ClaimedDelivery, Completion, EndpointKey

OnFinal = Callable[[Transaction, list[FinalDelivery]], Awaitable[None]]
"""Told, in the transaction that records it, which awaited messages got their final outcome."""

OnAttempt = Callable[[Outcome, timedelta], None]
"""Told how each attempt ended and how long it took, for metrics."""

LEASE = timedelta(seconds=45)
"""Longer than the deadline of an attempt, so that only a dead process loses one."""

CONCURRENCY = 256
SLOW_CONCURRENCY = 512
"""Attempts that have taken longer than a second wait beside the others: receivers that hang hold up nobody."""

LOOKS_AFTER_EVERY = timedelta(seconds=5)
"""How often endpoints are looked after that are disabled."""

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
        vault: Vault = UNSEALED,
        on_final: OnFinal = _nobody,
        on_attempt: OnAttempt = _unmeasured,
        concurrency: int = CONCURRENCY,
        lease: timedelta = LEASE,
    ):
        self._database = database
        self._attempts = Attempts(sender, vault)
        self._clock = clock
        self._on_final = on_final
        self._on_attempt = on_attempt
        self._lease = lease
        self._turns = int(ids.jitter() * 1024)  # several processes begin at different organizations
        self._resolver = ResolverWatch()
        self._looks_after_at: datetime | None = None
        self._alarm: asyncio.TimerHandle | None = None
        self._insist: EndpointKey | None = None
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
            slow_places=SLOW_CONCURRENCY if concurrency > 1 else 0,
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
        if self._alarm is not None:
            self._alarm.cancel()
        await self._pool.stop(grace_seconds)

    async def _claim(self, free: int) -> list[ClaimedDelivery]:
        self._turns += 1
        probes = await self._look_after_disabled(free)
        busy = Counter(delivery.endpoint_key for delivery in self._pool.flying)
        left = LeftOver(self._insist)
        async with self._database.system() as tx:
            claim = partial(
                delivery_claims.claim,
                tx,
                limit=free - len(probes),
                lease=self._lease,
                token=ids.mint("lse", tx.now),
                busy=busy,
                offset=self._turns,
                left=left,
            )
            recent = day_of(tx.now) - _RECENT_DAYS
            if self._database.is_postgresql and self._turns % _LOOKS_BACK_EVERY:
                claimed = await claim(since_day=recent) or await claim()
            else:
                claimed = await claim()
        self._insist = left.skipped
        self._wake_at(left.look_again_at)
        await self._clear_up(left.gone)
        return probes + claimed

    async def _clear_up(self, gone: Collection[EndpointKey]) -> None:
        """Drop what waits for endpoints that were deleted, a slice of each."""
        for key in gone:
            async with self._database.system() as tx:
                if await drop_waiting(tx, key, self._on_final) == endpoint_health.ENDED_AT_ONCE:
                    self.wake.set()  # there is more of it

    def _wake_at(self, at: datetime | None) -> None:
        """Turn again at this instant: an endpoint's rate allows more by then."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if at is not None:
            seconds = max((at - self._clock.now()).total_seconds(), 0.0)
            self._alarm = asyncio.get_running_loop().call_later(seconds, self.wake.set)

    async def _look_after_disabled(self, free: int) -> list[ClaimedDelivery]:
        """Return the probes of disabled endpoints that are due, and skip what came in for such endpoints meanwhile."""
        now = self._clock.now()
        if self._looks_after_at is not None and now < self._looks_after_at:
            return []
        self._looks_after_at = now + LOOKS_AFTER_EVERY
        async with self._database.system() as tx:
            waited_for = await endpoint_health.still_waited_for(tx)
            probes = [probing.probe(row, tx.now) for row in await endpoint_health.to_probe(tx)]
        for key in waited_for:
            async with self._database.system() as tx:
                if await skip_waiting(tx, key, self._on_final) == endpoint_health.ENDED_AT_ONCE:
                    self._looks_after_at = None  # there is more of it
        return probes[:free]

    async def _attempt(self, delivery: ClaimedDelivery) -> Completion:
        started_at = self._clock.now()
        result = await self._attempts.send(delivery, started_at)
        self._on_attempt(result.outcome, result.duration)
        now = self._clock.now()
        return self._judged(attempt.completion(delivery, started_at, result, now), now)

    def _judged(self, completion: Completion, now: datetime) -> Completion:
        """Return what an attempt leads to once it is known whose fault it was."""
        delivery, outcome = completion.delivery, completion.ruling.outcome
        self._resolver.saw(delivery.url, outcome, now)
        wait = faults.wait_of(outcome, delivery.created_at, now, resolver_is_out=self._resolver.is_out(now))
        if wait is None:
            return completion
        return replace(completion, state=DeliveryState.PENDING, due_at=now + wait, our_fault=wait)

    async def _record(self, batch: Sequence[Completion]) -> None:
        async with self._database.system() as tx:
            await record(tx, batch, self._on_final)

    async def _release(self, abandoned: Collection[ClaimedDelivery]) -> None:
        if abandoned:
            async with self._database.system() as tx:
                await outbox.release(tx, abandoned)
