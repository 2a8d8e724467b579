"""Messages, their deliveries and every attempt: written with what caused them, read by API calls; `outbox` sends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, Row, SmallInteger, Table, select, text, update

from core.domain import names
from core.domain.effects import Emit
from core.domain.enrollment import DeliveryEnded
from core.domain.errors import Invalid
from core.domain.webhooks import event_types
from core.domain.webhooks.classify import Outcome
from core.domain.webhooks.states import DeliveryState
from core.store import endpoints
from core.store.metadata import Instant, Name, day_of, metadata, org_id
from core.store.transaction import Transaction

_log = structlog.get_logger()

messages = Table(
    "messages",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("bucket", SmallInteger, nullable=False),
    Column("event_type", Name, nullable=False),
    # The body, made once: signed as stored, sent as stored.
    Column("payload", Name, nullable=False),
    Column("enrollment_id", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    postgresql_partition_by="RANGE (day)",
)

deliveries = Table(
    "deliveries",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("bucket", SmallInteger, nullable=False),
    Column("message_id", Name, nullable=False),
    Column("endpoint_id", Name, nullable=False),
    Column("event_type", Name, nullable=False),
    Column("enrollment_id", Name, nullable=False),
    Column("awaited", Boolean, nullable=False),
    Column("state", Name, nullable=False),
    Column("attempt_count", Integer, nullable=False),
    # Attempts made before the last redelivery; the retry schedule counts from here.
    Column("attempts_before", Integer, nullable=False),
    # When to send; while it is being sent, when the lease ends.
    Column("due_at", Instant),
    Column("lease_until", Instant),
    Column("lease_token", Name),
    Column("last_outcome", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    # Position among the endpoint's messages, without gaps; 0 for those from before there was one.
    Column("sequence", BigInteger, nullable=False, server_default="0"),
    # What orders it among others: the contact; empty for nothing.
    Column("contact_id", Name, nullable=False, server_default=""),
    # The body, where the endpoint's form is not the message's own; NULL for the message's.
    Column("payload", Name),
    # The replay that made it due again.
    Column("replay_id", Name),
    # Endpoint before time: an endpoint with a long backlog is skipped in one step.
    Index(
        "deliveries_due",
        "org_id",
        "endpoint_id",
        "due_at",
        sqlite_where=text("state = 'pending'"),
        postgresql_where=text("state = 'pending'"),
    ),
    Index("deliveries_endpoint", "org_id", "endpoint_id", "id"),
    Index("deliveries_message", "org_id", "message_id"),
    Index(
        "deliveries_enrollment",
        "org_id",
        "enrollment_id",
        "id",
        sqlite_where=text("enrollment_id <> ''"),
        postgresql_where=text("enrollment_id <> ''"),
    ),
    postgresql_partition_by="RANGE (day)",
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    org_id(),
    Column("delivery_id", Name, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("bucket", SmallInteger, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("duration_us", BigInteger, nullable=False),
    Column("outcome", Name, nullable=False),
    Column("status_code", Integer, nullable=False),
    Column("response", Name, nullable=False),
    Column("error", Name, nullable=False),
    postgresql_partition_by="RANGE (day)",
)


@dataclass(frozen=True, slots=True)
class Emission:
    """An event to send, for an organization."""

    org_id: str
    effect: Emit
    enrollment_id: str = ""
    except_endpoint_id: str = ""
    """This endpoint is not told: the event is about it."""


@dataclass(frozen=True, slots=True)
class FinalDelivery:
    """The final outcome of a message that an enrollment waits for."""

    org_id: str
    enrollment_id: str
    message_id: str
    delivered: bool
    outcome: str
    status_code: int = 0
    answer: Any = None
    """What the receiver that answered last said, where it was JSON."""

    @property
    def stimulus(self) -> DeliveryEnded:
        """Return it as the enrollment is told."""
        return DeliveryEnded(self.message_id, self.delivered, self.outcome, self.status_code, self.answer)


_MESSAGE_COLUMNS = ["org_id", "id", "day", "bucket", "event_type", "payload", "enrollment_id", "created_at"]
_DELIVERY_COLUMNS = [
    "org_id",
    "id",
    "day",
    "bucket",
    "message_id",
    "endpoint_id",
    "event_type",
    "enrollment_id",
    "awaited",
    "state",
    "attempt_count",
    "attempts_before",
    "due_at",
    "last_outcome",
    "created_at",
]


async def emit(tx: Transaction, emissions: Sequence[Emission]) -> dict[str, int]:
    """Write one message an event and one delivery for every endpoint that wants it, whatever the endpoint's state.

    Returns how many deliveries each message got, by message id. Zero means that nothing was written and nothing will
    ever end: nobody listens, or the data was refused (which is logged). Works for many organizations at once in a
    system transaction, with one query for their endpoints.
    """
    if not emissions:
        return {}
    there = await endpoints.listeners(tx, (emission.org_id for emission in emissions))
    counts: dict[str, int] = {}
    message_rows: list[tuple[Any, ...]] = []
    delivery_rows: list[tuple[Any, ...]] = []
    for emission in emissions:
        receivers = _receivers(emission, there.get(emission.org_id, ()))
        payload = _payload(tx, emission) if receivers else None
        counts[emission.effect.id] = len(receivers) if payload is not None else 0
        if payload is not None:
            message_rows.append(_message_row(tx, emission, payload))
            delivery_rows += [_delivery_row(tx, emission, endpoint_id) for endpoint_id in receivers]
    if message_rows:
        await tx.bulk_insert(messages, _MESSAGE_COLUMNS, message_rows)
        await tx.bulk_insert(deliveries, _DELIVERY_COLUMNS, delivery_rows)
        tx.wake("dispatcher")
    return counts


def _receivers(emission: Emission, there: Iterable[tuple[str, frozenset[str]]]) -> list[str]:
    effect = emission.effect
    return [
        endpoint_id
        for endpoint_id, wanted in there
        if (effect.endpoint_id == endpoint_id if effect.endpoint_id else not wanted or effect.event_type in wanted)
        and endpoint_id != emission.except_endpoint_id
    ]


def _payload(tx: Transaction, emission: Emission) -> str | None:
    effect = emission.effect
    try:
        return event_types.payload(effect.event_type, tx.now, effect.data)
    except Invalid as error:
        why = [f"{one.field} {one.reason}" for one in error.violations]  # their sentences quote what is in the event
        _log.error("event refused", event_type=effect.event_type, message_id=effect.id, why=why)
        return None


def _message_row(tx: Transaction, emission: Emission, payload: str) -> tuple[Any, ...]:
    org, effect = emission.org_id, emission.effect
    return (
        org,
        effect.id,
        day_in(effect.id),
        names.bucket(org),
        effect.event_type,
        payload,
        emission.enrollment_id,
        tx.now,
    )


def _delivery_row(tx: Transaction, emission: Emission, endpoint_id: str) -> tuple[Any, ...]:
    org, effect = emission.org_id, emission.effect
    return (
        org,
        names.derive("dlv", names.minted_at(effect.id), effect.id, endpoint_id),
        day_in(effect.id),
        names.bucket(org),
        effect.id,
        endpoint_id,
        effect.event_type,
        emission.enrollment_id,
        effect.awaited,
        DeliveryState.PENDING,
        0,
        0,
        tx.now,
        "",
        tx.now,
    )


def day_in(name: str) -> int:
    """Return the partition that an id lives in; an id that is not ours lives nowhere, in partition 0."""
    try:
        return day_of(names.minted_at(name))
    except (ValueError, OverflowError, OSError):
        return 0


async def get(tx: Transaction, delivery_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a delivery, or None; `lock` holds it until the transaction ends."""
    statement = select(deliveries).where(deliveries.c.id == delivery_id, deliveries.c.day == day_in(delivery_id))
    return await tx.first(statement.with_for_update() if lock else statement)


