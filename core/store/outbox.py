"""The dispatcher's side of deliveries: claim what is due, fairly, and record what became of it, fenced by the lease."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import zip_longest
from typing import Any, TypeVar

from sqlalchemy import (
    Integer,
    Row,
    Table,
    Text,
    and_,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import ColumnElement

from core.domain import names
from core.domain.webhooks.classify import Ruling
from core.domain.webhooks.retry import Preset
from core.domain.webhooks.signing import SigningKey
from core.domain.webhooks.states import DeliveryState, EndpointState
from core.store.deliveries import deliveries, delivery_attempts, messages
from core.store.endpoints import endpoints, signing_keys
from core.store.metadata import to_micros
from core.store.transaction import Transaction

_Item = TypeVar("_Item")

EndpointKey = tuple[str, str]
"""Organization and endpoint."""

AT_ONCE = 4
"""Deliveries under way to one endpoint while many are ready; few may share a quarter of the free places."""

AT_ONCE_FAILING = 1
"""The same for an endpoint whose last attempt failed: a dead one costs a slot, not the workers."""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery to send now, with everything that sending needs."""

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
    payload: str
    url: str
    keys: tuple[SigningKey, ...]
    retry_preset: Preset
    failing: bool
    """The endpoint's last attempt failed."""
    lease_token: str


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of one attempt, and what follows."""

    delivery: ClaimedDelivery
    started_at: datetime
    duration: timedelta
    ruling: Ruling
    status_code: int
    response: str
    error: str
    state: DeliveryState
    due_at: datetime | None
    """When to try again; None in a final state."""

    @property
    def id(self) -> str:
        """Return the delivery's id."""
        return self.delivery.id


async def claim(
    tx: Transaction,
    *,
    limit: int,
    lease: timedelta,
    token: str,
    busy: Mapping[EndpointKey, int] | None = None,
    offset: int = 0,
    since_day: int = 0,
) -> list[ClaimedDelivery]:
    """Lease up to `limit` due deliveries of active endpoints, in a system transaction.

    Organizations take turns, and in each its endpoints; no endpoint gets more than its share, less what is `busy`.
    `offset` rotates who comes first when there are more than fit. `since_day` leaves older partitions alone.
    """
    shares = _shares(await _ready(tx, since_day), busy or {}, limit, offset)
    keys = await _due(tx, shares, since_day)
    if not keys:
        return []
    until = tx.now + lease
    leased = await tx.all(
        update(deliveries)
        .where(*_named(tx, deliveries, keys))
        .values(due_at=until, lease_until=until, lease_token=token)
        .returning(*(deliveries.c[name] for name in _SENT_COLUMNS))
    )
    payloads = await _payloads(tx, leased)
    receivers = await _receivers(tx, leased)
    return [
        _claimed(row, payloads[row.org_id, row.message_id], receivers[row.org_id, row.endpoint_id], token)
        for row in sorted(leased, key=lambda row: str(row.id))
        if (row.org_id, row.message_id) in payloads and (row.org_id, row.endpoint_id) in receivers
    ]


def _named(tx: Transaction, table: Table, keys: Iterable[tuple[Any, ...]]) -> list[ColumnElement[bool]]:
    """Return the condition for rows with these keys (organization, id, and day where the table has one).

    Column by column, because an id names one row whatever the organization; the day spares PostgreSQL the other
    partitions, and arrays keep the text of the statement, so that its plan is made once.
    """
    conditions = []
    for name, values in zip(("org_id", "id", "day"), zip(*keys, strict=True), strict=False):
        column, wanted = table.c[name], sorted(set(values))
        if tx.dialect == "postgresql":
            kind = Integer() if name == "day" else Text()
            conditions.append(column == func.any(bindparam(None, wanted, type_=postgresql.ARRAY(kind))))
        else:
            conditions.append(column.in_(wanted))
    return conditions


async def _payloads(tx: Transaction, leased: Sequence[Row[Any]]) -> dict[tuple[str, str], str]:
    keys = [(row.org_id, row.message_id, row.day) for row in leased]
    columns = (messages.c.org_id, messages.c.id, messages.c.payload)
    rows = await tx.all(select(*columns).where(*_named(tx, messages, keys)))
    return {(row.org_id, row.id): row.payload for row in rows}


