"""Deliveries of pull endpoints: handed out under leases, oldest first, and given back when nobody took them.

What a consumer says of them is recorded as attempts of the dispatcher are, by `core/delivery/record.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import LargeBinary, Row, case, cast, exists, func, literal_column, not_, or_, select, update
from sqlalchemy.sql.elements import ColumnElement

from core.domain.frozen import frozen
from core.domain.webhooks.states import Ordering
from core.store.transaction import Transaction
from core.store.webhooks import delivery_numbers
from core.store.webhooks.deliveries import day_in
from core.store.webhooks.delivery_numbers import Due
from core.store.webhooks.delivery_tables import deliveries, messages
from core.store.webhooks.outbox import LANES, ClaimedDelivery

_PENDING = deliveries.c.state == literal_column("'pending'")  # as in the partial index


@frozen
class HandedOut:
    """A delivery that a consumer has now."""

    id: str
    message_id: str
    event_type: str
    payload: str
    attempt: int
    sequence: int
    lease_token: str


@frozen
class Room:
    """How many bytes of payload a consumer may still be handed."""

    bytes: int
    first_anyway: bool
    """It has nothing else, so that it gets one message however large that is."""


async def is_due(tx: Transaction, endpoint: Row[Any]) -> bool:
    """Tell whether something may be handed out now."""
    for lane in LANES:
        if await tx.first(select(literal_column("1")).where(*_due(endpoint, lane, tx.now)).limit(1)) is not None:
            return True
    return False


async def hand_out(
    tx: Transaction, endpoint: Row[Any], *, limit: int, room: Room, lease: timedelta, token: str
) -> list[HandedOut]:
    """Lease up to `limit` due deliveries of an endpoint, the longest due first; no two consumers get the same one."""
    found: list[Row[Any]] = []
    for lane in LANES:
        statement = select(*(deliveries.c[name] for name in (*Due._fields, "due_at")))
        statement = statement.where(*_due(endpoint, lane, tx.now)).order_by(deliveries.c.due_at, deliveries.c.place)
        found += await tx.all(statement.limit(limit).with_for_update(skip_locked=True))
    oldest = sorted(found, key=lambda row: (row.due_at, row.place, row.id))[:limit]
    chosen = await _that_fit(tx, oldest, room)
    if not chosen:
        return []
    until = tx.now + lease
    these = _named({row.id for row in chosen}, {row.day for row in chosen})
    numbers = await delivery_numbers.given(tx, [Due._make(row[:-1]) for row in chosen])
    values: dict[str, Any] = {"due_at": until, "lease_until": until, "lease_token": token}
    if numbers:
        values["sequence"] = case(numbers, value=deliveries.c.id, else_=deliveries.c.sequence)
    leased = await tx.all(
        update(deliveries).where(*these).values(values).returning(*(deliveries.c[name] for name in _HANDED))
    )
    by_id = {row.id: row for row in leased}
    payloads = await _payloads(tx, leased)
    return [_handed(by_id[row.id], payloads[row.id], token) for row in chosen if row.id in payloads]


async def taken(tx: Transaction, endpoint: Row[Any], held: Mapping[str, str]) -> list[ClaimedDelivery]:
    """Return those of an endpoint's deliveries (id to lease token) whose lease still holds, locked."""
    if not held:
        return []
    rows = await tx.all(
        select(deliveries)
        .where(*_named(held, {day_in(one) for one in held}), deliveries.c.endpoint_id == endpoint.id, _PENDING)
        .where(deliveries.c.lease_until > tx.now)
        .order_by(deliveries.c.id)
        .with_for_update()
    )
    return [_claimed(row, endpoint) for row in rows if row.lease_token == held[row.id]]


async def still_held(tx: Transaction, held: Mapping[str, str]) -> set[str]:
    """Return which of these deliveries (id to lease token) are leased under their token still."""
    if not held:
        return set()
    rows = await tx.all(
        select(deliveries.c.id, deliveries.c.lease_token).where(
            *_named(held, {day_in(one) for one in held}), _PENDING, deliveries.c.lease_until > tx.now
        )
    )
    return {row.id for row in rows if row.lease_token == held[row.id]}


