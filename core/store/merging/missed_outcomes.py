"""Outcomes that nobody was told: an enrollment that a merge had ended waited for them, and now it stands again."""

from __future__ import annotations

from sqlalchemy import select

from core.domain.enrollment import DeliveryEnded, MessageEnded, State
from core.store.messages.outgoing import MessageState, outgoing_messages
from core.store.transaction import Transaction
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import day_in
from core.store.webhooks.delivery_tables import deliveries as delivery_table
from core.store.workflows.enrollments import enrollments

Outcome = tuple[str, str, DeliveryEnded | MessageEnded]
"""Organization, enrollment, and what it waits to hear."""

NO_LONGER_KNOWN = "no_longer_known"
"""The outcome of what is no longer kept."""


async def of_contact(tx: Transaction, contact_id: str) -> list[Outcome]:
    """Return what the contact's running enrollments wait for although it has ended already."""
    c = enrollments.c
    waiting = (c.contact_id == contact_id, c.state == State.ACTIVE.value, c.wait_kind.in_(("message", "delivery")))
    rows = await tx.all(select(c.id, c.wait_kind, c.wait_subject).where(*waiting).order_by(c.id))
    messages = {row.wait_subject: row.id for row in rows if row.wait_kind == "message"}
    webhooks = {row.wait_subject: row.id for row in rows if row.wait_kind == "delivery"}
    return [*await _messages(tx, messages), *await _webhooks(tx, webhooks)]


async def _messages(tx: Transaction, waited: dict[str, str]) -> list[Outcome]:
    c = outgoing_messages.c
    rows = await tx.all(select(c.id, c.state, c.outcome).where(c.id.in_(sorted(waited))).order_by(c.id))
    return [
        (tx.org_id, waited[row.id], MessageEnded(row.id, row.state == MessageState.SENT, row.outcome))
        for row in rows
        if MessageState(row.state).final
    ]


async def _webhooks(tx: Transaction, waited: dict[str, str]) -> list[Outcome]:
    c = delivery_table.c
    found: list[Outcome] = []
    for message_id, enrollment_id in sorted(waited.items()):
        which = (c.message_id == message_id, c.day == day_in(message_id), c.awaited)
        if await tx.first(select(c.id).where(*which).limit(1)) is None:
            found.append((tx.org_id, enrollment_id, DeliveryEnded(message_id, False, NO_LONGER_KNOWN)))
            continue
        ended = await deliveries.finals(tx, {(tx.org_id, message_id): enrollment_id}, {})
        found += [(one.org_id, one.enrollment_id, one.stimulus) for one in ended]
    return found
