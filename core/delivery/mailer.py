"""The mailer: claims messages that are due, sends e-mail over SMTP, and hands what goes by other channels over.

Like the dispatcher it sends from a rolling pool, outside any transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta

from core import ids
from core.clock import Clock
from core.delivery.mail_outcomes import EndedMessage, OnEnded, record
from core.delivery.pool import Pool
from core.delivery.smtp import SmtpAnswer, SmtpSender
from core.domain.steps.message import EMAIL
from core.domain.webhooks.retry import Preset, next_attempt
from core.store import outgoing, outgoing_due
from core.store.database import Database
from core.store.outgoing import ClaimedMessage, Completion, MessageState
from core.store.transaction import Transaction

LEASE = timedelta(seconds=90)
"""Longer than the deadline of a try, so that only a dead process loses one."""

CONCURRENCY = 16
NO_SERVER = "no SMTP server configured"
HANDED_OVER = "handed over as message.requested"


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
        self._database = database
        self._sender = sender
        self._clock = clock
        self._on_ended = on_ended
        self._lease = lease
        self._turns = int(ids.jitter() * 1024)  # several processes begin at different organizations
        self.wake = database.wakeups.event("mailer")
        """Set when there may be something to claim or to record."""
        self._pool = Pool(
            "message",
            self.wake,
            concurrency,
            claim=self._claim,
            attempt=self._attempt,
            record=self._record,
            release=self._release,
        )

    async def turn(self) -> int:
        """Record what has finished and claim for the free places; return how many messages were touched."""
        return await self._pool.turn()

    async def drain(self) -> int:
        """Turn until nothing is due now and nothing is under way; return how many messages were touched."""
        return await self._pool.drain()

    async def recover(self) -> int:
        """Give back every lease of a process that died; only right while no other process sends, as on SQLite."""
        async with self._database.system() as tx:
            return await outgoing.release_all(tx)

    async def stop(self, grace_seconds: float) -> None:
        """Claim no more, wait so long for what is under way, record it, and give the rest back."""
        await self._pool.stop(grace_seconds)

    async def _claim(self, free: int) -> list[ClaimedMessage]:
        """Claim messages and return those that are to be sent; of the others the outcome is known at once."""
        self._turns += 1
        async with self._database.system() as tx:
            token = ids.mint("lse", tx.now)
            claimed = await outgoing_due.claim(tx, limit=free, lease=self._lease, token=token, offset=self._turns)
            unwanted = await outgoing_due.unwanted(tx, claimed)
        to_send = []
        for message in claimed:
            done = self._without_sending(message, unwanted.get(message.id, ""))
            if done is None:
                to_send.append(message)
            else:
                self._pool.finished.append(done)
        return to_send

    def _without_sending(self, message: ClaimedMessage, unwanted: str) -> Completion | None:
        """Return what becomes of a message that no mail server is asked about; None where one is."""
        if unwanted:
            return Completion(message, MessageState.SKIPPED, unwanted)
        if message.channel != EMAIL:
            return Completion(message, MessageState.SENT, HANDED_OVER)
        return Completion(message, MessageState.FAILED, NO_SERVER) if self._sender is None else None

    async def _attempt(self, message: ClaimedMessage) -> Completion:
        assert self._sender is not None
        return self._completion(message, await self._sender.send(message, self._clock.now()))

    def _completion(self, message: ClaimedMessage, answer: SmtpAnswer) -> Completion:
        match answer.verdict:
            case "sent":
                return Completion(message, MessageState.SENT, answer.outcome)
            case "never":
                return Completion(message, MessageState.FAILED, answer.outcome)
        due_at = next_attempt(Preset.STANDARD, message.attempts + 1, self._clock.now(), ids.jitter())
        state = MessageState.PENDING if due_at is not None else MessageState.FAILED
        return Completion(message, state, answer.outcome, due_at)

    async def _record(self, batch: Sequence[Completion]) -> None:
        async with self._database.system() as tx:
            await record(tx, batch, self._on_ended)

    async def _release(self, abandoned: Collection[ClaimedMessage]) -> None:
        if abandoned:
            async with self._database.system() as tx:
                await outgoing.release(tx, abandoned)