async def give_back(tx: Transaction, unseen: Mapping[str, str]) -> None:
    """Make deliveries (id to lease token) due again that were leased but never reached their consumer."""
    if not unseen:
        return
    values = {"due_at": tx.now, "lease_until": None, "lease_token": None}
    these = _named(unseen, {day_in(one) for one in unseen})
    tokens = deliveries.c.lease_token.in_(sorted(set(unseen.values())))
    await tx.run(update(deliveries).where(*these, _PENDING, tokens).values(values))
    tx.wake("pull")


_HANDED = ("org_id", "id", "day", "message_id", "event_type", "payload", "attempt_count", "sequence")


def _handed(row: Row[Any], payload: str, token: str) -> HandedOut:
    return HandedOut(
        id=row.id,
        message_id=row.message_id,
        event_type=row.event_type,
        payload=payload,
        attempt=row.attempt_count + 1,
        sequence=row.sequence,
        lease_token=token,
    )


def _claimed(row: Row[Any], endpoint: Row[Any]) -> ClaimedDelivery:
    return ClaimedDelivery(
        org_id=row.org_id,
        id=row.id,
        day=row.day,
        message_id=row.message_id,
        endpoint_id=row.endpoint_id,
        event_type=row.event_type,
        enrollment_id=row.enrollment_id,
        awaited=bool(row.awaited),
        attempt_count=row.attempt_count,
        attempts_before=row.attempts_before,
        payload="",  # it has left
        url="",
        lease_token=row.lease_token,
        receiver=endpoint,
        lane=row.lane,
        sequence=row.sequence,
        place=row.place,
        contact_id=row.contact_id,
        created_at=row.created_at,
    )


def _named(ids: Collection[str], days: Collection[int]) -> tuple[ColumnElement[bool], ...]:
    return (deliveries.c.id.in_(sorted(ids)), deliveries.c.day.in_(sorted(days)))


async def _that_fit(tx: Transaction, rows: Sequence[Row[Any]], room: Room) -> Sequence[Row[Any]]:
    """Return the first of these deliveries, as many as there is room for; only their sizes are read."""
    if not rows:
        return rows
    d, m = deliveries.c, messages.c
    of_message = (m.org_id == d.org_id, m.id == d.message_id, m.day == d.day)
    payload = func.coalesce(d.payload, select(m.payload).where(*of_message).scalar_subquery())
    size = func.octet_length(payload) if tx.dialect == "postgresql" else func.length(cast(payload, LargeBinary))
    these = _named({row.id for row in rows}, {row.day for row in rows})
    sizes = {row.id: row.size or 0 for row in await tx.all(select(d.id, size.label("size")).where(*these))}
    taken = 0
    for number, row in enumerate(rows):
        taken += sizes[row.id]
        if taken > room.bytes and not (room.first_anyway and number == 0):
            return rows[:number]
    return rows


async def _payloads(tx: Transaction, rows: Sequence[Row[Any]]) -> dict[str, str]:
    """Return the body of each delivery: in the endpoint's own form where it has one, else the message's."""
    own = {row.id: row.payload for row in rows if row.payload is not None}
    wanted = {(row.message_id, row.day) for row in rows if row.payload is None}
    if not wanted:
        return own
    found = await tx.all(
        select(messages.c.id, messages.c.payload).where(
            messages.c.id.in_(sorted(one for one, _ in wanted)), messages.c.day.in_(sorted({day for _, day in wanted}))
        )
    )
    stored = {row.id: row.payload for row in found}
    return own | {row.id: stored[row.message_id] for row in rows if row.message_id in stored and row.id not in own}


def _due(endpoint: Row[Any], lane: int, now: datetime) -> list[ColumnElement[bool]]:
    c = deliveries.c
    conditions: list[ColumnElement[bool]] = [c.endpoint_id == endpoint.id, _PENDING, c.lane == lane, c.due_at <= now]
    if endpoint.ordering == Ordering.BY_CONTACT:
        earlier = deliveries.alias("earlier")
        before = exists(literal_column("1")).where(
            earlier.c.org_id == c.org_id,
            earlier.c.endpoint_id == c.endpoint_id,
            earlier.c.state == literal_column("'pending'"),
            earlier.c.contact_id != literal_column("''"),
            earlier.c.contact_id == c.contact_id,
            earlier.c.place < c.place,
        )
        conditions.append(or_(c.contact_id == literal_column("''"), not_(before)))
    return conditions
