"""The mailer: claims messages that are due, sends e-mail over SMTP, and gives a carrier what goes by other channels.

Like the dispatcher it sends from a rolling pool, outside any transaction. What no carrier takes is handed over as an
event, for others to send.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from core import ids
from core.clock import Clock
from core.delivery.handover import Answer, Carrier
from core.delivery.mail_outcomes import EndedMessage, OnEnded, record
from core.delivery.pool import Pool
from core.delivery.smtp import SmtpSender
from core.domain.connections.limits import HELD
from core.domain.messaging import unsubscribe
from core.domain.messaging.terms import NotNow
from core.domain.steps.message import EMAIL
from core.domain.webhooks.retry import next_attempt
from core.store.database import Database
from core.store.messages import consent, message_budgets, message_terms, outgoing, outgoing_due
from core.store.messages.message_budgets import Held
from core.store.messages.outgoing import ClaimedMessage, Completion, MessageState
from core.store.transaction import Transaction

LEASE = timedelta(seconds=90)
"""Longer than the deadline of a try, so that only a dead process loses one."""

SHORTEST_HOLD = timedelta(seconds=1)
"""A held message is not asked about again at once, whatever its carrier says."""

CONCURRENCY = 16
SLOW_CONCURRENCY = 64
"""So many more tries may be under way that take long: connections that hang do not hold up everybody's e-mail."""

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
        carrier: Carrier | None = None,
        public_url: str = "",
        on_ended: OnEnded = _nobody,
        concurrency: int = CONCURRENCY,
        lease: timedelta = LEASE,
    ):
        """Join the parts; without a `sender` every e-mail fails at once and says why.

        A `carrier` is asked to send what goes by other channels. Without a `public_url` messages carry no link by
        which to unsubscribe.
        """
        self._database = database
        self._sender = sender
        self._carrier = carrier
        self.public_url = public_url
        """Under which people reach the unsubscribe page; may become known only once HTTP is served."""
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
            slow_places=SLOW_CONCURRENCY if concurrency > 1 else 0,
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
        try:
            await self._pool.stop(grace_seconds)
        finally:
            if self._sender is not None:
                await self._sender.close()

    async def _claim(self, free: int) -> list[ClaimedMessage]:
        """Claim messages and return those that are to be sent; of the others the outcome is known at once."""
        self._turns += 1
        async with self._database.system() as tx:
            token = ids.mint("lse", tx.now)
            claimed = await outgoing_due.claim(tx, limit=free, lease=self._lease, token=token, offset=self._turns)
            unwanted = await outgoing_due.unwanted(tx, claimed)
            early = await message_terms.early(tx, [one for one in claimed if one.id not in unwanted])
            going = [one for one in claimed if one.id not in unwanted and one.id not in early]
            held = await message_budgets.held(tx, going)
            claimed = await self._with_links(tx, claimed)
        to_send = []
        for message in claimed:
            done = self._without_sending(message, unwanted, early, held)
            if done is None:
                to_send.append(message)
            else:
                self._pool.finished.append(done)
        return to_send

    async def _with_links(self, tx: Transaction, claimed: Sequence[ClaimedMessage]) -> list[ClaimedMessage]:
        """Return messages with the link by which their contact unsubscribes, also where their texts ask for it."""
        base = self.public_url.rstrip("/")
        secrets = await consent.secrets(tx, {one.org_id for one in claimed}) if base else {}
        linked = []
        for one in claimed:
            url = ""
            if base:
                link = unsubscribe.Link(one.org_id, one.contact_id, one.id, one.channel, one.purpose)
                url = f"{base}/u/{unsubscribe.token(link, secrets[one.org_id])}"
            text, html = (body.replace(unsubscribe.PLACE, url) for body in (one.text, one.html))
            linked.append(replace(one, unsubscribe_url=url, text=text, html=html))
        return linked

    def _without_sending(
        self,
        message: ClaimedMessage,
        unwanted: Mapping[str, str],
        early: Mapping[str, NotNow],
        held: Mapping[str, Held],
    ) -> Completion | None:
        """Return what becomes of a message that nobody is asked to send; None where somebody is."""
        if message.id in unwanted:
            return Completion(message, MessageState.SKIPPED, unwanted[message.id])
        if message.id in early:
            return _not_now(message, early[message.id])
        if message.id in held:
            budget = held[message.id]
            return Completion(message, MessageState.PENDING, budget.reason, budget.until, tried=False)
        if message.channel == EMAIL:
            return Completion(message, MessageState.FAILED, NO_SERVER) if self._sender is None else None
        return _handed_over(message) if self._carrier is None else None

    async def _attempt(self, message: ClaimedMessage) -> Completion:
        now = self._clock.now()
        if message.channel == EMAIL:
            assert self._sender is not None
            return self._completion(message, await self._sender.send(message, now))
        assert self._carrier is not None
        answer = await self._carrier.send(message, now)
        return _handed_over(message) if answer is None else self._completion(message, answer)

    def _completion(self, message: ClaimedMessage, answer: Answer) -> Completion:
        now = self._clock.now()
        match answer.verdict:
            case "sent":
                return Completion(message, MessageState.SENT, answer.outcome, provider_id=answer.provider_id)
            case "never":
                return Completion(message, MessageState.FAILED, answer.outcome, bounced=answer.bounced)
            case "held":
                until = max(answer.due_at or now, now + SHORTEST_HOLD)
                return Completion(message, MessageState.PENDING, answer.outcome, until, tried=False)
        due_at = next_attempt(answer.preset, message.attempts + 1, now, ids.jitter())
        if due_at is None:
            return Completion(message, MessageState.FAILED, answer.outcome)
        return Completion(message, MessageState.PENDING, answer.outcome, max(due_at, answer.due_at or due_at))

    async def _record(self, batch: Sequence[Completion]) -> None:
        async with self._database.system() as tx:
            await record(tx, batch, self._on_ended)

    async def _release(self, abandoned: Collection[ClaimedMessage]) -> None:
        if abandoned:
            async with self._database.system() as tx:
                await outgoing.release(tx, abandoned)


def _not_now(message: ClaimedMessage, early: NotNow) -> Completion:
    if early.skip:
        return Completion(message, MessageState.SKIPPED, f"skipped: {early.reason}", tried=False)
    return Completion(message, MessageState.PENDING, f"{HELD}{early.reason}", early.until, tried=False)


def _handed_over(message: ClaimedMessage) -> Completion:
    return Completion(message, MessageState.SENT, HANDED_OVER, handed_over=True)
