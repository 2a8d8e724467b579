"""What else is known of one message and its endpoint: what an explanation reads beside their rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, literal_column, select

from core.domain.webhooks.gates import Surroundings
from core.store.transaction import Transaction
from core.store.webhooks.deliveries import day_in
from core.store.webhooks.delivery_tables import deliveries, messages

_PENDING = deliveries.c.state == literal_column("'pending'")  # as in the partial indexes


async def around(tx: Transaction, endpoint_id: str, delivery: Row[Any] | None = None) -> Surroundings:
    """Return what else is going on at an endpoint, and before a delivery of it."""
    here = (deliveries.c.endpoint_id == endpoint_id, _PENDING)
    leased = (deliveries.c.lease_token.is_not(None), deliveries.c.lease_until > tx.now)
    flying = await tx.first(select(func.count()).select_from(deliveries).where(*here, *leased))
    ahead = None
    if delivery is not None and delivery.contact_id:
        of_contact = (deliveries.c.contact_id == delivery.contact_id, deliveries.c.contact_id != literal_column("''"))
        before = select(deliveries.c.message_id).where(*here, *of_contact, deliveries.c.place < delivery.place)
        found = await tx.first(before.order_by(deliveries.c.place).limit(1))
        ahead = None if found is None else found.message_id
    return Surroundings(in_flight=0 if flying is None else flying[0], ahead=ahead)


async def message_of(tx: Transaction, message_id: str) -> Row[Any] | None:
    """Return a message as it was made, or None where it is not there any more."""
    here = (messages.c.id == message_id, messages.c.day == day_in(message_id))
    return await tx.first(select(messages.c.event_type, messages.c.payload, messages.c.created_at).where(*here))


async def delivery_of(tx: Transaction, message_id: str, endpoint_id: str) -> Row[Any] | None:
    """Return the delivery of a message to an endpoint, or None where there is none."""
    here = (deliveries.c.message_id == message_id, deliveries.c.day == day_in(message_id))
    return await tx.first(select(deliveries).where(*here, deliveries.c.endpoint_id == endpoint_id))


async def newest_messages(tx: Transaction, limit: int, before: str = "") -> Sequence[Row[Any]]:
    """Return the newest messages, or the newest before one of them."""
    statement = select(messages.c.id, messages.c.event_type, messages.c.payload, messages.c.created_at)
    if before:
        statement = statement.where(messages.c.id < before)
    return await tx.all(statement.order_by(messages.c.id.desc()).limit(limit))
