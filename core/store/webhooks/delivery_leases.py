"""Leasing deliveries: what has been chosen is marked as under way and returned with all that sending it needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Row

from core.store.metadata import from_micros, to_micros, write_json
from core.store.transaction import Transaction
from core.store.webhooks import delivery_numbers, endpoint_rows
from core.store.webhooks.delivery_numbers import Due
from core.store.webhooks.outbox import ClaimedDelivery, DeliveryKey

_SENT = (
    "org_id, id, day, message_id, endpoint_id, event_type, enrollment_id, awaited, attempt_count, attempts_before, "
    "payload, lane, sequence, place, contact_id, created_at"
)
_NAMED = {
    "postgresql": "org_id = ANY($1::text[]) AND id = ANY($2::text[]) AND day = ANY($3::int[])",
    "sqlite": (
        "org_id IN (SELECT value FROM json_each($1)) AND id IN (SELECT value FROM json_each($2)) "
        "AND day IN (SELECT value FROM json_each($3))"
    ),
}
_NUMBER = {
    "postgresql": "coalesce(($6::jsonb ->> id)::bigint, sequence)",
    "sqlite": "coalesce($6 ->> id, sequence)",
}
_LEASE = {
    dialect: (
        f"UPDATE deliveries SET due_at = $4, lease_until = $4, lease_token = $5, sequence = {_NUMBER[dialect]} "  # noqa: S608
        f"WHERE {these} RETURNING {_SENT}"
    )
    for dialect, these in _NAMED.items()
}
_PAYLOADS = {
    dialect: f"SELECT org_id, id, payload FROM messages WHERE {these}"  # noqa: S608 -- the texts above
    for dialect, these in _NAMED.items()
}


async def lease(tx: Transaction, due: Sequence[Due], until: datetime, token: str) -> list[ClaimedDelivery]:
    """Lease these deliveries under a token, in sequence, and return them with all that sending needs."""
    numbers = write_json(await delivery_numbers.given(tx, due))
    keys = _names(tx, [one[:3] for one in due])
    rows = await tx.fetch(_LEASE[tx.dialect], *keys, to_micros(until), token, numbers)
    leased = [_Leased(*row) for row in rows]
    payloads = await _payloads(tx, [row for row in leased if row.payload is None])
    receivers = await endpoint_rows.of(tx, {(row.org_id, row.endpoint_id) for row in leased})
    return [
        _claimed(row, payload, receiver, token)
        for row in sorted(leased, key=lambda row: (row.lane, row.sequence, row.id))
        if (payload := row.payload or payloads.get((row.org_id, row.message_id))) is not None
        and (receiver := receivers.get((row.org_id, row.endpoint_id))) is not None
    ]


class _Leased(NamedTuple):
    """A row of deliveries, as the driver gives it."""

    org_id: str
    id: str
    day: int
    message_id: str
    endpoint_id: str
    event_type: str
    enrollment_id: str
    awaited: bool
    attempt_count: int
    attempts_before: int
    payload: str | None
    lane: int
    sequence: int
    place: int
    contact_id: str
    created_at: int


def _names(tx: Transaction, keys: Iterable[DeliveryKey]) -> list[Any]:
    """Return organizations, ids and days as both databases take them: column by column, as `outbox.named` does."""
    columns = [sorted(set(column)) for column in zip(*keys, strict=True)]
    return columns if tx.dialect == "postgresql" else [write_json(column) for column in columns]


async def _payloads(tx: Transaction, leased: Sequence[_Leased]) -> dict[tuple[str, str], str]:
    if not leased:
        return {}
    rows = await tx.fetch(_PAYLOADS[tx.dialect], *_names(tx, [(row.org_id, row.message_id, row.day) for row in leased]))
    return {(row[0], row[1]): row[2] for row in rows}


def _claimed(row: _Leased, payload: str, receiver: Row[Any], token: str) -> ClaimedDelivery:
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
        payload=payload,
        url=receiver.url,
        lease_token=token,
        receiver=receiver,
        lane=row.lane,
        sequence=row.sequence,
        place=row.place,
        contact_id=row.contact_id,
        created_at=from_micros(row.created_at),
    )
