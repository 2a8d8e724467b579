"""The mailer: claims messages that are due, sends e-mail over SMTP, and hands what goes by other channels over.

Like the dispatcher it sends outside any transaction and is a rolling pool: a turn claims for the free places only and
records whatever has finished, so a slow mail server holds its own place and nobody else's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from core import ids
from core.clock import Clock
from core.delivery.mail_outcomes import EndedMessage, OnEnded, record
from core.delivery.smtp import SmtpAnswer, SmtpSender
from core.domain.steps.message import EMAIL
from core.domain.webhooks.retry import Preset, next_attempt
from core.store import outgoing
from core.store.database import Database
from core.store.outgoing import ClaimedMessage, Completion, MessageState
from core.store.transaction import Transaction

LEASE = timedelta(seconds=90)
"""Longer than the deadline of a try, so that only a dead process loses one."""

CONCURRENCY = 16
NO_SERVER = "no SMTP server configured"
HANDED_OVER = "handed over as message.requested"

_RECORDED_AT_ONCE = 64

_log = structlog.get_logger()


async def _nobody(_tx: Transaction, _ended: list[EndedMessage]) -> None:
    return


class Mailer:
    """The loop that carries messages to contacts out."""

    def __init__(
        self,
        database: Database,
        sender: SmtpSender | None,
        clock: Clock,
        *,
        on_ended: OnEnded = _nobody,
        concurrency: int = CONCURRENCY,
        lease: timedelta = LEASE,
    ):
        """Join the parts; without a `sender` every e-mail fails at once and says why."""
        self.wake = database.wakeups.event("mailer")
        """Set when there may be something to claim or to record."""
        self._database = database
        self._sender = sender
        self._clock = clock
        self._on_ended = on_ended
        self._concurrency = concurrency
        self._lease = lease
        self._flying: dict[asyncio.Task[None], ClaimedMessage] = {}
        self._finished: list[Completion] = []
        self._turns = int(ids.jitter() * 1024)  # several processes begin at different organizations
        self._stopping = False

    async def turn(self) -> int:
        """Record what has finished and claim for the free places; return how many messages were touched."""
        recorded = await self._record_finished()
        claimed = [] if self._stopping else await self._claim()
        for message in claimed:
            self._begin(message)
        return recorded + len(claimed) + len(self._finished)

    async def drain(self) -> int:
        """Turn until nothing is due now and nothing is under way; return how many messages were touched."""
        total = 0
        while (touched := await self.turn()) or self._flying or self._finished:
            total += touched
            if self._flying:
                await asyncio.wait(tuple(self._flying), return_when=asyncio.FIRST_COMPLETED)
        return total

    async def recover(self) -> int:
        """Give back every lease of a process that died; only right while no other process sends, as on SQLite."""
        async with self._database.system() as tx:
            return await outgoing.release_all(tx)

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
            await outgoing.release(tx, abandoned.values())

    async def _claim(self) -> list[ClaimedMessage]:
        free = self._concurrency - len(self._flying) - len(self._finished)
        if free <= 0:
            return []
        self._turns += 1
        async with self._database.system() as tx:
            token = ids.mint("lse", tx.now)
            claimed = await outgoing.claim(tx, limit=free, lease=self._lease, token=token, offset=self._turns)
            unwanted = await outgoing.unwanted(tx, claimed)
        self._finished += [
            Completion(message, MessageState.SKIPPED, unwanted[message.id])
            for message in claimed
            if message.id in unwanted
        ]
        return [message for message in claimed if message.id not in unwanted]

    def _begin(self, message: ClaimedMessage) -> None:
        if message.channel != EMAIL:
            self._finished.append(Completion(message, MessageState.SENT, HANDED_OVER))
        elif self._sender is None:
            self._finished.append(Completion(message, MessageState.FAILED, NO_SERVER))
        else:
            task = asyncio.create_task(self._attempt(self._sender, message), name=f"message {message.id}")
            self._flying[task] = message
            task.add_done_callback(self._landed)

    async def _attempt(self, sender: SmtpSender, message: ClaimedMessage) -> None:
        answer = await sender.send(message, self._clock.now())
        self._finished.append(self._completion(message, answer))

    def _completion(self, message: ClaimedMessage, answer: SmtpAnswer) -> Completion:
        match answer.verdict:
            case "sent":
                return Completion(message, MessageState.SENT, answer.outcome)
            case "never":
                return Completion(message, MessageState.FAILED, answer.outcome)
        due_at = next_attempt(Preset.STANDARD, message.attempts + 1, self._clock.now(), ids.jitter())
        state = MessageState.PENDING if due_at is not None else MessageState.FAILED
        return Completion(message, state, answer.outcome, due_at)

    def _landed(self, task: asyncio.Task[None]) -> None:
        message = self._flying.pop(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lease runs out and another try is made.
            _log.error("sending broke", message=message.id, error=repr(error))
        self.wake.set()

    async def _record_finished(self) -> int:
        batch, self._finished = self._finished[:_RECORDED_AT_ONCE], self._finished[_RECORDED_AT_ONCE:]
        if not batch:
            return 0
        try:
            await self._record(batch)
        except Exception:
            _log.exception("recording messages failed; trying one by one", messages=len(batch))
            for single in batch:
                await self._record_alone(single)
        return len(batch)

    async def _record_alone(self, single: Completion) -> None:
        try:
            await self._record([single])
        except Exception:
            # Its lease runs out and the message is sent again under the same id.
            _log.exception("a message could not be recorded", message=single.message.id)

    async def _record(self, batch: Sequence[Completion]) -> None:
        async with self._database.system() as tx:
            await record(tx, batch, self._on_ended)
