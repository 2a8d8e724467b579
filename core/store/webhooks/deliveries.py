"""Messages, their deliveries and every attempt: written with what caused them, read by API calls; `outbox` sends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import structlog
from sqlalchemy import Row, select, update

from core.domain import names
from core.domain.effects import Emit
from core.domain.enrollment import DeliveryEnded
from core.domain.errors import Invalid
from core.domain.frozen import frozen
from core.domain.webhooks import bodies, filters
from core.domain.webhooks.bodies import PayloadFormat
from core.domain.webhooks.classify import Outcome
from core.domain.webhooks.event_types import CATALOGUE
from core.domain.webhooks.filters import FilteredEvent
from core.domain.webhooks.own_types import OwnType
from core.domain.webhooks.states import DeliveryState
from core.store.metadata import day_of
from core.store.transaction import Transaction
from core.store.webhooks import delivery_numbers, subscribers
from core.store.webhooks import event_types as own_types
from core.store.webhooks.delivery_tables import FIRST
from core.store.webhooks.delivery_tables import deliveries as deliveries
from core.store.webhooks.delivery_tables import delivery_attempts as delivery_attempts
from core.store.webhooks.delivery_tables import messages as messages
from core.store.webhooks.subscribers import Subscriber

_log = structlog.get_logger()


@frozen
class Emission:
    """An event to send, for an organization."""

    org_id: str
    effect: Emit
    enrollment_id: str = ""
    except_endpoint_id: str = ""
    """This endpoint is not told: the event is about it."""


@frozen
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


@frozen
class Reach:
    """How far an event gets."""

    sent: int
    """Deliveries that will have an outcome."""
    skipped: int
    """Deliveries to disabled endpoints: kept, and to be replayed once those are on."""

    @property
    def silence(self) -> Outcome | None:
        """Return why it reaches nobody; None for one that reaches somebody."""
        if self.sent:
            return None
        return Outcome.ENDPOINT_DISABLED if self.skipped else Outcome.NO_ENDPOINT


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
    "ended_at",
    "place",
    "contact_id",
    "payload",
]


@frozen
class _Told:
    """One event for one endpoint."""

    emission: Emission
    subscriber: Subscriber
    contact_id: str

    @property
    def contact(self) -> tuple[str, str]:
        return (self.emission.org_id, self.contact_id)


async def emit(
    tx: Transaction, emissions: Sequence[Emission], there: Mapping[str, Sequence[Subscriber]] | None = None
) -> dict[str, Reach]:
    """Write one message an event and one delivery for every endpoint that wants it, whatever the endpoint's state.

    Returns how far each message gets, by message id; what disabled endpoints want is written as skipped. One that
    reaches nobody will never end: nobody listens, or the data was refused (which is logged). A message that only
    filters keep from being sent is kept, so that they can be tried on it. Works for many organizations at once in a
    system transaction, with one query for their endpoints, and waits for no other writer. `there` are the endpoints,
    where the caller has read them in this transaction.
    """
    if not emissions:
        return {}
    if there is None:
        there = await subscribers.of(tx, (emission.org_id for emission in emissions))
    wanted = [(emission, found) for emission in emissions if (found := _wanting(emission, there))]
    own = await _own_types(tx, [emission for emission, _ in wanted])
    told: list[_Told] = []
    message_rows: list[tuple[Any, ...]] = []
    for emission, wanting in wanted:
        payload = _payload(tx, emission, own)
        if payload is not None:
            message_rows.append(_message_row(tx, emission, payload))
            contact = bodies.contact_of(emission.effect.data)
            told += [_Told(emission, one, contact) for one in _passing(tx, emission, payload, wanting)]
    await tx.bulk_insert(messages, _MESSAGE_COLUMNS, message_rows)
    await tx.bulk_insert(deliveries, _DELIVERY_COLUMNS, await _delivery_rows(tx, told))
    if told:
        tx.wake("dispatcher")
    counts = Counter((one.emission.effect.id, one.subscriber.disabled) for one in told)
    return {id_: Reach(counts[id_, False], counts[id_, True]) for id_ in (emission.effect.id for emission in emissions)}


def _wanting(emission: Emission, there: Mapping[str, Sequence[Subscriber]]) -> list[Subscriber]:
    effect = emission.effect
    return [
        one
        for one in there.get(emission.org_id, ())
        if one.id != emission.except_endpoint_id and one.wants(effect.event_type, effect.endpoint_id)
    ]


def _passing(tx: Transaction, emission: Emission, payload: str, wanting: Sequence[Subscriber]) -> list[Subscriber]:
    """Return those whose filter an event passes; the filter sees what the receiver would read."""
    if not any(one.filter for one in wanting):
        return list(wanting)
    event = FilteredEvent(emission.effect.event_type, tx.now, bodies.data_in(payload))
    return [one for one in wanting if filters.passes(one.filter, event).passed]


def _payload(tx: Transaction, emission: Emission, own: Mapping[tuple[str, str], OwnType]) -> str | None:
    effect = emission.effect
    try:
        text = bodies.standard(effect.event_type, tx.now, effect.data)
        declared = own.get((emission.org_id, effect.event_type))
        if declared is not None and (problems := declared.problems(bodies.data_in(text))):
            raise Invalid(*problems)
        return text
    except Invalid as error:
        why = [f"{one.field} {one.reason}" for one in error.violations]  # their sentences quote what is in the event
        _log.error("event refused", event_type=effect.event_type, message_id=effect.id, why=why)
        return None


async def _own_types(tx: Transaction, emissions: Sequence[Emission]) -> Mapping[tuple[str, str], OwnType]:
    asked = {(one.org_id, one.effect.event_type) for one in emissions if one.effect.event_type not in CATALOGUE}
    return await own_types.schemas_of(tx, asked) if asked else {}


def _message_row(tx: Transaction, emission: Emission, payload: str) -> tuple[Any, ...]:
    org, effect = emission.org_id, emission.effect
    day, bucket = day_in(effect.id), names.bucket(org)
    return (org, effect.id, day, bucket, effect.event_type, payload, emission.enrollment_id, tx.now)


async def _delivery_rows(tx: Transaction, told: Sequence[_Told]) -> list[tuple[Any, ...]]:
    arrays = [one for one in told if one.subscriber.form is PayloadFormat.ARRAY and one.contact_id]
    reached = await subscribers.addresses_of(tx, (one.contact for one in arrays))
    rows = []
    for one, place in zip(told, await delivery_numbers.places(tx, len(told)), strict=True):
        org, effect = one.emission.org_id, one.emission.effect
        addresses = reached.get(one.contact, bodies.NOBODY)
        body = bodies.in_form(one.subscriber.form, org, effect.event_type, tx.now, effect.data, addresses)
        rows.append(_delivery_row(tx, one, place, body))
    return rows


def _delivery_row(tx: Transaction, told: _Told, place: int, body: str | None) -> tuple[Any, ...]:
    org, effect, skipped = told.emission.org_id, told.emission.effect, told.subscriber.disabled
    return (
        org,
        names.derive("dlv", names.minted_at(effect.id), effect.id, told.subscriber.id),
        day_in(effect.id),
        names.bucket(org),
        effect.id,
        told.subscriber.id,
        effect.event_type,
        told.emission.enrollment_id,
        effect.awaited,
        DeliveryState.SKIPPED if skipped else DeliveryState.PENDING,
        0,
        0,
        None if skipped else tx.now,
        Outcome.ENDPOINT_DISABLED if skipped else "",
        tx.now,
        tx.now if skipped else None,
        place,
        told.contact_id if told.subscriber.ordered else "",
        body,
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


async def is_kept(tx: Transaction, row: Row[Any]) -> bool:
    """Tell whether the body of a delivery is still there, so that it can be sent again."""
    if row.payload is not None:
        return True
    here = (messages.c.id == row.message_id, messages.c.day == row.day)
    return await tx.first(select(messages.c.id).where(*here)) is not None


async def restart(tx: Transaction, row: Row[Any]) -> None:
    """Make a delivery due now with a fresh schedule, as if it were new; a final one is no longer awaited by anybody."""
    values = {
        "state": DeliveryState.PENDING,
        "awaited": bool(row.awaited) and row.state == DeliveryState.PENDING,
        "attempts_before": row.attempt_count,
        "due_at": tx.now,
        "lease_until": None,
        "lease_token": None,
        "ended_at": None,
        "lane": FIRST,
        "replay_id": None,
    }
    await tx.run(update(deliveries).where(deliveries.c.id == row.id, deliveries.c.day == row.day).values(values))
    tx.wake("dispatcher")


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
