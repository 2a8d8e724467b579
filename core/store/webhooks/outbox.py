"""The dispatcher's side of deliveries: what is claimed, and what became of it, recorded under the lease's fence.

`delivery_claims` decides what is claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Integer, Row, Table, Text, and_, bindparam, func, or_, select, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import ColumnElement

from core.domain import names
from core.domain.frozen import frozen
from core.domain.webhooks.classify import Ruling
from core.domain.webhooks.states import DeliveryState
from core.store.metadata import to_micros, write_json
from core.store.transaction import Transaction, rows_of_json
from core.store.webhooks.deliveries import deliveries, delivery_attempts
from core.store.webhooks.delivery_tables import FIRST as FIRST
from core.store.webhooks.delivery_tables import LANES as LANES
from core.store.webhooks.delivery_tables import REPLAY as REPLAY
from core.store.webhooks.delivery_tables import RETRY as RETRY

EndpointKey = tuple[str, str]
"""Organization and endpoint."""

DeliveryKey = tuple[str, str, int]
"""Organization, delivery and its day."""


@frozen
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
    """The body as stored, in the endpoint's form."""
    url: str
    lease_token: str
    receiver: Row[Any]
    """The endpoint's row as it was when the delivery was claimed."""
    lane: int
    sequence: int
    """Its position at the endpoint, which it has had since it was claimed first."""
    place: int
    """Where it stands among all."""
    contact_id: str
    created_at: datetime
    probe: bool = False
    """No delivery is behind it: a disabled endpoint is tried by itself."""

    @property
    def key(self) -> DeliveryKey:
        """Return what names its row."""
        return (self.org_id, self.id, self.day)

    @property
    def endpoint_key(self) -> EndpointKey:
        """Return what names its endpoint's row."""
        return (self.org_id, self.endpoint_id)


@frozen
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
    retry_after: timedelta | None = None
    """The pause that the receiver asked for."""
    our_fault: timedelta | None = None
    """It was no fault of the receiver, and does not count: how long its endpoint waits. None for one that counts."""

    @property
    def id(self) -> str:
        """Return the delivery's id."""
        return self.delivery.id


def named(tx: Transaction, table: Table, keys: Iterable[tuple[Any, ...]]) -> list[ColumnElement[bool]]:
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


_ATTEMPT_COLUMNS = (
    "org_id delivery_id number day bucket started_at duration_us outcome status_code response error"
).split()
_CHANGED = {
    "state": "text",
    "attempts_before": "int",
    "due_at": "bigint",
    "lane": "int",
    "last_outcome": "text",
    "ended_at": "bigint",
}
_FENCE = {"org_id": "text", "id": "text", "day": "int", "lease_token": "text"}
_COUNTED = "attempt_count = attempt_count + 1, lease_until = NULL, lease_token = NULL"
_UPDATE_SQLITE = (
    f"UPDATE deliveries SET {_COUNTED}, "  # noqa: S608 -- names are ours
    + ", ".join(f"{name} = ?" for name in _CHANGED)
    + " WHERE org_id = ? AND id = ? AND day = ? AND lease_token = ? AND state = 'pending'"
)
_UPDATE_POSTGRESQL = (
    f"UPDATE deliveries d SET {_COUNTED}, "  # noqa: S608 -- names are ours
    + ", ".join(f"{name} = v.{name}" for name in _CHANGED)
    + f" FROM {rows_of_json(_CHANGED | _FENCE)} AS v "
    + "WHERE d.org_id = v.org_id AND d.id = v.id AND d.day = v.day AND d.lease_token = v.lease_token "
    + "AND d.state = 'pending' RETURNING d.org_id, d.id, d.day"
)


async def complete(tx: Transaction, completions: Sequence[Completion]) -> list[Completion]:
    """Record attempts in a system transaction; return those whose lease still held. A lost lease changes nothing."""
    if not completions:
        return []
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_UPDATE_POSTGRESQL, write_json([_update_row(tx, one) for one in completions]))
        held = {(row[0], row[1], row[2]) for row in rows}
    else:
        held = await _still_leased(tx, completions)
    kept = [one for one in completions if one.delivery.key in held]
    if kept and tx.dialect != "postgresql":
        await (await tx.driver()).executemany(_UPDATE_SQLITE, [_update_row(tx, one) for one in kept])
    await tx.bulk_insert(delivery_attempts, _ATTEMPT_COLUMNS, [_attempt_row(one) for one in kept])
    return kept


async def _still_leased(tx: Transaction, completions: Sequence[Completion]) -> set[DeliveryKey]:
    """Return which leases hold; nobody else writes before this transaction is over."""
    wanted = {one.delivery.key: one.delivery.lease_token for one in completions}
    rows = await tx.all(
        select(deliveries.c.org_id, deliveries.c.id, deliveries.c.day, deliveries.c.lease_token).where(
            *named(tx, deliveries, wanted), deliveries.c.state == DeliveryState.PENDING
        )
    )
    held = {(row.org_id, row.id, row.day): row.lease_token for row in rows}
    return {key for key, token in wanted.items() if held.get(key) == token}


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


def _update_row(tx: Transaction, completion: Completion) -> tuple[Any, ...]:
    delivery = completion.delivery
    return (
        completion.state.value,
        # One that does not count is told among the attempts all the same; the schedule goes on where it was.
        delivery.attempts_before + (completion.our_fault is not None),
        None if completion.due_at is None else to_micros(completion.due_at),
        (delivery.lane or RETRY) if completion.state is DeliveryState.PENDING else FIRST,  # as if it were redelivered
        completion.ruling.outcome.value,
        None if completion.state is DeliveryState.PENDING else to_micros(tx.now),
        *delivery.key,
        delivery.lease_token,
    )


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
        if not delivery.probe
    ]
    if not held:
        return 0
    statement = update(deliveries).where(deliveries.c.state == DeliveryState.PENDING, or_(*held))
    return await tx.run(statement.values(due_at=tx.now, lease_until=None, lease_token=None))


async def release_all(tx: Transaction) -> int:
    """Give back every lease, in a system transaction: only right while no other process sends, as on SQLite."""
    leased = (deliveries.c.state == DeliveryState.PENDING, deliveries.c.lease_token.is_not(None))
    return await tx.run(update(deliveries).where(*leased).values(due_at=tx.now, lease_until=None, lease_token=None))
