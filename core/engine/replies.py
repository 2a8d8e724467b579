"""Telling endpoints that a contact answered: an event `reply.received` that came in, with the message it answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from core.domain import names
from core.domain.effects import Emit
from core.domain.enrollment import Enrollment
from core.store.events.events import UnmatchedEvent
from core.store.messages.outgoing import MessageState, outgoing_messages
from core.store.transaction import Transaction
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission
from core.store.workflows import claims

REPLY = "reply.received"
"""What comes in, and what is told; workflows cannot emit it themselves."""
_LOOKED_AT = 20


async def announce(tx: Transaction, batch: Sequence[UnmatchedEvent]) -> None:
    """Emit `reply.received` for the replies of known contacts, in the system transaction that matches them.

    It runs before they are matched, while those who wait for a reply still wait.
    """
    replies = [one for one in batch if one.name == REPLY and one.contact_id]
    await deliveries.emit(tx, [await _emission(tx, reply) for reply in replies])


async def _emission(tx: Transaction, event: UnmatchedEvent) -> Emission:
    held = await claims.claim_event_waits(tx, [(event.org_id, event.contact_id or "")])
    waiting = [one for one in held.enrollments if one.waiting is not None and REPLY in one.waiting.events]
    message, enrollment_id, workflow_id = _answered(await _sent(tx, event), waiting)
    channel = event.facts.fields.get("channel")
    told = {
        "contact_id": event.contact_id,
        "event_id": event.id,
        "channel": message.channel if message is not None else channel if isinstance(channel, str) else "",
        "message_id": message.id if message is not None else "",
        "enrollment_id": enrollment_id,
        "workflow_id": workflow_id,
    }
    data = {name: value for name, value in told.items() if value}
    effect = Emit(names.derive("msg", tx.now, event.org_id, event.id, REPLY), REPLY, data)
    return Emission(event.org_id, effect, enrollment_id)


def _answered(sent: Sequence[Row[Any]], waiting: Sequence[Enrollment]) -> tuple[Row[Any] | None, str, str]:
    """Return the message that is answered, its enrollment and its workflow.

    Whoever waits for a reply goes first, and among these whoever wrote last; else the last message is answered.
    """
    listening = {one.id for one in waiting}
    message = next((one for one in sent if one.enrollment_id in listening), None)
    if message is None and waiting:
        newest = max(waiting, key=lambda one: one.id)
        return None, newest.id, newest.workflow_id
    message = message or next(iter(sent), None)
    return (None, "", "") if message is None else (message, message.enrollment_id, message.workflow_id)


async def _sent(tx: Transaction, event: UnmatchedEvent) -> Sequence[Row[Any]]:
    """Return what the contact was sent lately, the newest first: on the channel of the reply, where it names one."""
    c = outgoing_messages.c
    columns = (c.id, c.channel, c.enrollment_id, c.workflow_id, c.provider_id)
    mine = (c.org_id == event.org_id, c.contact_id == event.contact_id, c.state == MessageState.SENT.value)
    statement = select(*columns).where(*mine).order_by(c.created_at.desc(), c.id.desc()).limit(_LOOKED_AT)
    channel, named = event.facts.fields.get("channel"), event.facts.fields.get("message_id")
    rows = await tx.all(statement.where(c.channel == channel) if isinstance(channel, str) and channel else statement)
    exact = [row for row in rows if isinstance(named, str) and named and named in (row.id, row.provider_id)]
    return exact or rows