async def _receivers(tx: Transaction, leased: Sequence[Row[Any]]) -> dict[EndpointKey, Row[Any]]:
    keys = [(row.org_id, row.endpoint_id) for row in leased]
    rows = await tx.all(select(endpoints).where(*_named(tx, endpoints, keys)))
    return {(row.org_id, row.id): row for row in rows}


async def _ready(tx: Transaction, since_day: int) -> Sequence[Row[Any]]:
    due = exists(literal_column("1")).where(
        deliveries.c.org_id == endpoints.c.org_id,
        deliveries.c.endpoint_id == endpoints.c.id,
        deliveries.c.state == literal_column("'pending'"),  # as in the partial index
        deliveries.c.due_at <= tx.now,
        deliveries.c.day >= since_day,
    )
    return await tx.all(
        select(endpoints.c.org_id, endpoints.c.id, endpoints.c.failing_since)
        .where(endpoints.c.state == EndpointState.ACTIVE, due)
        .order_by(endpoints.c.org_id, endpoints.c.id)
    )


def _shares(
    ready: Sequence[Row[Any]], busy: Mapping[EndpointKey, int], limit: int, offset: int
) -> list[tuple[EndpointKey, int]]:
    """Return how many deliveries each endpoint may have now, `limit` together."""
    healthy = max(AT_ONCE, limit // (4 * len(ready))) if ready else 0
    by_org: dict[str, list[tuple[EndpointKey, int]]] = {}
    for row in ready:
        key = (row.org_id, row.id)
        share = (healthy if row.failing_since is None else AT_ONCE_FAILING) - busy.get(key, 0)
        if share > 0:
            by_org.setdefault(row.org_id, []).append((key, share))
    queues = _rotated(list(by_org.values()), offset)
    in_turn = [item for turn in zip_longest(*(_rotated(queue, offset) for queue in queues)) for item in turn if item]
    chosen: dict[EndpointKey, int] = {}
    for depth in range(healthy):
        for key, share in in_turn:
            if depth < share and limit > 0:
                chosen[key] = depth + 1
                limit -= 1
    return list(chosen.items())


def _rotated(items: list[_Item], offset: int) -> list[_Item]:
    start = offset % len(items) if items else 0
    return items[start:] + items[:start]


_DUE_SQLITE = (
    "SELECT org_id, id, day FROM deliveries WHERE org_id = $1 AND endpoint_id = $2 AND state = 'pending' "
    "AND due_at <= $3 AND day >= $5 ORDER BY due_at LIMIT $4"
)
_DUE_POSTGRESQL = (
    "SELECT d.org_id, d.id, d.day FROM unnest($1::text[], $2::text[], $4::int[]) AS w(org_id, endpoint_id, share) "
    "CROSS JOIN LATERAL (SELECT org_id, id, day FROM deliveries "
    "WHERE org_id = w.org_id AND endpoint_id = w.endpoint_id AND state = 'pending' AND due_at <= $3 AND day >= $5 "
    "ORDER BY due_at LIMIT w.share FOR UPDATE SKIP LOCKED) d"
)


async def _due(
    tx: Transaction, shares: Sequence[tuple[EndpointKey, int]], since_day: int
) -> list[tuple[str, str, int]]:
    now = to_micros(tx.now)
    if not shares:
        return []
    if tx.dialect == "postgresql":
        orgs, ids, counts = zip(*((org, endpoint_id, count) for (org, endpoint_id), count in shares), strict=True)
        rows = await tx.fetch(_DUE_POSTGRESQL, list(orgs), list(ids), now, list(counts), since_day)
    else:
        rows = [
            row for (org, ep), count in shares for row in await tx.fetch(_DUE_SQLITE, org, ep, now, count, since_day)
        ]
    return [(row[0], row[1], row[2]) for row in rows]


_SENT_COLUMNS = [
    "org_id",
    "id",
    "day",
    "message_id",
    "endpoint_id",
    "event_type",
    "enrollment_id",
    "awaited",
    "attempt_count",
    "attempts_before",
]
_ATTEMPT_COLUMNS = [
    "org_id",
    "delivery_id",
    "number",
    "day",
    "bucket",
    "started_at",
    "duration_us",
    "outcome",
    "status_code",
    "response",
    "error",
]


def _claimed(row: Row[Any], payload: str, receiver: Row[Any], token: str) -> ClaimedDelivery:
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
        keys=signing_keys(receiver.secrets),
        retry_preset=Preset(receiver.retry_preset),
        failing=receiver.failing_since is not None,
        lease_token=token,
    )


