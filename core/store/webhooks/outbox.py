"""The dispatcher's side of deliveries: what is claimed, and what became of it, recorded under the lease's fence.

`delivery_claims` decides what is claimed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from sqlalchemy import Integer, Row, Table, Text, and_, bindparam, func, or_, update
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import ColumnElement

from core.domain import names
from core.domain.frozen import frozen
from core.domain.webhooks.classify import Ruling
from core.domain.webhooks.states import DeliveryState
from core.store.metadata import to_micros, write_json
from core.store.transaction import Transaction
from core.store.webhooks.deliveries import deliveries
from core.store.webhooks.delivery_tables import FIRST as FIRST
from core.store.webhooks.delivery_tables import LANES as LANES
from core.store.webhooks.delivery_tables import REPLAY as REPLAY
from core.store.webhooks.delivery_tables import RETRY as RETRY

EndpointKey = tuple[str, str]
"""Organization and endpoint."""

DeliveryKey = tuple[str, str, int]
"""Organization, delivery and its day."""

_MICROSECOND = timedelta(microseconds=1)


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
_TOLD = {
    "number": "int",
    "bucket": "int",
    "started_at": "bigint",
    "duration_us": "bigint",
    "status_code": "int",
    "response": "text",
    "error": "text",
}
_COUNTED = "attempt_count = attempt_count + 1, lease_until = NULL, lease_token = NULL"
_UPDATE_SQLITE = (
    f"UPDATE deliveries SET {_COUNTED}, "  # noqa: S608 -- names are ours
    + ", ".join(f"{name} = ?" for name in _CHANGED)
    + " WHERE org_id = ? AND id = ? AND day = ? AND lease_token = ? AND state = 'pending'"
)
_INSERT_SQLITE = (
    f"INSERT INTO delivery_attempts ({', '.join(_ATTEMPT_COLUMNS)}) "  # noqa: S608 -- names are ours
    f"VALUES ({', '.join('?' * len(_ATTEMPT_COLUMNS))})"
)
_LEASED_SQLITE = (
    "SELECT org_id, id, day, lease_token FROM deliveries WHERE org_id IN (SELECT value FROM json_each($1)) "
    "AND id IN (SELECT value FROM json_each($2)) AND day IN (SELECT value FROM json_each($3)) AND state = 'pending'"
)
_CELLS = {
    name: f"(cells ->> {number})::{of}"
    for number, (name, of) in enumerate({**_CHANGED, "lease_token": "text", **_TOLD}.items())
}
_FROM_HELD = {"org_id": "org_id", "delivery_id": "id", "day": "day", "outcome": _CELLS["last_outcome"]}
_SET = ", ".join(f"{name} = {_CELLS[name]}" for name in _CHANGED).replace("cells", "$1::jsonb -> id")
_ATTEMPTED = ", ".join(_FROM_HELD.get(name) or _CELLS[name] for name in _ATTEMPT_COLUMNS)
# One statement for both tables; what it returns are those whose lease is lost, so mostly nothing. Values stand in an
# object by id, for a join may be carried out in any way. The state is told so that the index of what is pending does
# not fit: where statistics are old, PostgreSQL would read all of that, however much waits.
_RECORD_POSTGRESQL = (
    f"WITH held AS (UPDATE deliveries SET {_COUNTED}, {_SET} "  # noqa: S608 -- names are ours
    "WHERE org_id = ANY($2::text[]) AND id = ANY($3::text[]) AND day = ANY($4::int[]) "
    f"AND state IN ('pending', '') AND lease_token = $1::jsonb -> id ->> {len(_CHANGED)} "
    f"RETURNING org_id, id, day, $1::jsonb -> id AS cells), "
    f"kept AS (INSERT INTO delivery_attempts ({', '.join(_ATTEMPT_COLUMNS)}) SELECT {_ATTEMPTED} FROM held) "
    "SELECT given.id FROM jsonb_object_keys($1::jsonb) AS given(id) WHERE given.id NOT IN (SELECT id FROM held)"
)
_bucket = lru_cache(names.bucket)


async def complete(tx: Transaction, completions: Sequence[Completion]) -> list[Completion]:
    """Record attempts in a system transaction; return those whose lease still held. A lost lease changes nothing."""
    if not completions:
        return []
    if tx.dialect == "postgresql":
        return await _complete_at_once(tx, completions)
    held = await _still_leased(tx, completions)
    kept = [one for one in completions if (*one.delivery.key, one.delivery.lease_token) in held]
    if kept:
        changed = [(*_changed(tx, one), *one.delivery.key, one.delivery.lease_token) for one in kept]
        await tx.write_each((_UPDATE_SQLITE, changed), (_INSERT_SQLITE, [_attempt_row(one) for one in kept]))
    return kept


async def _complete_at_once(tx: Transaction, completions: Sequence[Completion]) -> list[Completion]:
    by_id = {one.delivery.id: one for one in completions}
    rows = write_json({one.delivery.id: _cells(tx, one) for one in by_id.values()})
    lost = {row[0] for row in await tx.fetch(_RECORD_POSTGRESQL, rows, *_keys(completions))}
    kept = [one for one in by_id.values() if one.delivery.id not in lost]
    if len(by_id) == len(completions):
        return kept
    # One of them ran out of its lease and was leased anew: only one of the two leases still holds.
    return kept + await complete(tx, [one for one in completions if by_id[one.delivery.id] is not one])


async def _still_leased(tx: Transaction, completions: Sequence[Completion]) -> set[tuple[str, str, int, str]]:
    """Return which leases hold, with their tokens; nobody else writes before this transaction is over."""
    rows = await tx.fetch(_LEASED_SQLITE, *map(write_json, _keys(completions)))
    return {(row[0], row[1], row[2], row[3]) for row in rows}


def _keys(completions: Sequence[Completion]) -> list[list[Any]]:
    """Return their organizations, their ids and their days."""
    return [sorted(set(column)) for column in zip(*(one.delivery.key for one in completions), strict=True)]


def _attempt_row(completion: Completion) -> tuple[Any, ...]:
    """Return an attempt in the order of its columns, as SQLite's driver takes it."""
    delivery, outcome = completion.delivery, completion.ruling.outcome.value
    number, bucket, started_at, duration, *answer = _told_row(completion)
    return (delivery.org_id, delivery.id, number, delivery.day, bucket, started_at, duration, outcome, *answer)


def _told_row(completion: Completion) -> tuple[Any, ...]:
    """Return what an attempt is told with, in the order of `_TOLD`."""
    delivery = completion.delivery
    return (
        delivery.attempt_count + 1,
        _bucket(delivery.org_id),
        to_micros(completion.started_at),
        completion.duration // _MICROSECOND,
        completion.status_code,
        completion.response,
        completion.error,
    )


def _cells(tx: Transaction, completion: Completion) -> tuple[Any, ...]:
    """Return what is recorded of an attempt, in the order of `_CELLS`."""
    return (*_changed(tx, completion), completion.delivery.lease_token, *_told_row(completion))


def _changed(tx: Transaction, completion: Completion) -> tuple[Any, ...]:
    """Return what an attempt changes of its delivery, in the order of `_CHANGED`."""
    delivery = completion.delivery
    return (
        completion.state.value,
        # One that does not count is told among the attempts all the same; the schedule goes on where it was.
        delivery.attempts_before + (completion.our_fault is not None),
        None if completion.due_at is None else to_micros(completion.due_at),
        (delivery.lane or RETRY) if completion.state is DeliveryState.PENDING else FIRST,  # as if it were redelivered
        completion.ruling.outcome.value,
        None if completion.state is DeliveryState.PENDING else to_micros(tx.now),
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
