"""The carrier: sends messages of other channels than e-mail through the connection of their channel.

A message asks its connection for a turn in one short transaction, is sent outside any, and gives its place back in
another; what it came to is the mailer's to record. The connection's row is where processes meet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import structlog

from core.delivery.authenticated import send_as
from core.delivery.handover import Answer
from core.delivery.http import WebhookSender
from core.delivery.send_result import SendResult
from core.domain.connections import call, limits, result
from core.domain.connections.call import NotRendered
from core.domain.connections.limits import HELD
from core.domain.connections.sample import Carried, values
from core.domain.connections.settings import Settings, without_secrets
from core.domain.errors import MasterKeyMissing
from core.domain.frozen import frozen
from core.domain.webhooks.classify import Outcome
from core.domain.webhooks.faults import LOCKED_FOR
from core.domain.webhooks.retry import Preset, parse_retry_after
from core.store.database import Database
from core.store.messages.outgoing import ClaimedMessage
from core.store.records import records
from core.store.systems import connections
from core.store.systems.connections import Carrying
from core.store.systems.vault import UNSEALED, Vault
from core.store.transaction import Transaction
from core.store.workflows import enrollments

BUSY = frozenset({429, 503})
"""Statuses whose `Retry-After` is meant for every message of the connection."""

_ANSWERED = frozenset(
    {Outcome.DELIVERED, Outcome.HTTP_STATUS, Outcome.REDIRECT, Outcome.GONE, Outcome.ABORTED, Outcome.NOT_JSON}
)
"""Outcomes with a complete answer, which the connection itself judges."""

_SHORTEST_TICK = 0.02
_log = structlog.get_logger()


@frozen
class _Begun:
    """A message that has its turn."""

    connection: Carrying
    values: Mapping[str, Any]


@dataclass(slots=True)
class ConnectionCarrier:
    """Sends each message through the connection of its channel, within that connection's limits."""

    database: Database
    sender: WebhookSender
    vault: Vault = UNSEALED
    _ticking: dict[tuple[str, str], float] = field(default_factory=dict)
    """Until when, by the event loop's clock, the mailer is woken for those who wait for a rate."""

    async def send(self, message: ClaimedMessage, now: datetime) -> Answer | None:
        """Try once; None where no connection carries the channel."""
        async with self.database.write(message.org_id) as tx:
            begun = await self._begin(tx, message)
        if not isinstance(begun, _Begun):
            return begun
        try:
            sent, answer = await self._call(message, begun, now)
        except NotRendered as error:
            sent, answer = None, Answer("never", str(error)[: result.LONGEST_ERROR])
        except MasterKeyMissing as missing:  # our own fault: no attempt is counted
            _log.error("the secret of a connection cannot be opened", connection=begun.connection.id)
            sent, answer = None, Answer("held", missing.message[: result.LONGEST_ERROR], now + LOCKED_FOR)
        asked = _asked(sent, self.database.clock.now())
        gate = asked if sent is not None and sent.status_code in BUSY else None
        async with self.database.write(message.org_id) as tx:
            await _end(tx, begun.connection.id, message, sent=answer.verdict == "sent", gate_until=gate)
        return replace(answer, due_at=asked) if answer.verdict == "later" else answer

    async def _begin(self, tx: Transaction, message: ClaimedMessage) -> _Begun | Answer | None:
        connection = await connections.hold(tx, message.channel)
        if connection is None:
            return None
        turn = limits.begin(
            connection.settings.limits,
            connection.usage,
            paused=connection.paused,
            zone=connection.zone,
            message_id=message.id,
            created_at=message.created_at,
            now=tx.now,
        )
        if turn.usage != connection.usage:
            await connections.use(tx, connection.id, turn.usage)
        if turn.held_until is not None:
            self._tick(message.org_id, connection, turn.usage.queued_until, tx.now)
            return Answer("held", HELD + turn.reason, turn.held_until)
        return _Begun(connection, await _values(tx, message))

    async def _call(self, message: ClaimedMessage, begun: _Begun, now: datetime) -> tuple[SendResult, Answer]:
        connection = begun.connection
        settings = connections.opened(connection.settings, self.vault, message.org_id, connection.id)
        request = call.render(settings.call, begun.values, message.id, self.sender.destinations)
        sent = await send_as(
            self.sender,
            (message.org_id, connection.id),
            settings.auth,
            request.url,
            request.headers,
            request.body.encode(),
            now,
            method=request.method,
        )
        return sent, answer_of(settings, sent)

    def _tick(self, org: str, connection: Carrying, until: datetime | None, now: datetime) -> None:
        """Wake the mailer at the connection's pace while messages wait for it, not just once a second."""
        rate = connection.settings.limits.rate_per_second
        if rate <= 1 or until is None or until <= now:
            return
        loop, key = asyncio.get_running_loop(), (org, connection.id)
        idle = key not in self._ticking
        self._ticking[key] = loop.time() + (until - now).total_seconds()
        if idle:
            loop.call_later(max(1 / rate, _SHORTEST_TICK), self._ticked, key, max(1 / rate, _SHORTEST_TICK))

    def _ticked(self, key: tuple[str, str], apart: float) -> None:
        self.database.wakeups.event("mailer").set()
        loop = asyncio.get_running_loop()
        if loop.time() > self._ticking[key]:
            del self._ticking[key]
        else:
            loop.call_later(apart, self._ticked, key, apart)


def answer_of(settings: Settings, sent: SendResult) -> Answer:
    """Return what a try came to, as the connection judges it."""
    if sent.outcome not in _ANSWERED:
        outcome = without_secrets(sent.error, settings.auth)
        return Answer("later" if sent.ruling.retry else "never", outcome, preset=Preset.QUICK)
    judged = result.judge(settings.result, sent.status_code, sent.headers, sent.response_text)
    if judged.sent:
        return Answer("sent", f"HTTP {sent.status_code}", provider_id=judged.provider_id)
    error = without_secrets(judged.error, settings.auth)
    return Answer("later" if judged.retryable else "never", error, preset=Preset.QUICK)


async def _values(tx: Transaction, message: ClaimedMessage) -> dict[str, Any]:
    """Return what the texts of a call may name; what is gone meanwhile is unknown."""
    person = await records.get(tx, message.contact_id)
    enrollment = await enrollments.get(tx, message.enrollment_id)
    carried = Carried(
        id=message.id,
        channel=message.channel,
        to=message.recipient,
        text=message.text,
        purpose=message.purpose,
        subject=message.subject,
        html=message.html,
        ordinal=message.ordinal,
    )
    contact = {} if person is None else {**person.fields, "id": person.id}
    about = {"id": message.enrollment_id, "workflow_id": message.workflow_id, "step_id": message.step_id}
    return values(carried, contact, {**about, "key": enrollment.key if enrollment else ""}, tx.now)


async def _end(
    tx: Transaction, connection_id: str, message: ClaimedMessage, *, sent: bool, gate_until: datetime | None
) -> None:
    connection = await connections.hold_again(tx, connection_id)
    if connection is not None:
        used = limits.ended(
            connection.usage, message.id, sent=sent, zone=connection.zone, now=tx.now, gate_until=gate_until
        )
        await connections.use(tx, connection_id, used)


def _asked(sent: SendResult | None, now: datetime) -> datetime | None:
    """Return when the other system wants to be asked again, where it said so."""
    wait = None if sent is None else parse_retry_after(sent.retry_after, now)
    return now + wait if wait else None