async def payload_of(tx: Transaction, message_id: str) -> str:
    """Return the stored body of a message; empty when it is no longer kept."""
    row = await tx.first(
        select(messages.c.payload).where(messages.c.id == message_id, messages.c.day == day_in(message_id))
    )
    return "" if row is None else str(row.payload)


async def attempts_of(tx: Transaction, delivery_id: str) -> Sequence[Row[Any]]:
    """Return every attempt of a delivery, oldest first."""
    return await tx.all(
        select(delivery_attempts)
        .where(delivery_attempts.c.delivery_id == delivery_id, delivery_attempts.c.day == day_in(delivery_id))
        .order_by(delivery_attempts.c.number)
    )


async def restart(tx: Transaction, row: Row[Any]) -> None:
    """Make a delivery due now with a fresh schedule; a final one is no longer awaited by anybody."""
    values = {
        "state": DeliveryState.PENDING,
        "awaited": bool(row.awaited) and row.state == DeliveryState.PENDING,
        "attempts_before": row.attempt_count,
        "due_at": tx.now,
        "lease_until": None,
        "lease_token": None,
        "ended_at": None,
    }
    await tx.run(update(deliveries).where(deliveries.c.id == row.id, deliveries.c.day == row.day).values(values))
    tx.wake("dispatcher")