async def complete(tx: Transaction, completions: Sequence[Completion]) -> list[Completion]:
    """Record attempts in a system transaction; return those whose lease still held. A lost lease changes nothing."""
    kept = await _still_leased(tx, completions)
    if not kept:
        return []
    await tx.bulk_insert(delivery_attempts, _ATTEMPT_COLUMNS, [_attempt_row(completion) for completion in kept])
    statement = (
        update(deliveries)
        .where(
            deliveries.c.org_id == bindparam("the_org"),
            deliveries.c.id == bindparam("the_id"),
            deliveries.c.day == bindparam("the_day"),
        )
        .values(
            state=bindparam("new_state"),
            attempt_count=deliveries.c.attempt_count + 1,
            due_at=bindparam("new_due_at"),
            lease_until=None,
            lease_token=None,
            last_outcome=bindparam("new_outcome"),
            ended_at=bindparam("new_ended_at"),
        )
    )
    await tx.connection.execute(statement, [_update_row(tx, completion) for completion in kept])
    return kept


async def _still_leased(tx: Transaction, completions: Sequence[Completion]) -> list[Completion]:
    wanted = {_key(completion.delivery): completion for completion in completions}
    if not wanted:
        return []
    rows = await tx.all(
        select(deliveries.c.org_id, deliveries.c.id, deliveries.c.day, deliveries.c.lease_token)
        .where(
            *_named(tx, deliveries, wanted),
            deliveries.c.state == DeliveryState.PENDING,
        )
        .order_by(deliveries.c.id)
        .with_for_update()
    )
    held = [(wanted[row.org_id, row.id, row.day], row.lease_token) for row in rows]
    return [completion for completion, token in held if completion.delivery.lease_token == token]


def _key(delivery: ClaimedDelivery) -> tuple[str, str, int]:
    return (delivery.org_id, delivery.id, delivery.day)


def _attempt_row(completion: Completion) -> tuple[Any, ...]:
    delivery = completion.delivery
    return (
        delivery.org_id,
        delivery.id,
        delivery.attempt_count + 1,
        delivery.day,
        names.bucket(delivery.org_id),
        completion.started_at,
        completion.duration // timedelta(microseconds=1),
        completion.ruling.outcome,
        completion.status_code,
        completion.response,
        completion.error,
    )


def _update_row(tx: Transaction, completion: Completion) -> dict[str, Any]:
    delivery = completion.delivery
    return {
        "the_org": delivery.org_id,
        "the_id": delivery.id,
        "the_day": delivery.day,
        "new_state": completion.state,
        "new_due_at": completion.due_at,
        "new_outcome": completion.ruling.outcome,
        "new_ended_at": None if completion.state is DeliveryState.PENDING else tx.now,
    }


async def release(tx: Transaction, abandoned: Iterable[ClaimedDelivery]) -> int:
    """Give back leases that will not be completed, in a system transaction, so that nobody waits for their end."""
    held = [
        and_(
            deliveries.c.org_id == delivery.org_id,
            deliveries.c.id == delivery.id,
            deliveries.c.day == delivery.day,
            deliveries.c.lease_token == delivery.lease_token,
        )
        for delivery in abandoned
    ]
    if not held:
        return 0
    statement = update(deliveries).where(deliveries.c.state == DeliveryState.PENDING, or_(*held))
    return await tx.run(statement.values(due_at=tx.now, lease_until=None, lease_token=None))


async def release_all(tx: Transaction) -> int:
    """Give back every lease, in a system transaction: only right while no other process sends, as on SQLite."""
    leased = (deliveries.c.state == DeliveryState.PENDING, deliveries.c.lease_token.is_not(None))
    return await tx.run(update(deliveries).where(*leased).values(due_at=tx.now, lease_until=None, lease_token=None))