async def drop_for(tx: Transaction, endpoint_id: str) -> list[FinalDelivery]:
    """End what waits for an endpoint that goes away; return the awaited messages that thereby got their outcome.

    An attempt under way is not recorded any more: its lease is gone.
    """
    pending = (deliveries.c.endpoint_id == endpoint_id, deliveries.c.state == DeliveryState.PENDING)
    awaited = await tx.all(
        select(deliveries.c.org_id, deliveries.c.message_id, deliveries.c.enrollment_id)
        .where(*pending, deliveries.c.awaited)
        .order_by(deliveries.c.id)
        .with_for_update()
    )
    values = {
        "state": DeliveryState.DROPPED,
        "due_at": None,
        "lease_until": None,
        "lease_token": None,
        "last_outcome": Outcome.ENDPOINT_DELETED,
        "ended_at": tx.now,
    }
    await tx.run(update(deliveries).where(*pending).values(values))
    return await finals(tx, {(row.org_id, row.message_id): row.enrollment_id for row in awaited}, {})


async def finals(
    tx: Transaction,
    ended: Mapping[tuple[str, str], str],
    status_codes: Mapping[tuple[str, str], int],
    answers: Mapping[tuple[str, str], Any] | None = None,
) -> list[FinalDelivery]:
    """Return which of these messages, (organization, id) to enrollment, have no awaited delivery left to wait for.

    A message counts as delivered when every endpoint took it. The message rows are locked first, so that of two
    deliveries that end at once the second sees the first.
    """
    found = []
    for org, message_id in sorted(ended):
        key = (messages.c.org_id == org, messages.c.id == message_id, messages.c.day == day_in(message_id))
        await tx.first(select(messages.c.id).where(*key).with_for_update())
        rows = await tx.all(
            select(deliveries.c.state, deliveries.c.last_outcome)
            .where(
                deliveries.c.org_id == org,
                deliveries.c.message_id == message_id,
                deliveries.c.day == day_in(message_id),
                deliveries.c.awaited,
            )
            .order_by(deliveries.c.id)
        )
        if any(row.state == DeliveryState.PENDING for row in rows):
            continue
        failed = [row.last_outcome for row in rows if row.state != DeliveryState.DELIVERED]
        found.append(
            FinalDelivery(
                org_id=org,
                enrollment_id=ended[org, message_id],
                message_id=message_id,
                delivered=not failed,
                outcome=failed[0] if failed else Outcome.DELIVERED,
                status_code=status_codes.get((org, message_id), 0),
                answer=(answers or {}).get((org, message_id)),
            )
        )
    return found


def next_attempt_time(row: Row[Any]) -> datetime | None:
    """Return when a delivery is tried next; None while it is being sent and once it is final."""
    return row.due_at if row.state == DeliveryState.PENDING and row.lease_token is None else None
