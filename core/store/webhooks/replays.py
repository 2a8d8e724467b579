"""Replays: durable jobs that make many final deliveries of one endpoint due again, at a rate.

Cursor, counts and pace stand in the replay's row and change with the deliveries, so a killed process loses nothing and
several processes keep to one rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Column,
    Float,
    Index,
    Integer,
    Row,
    Table,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from core.domain.frozen import frozen
from core.domain.webhooks import throttle
from core.domain.webhooks.states import DeliveryState, EndpointState
from core.store.metadata import Instant, Json, Name, day_of, metadata, org_id
from core.store.transaction import Transaction
from core.store.webhooks import endpoints
from core.store.webhooks.deliveries import day_in
from core.store.webhooks.delivery_tables import deliveries, messages
from core.store.webhooks.outbox import REPLAY

MOST_AT_ONCE = 500
"""Deliveries that one transaction makes due."""

LOOKS_AGAIN_AFTER = timedelta(seconds=10)
"""How long a running replay waits where its endpoint is not active."""

_LOOKED_AT = 100


class ReplayState(StrEnum):
    """Where a replay is in its life."""

    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Tell whether nothing happens to it any more."""
        return self in (ReplayState.COMPLETED, ReplayState.CANCELLED)


_RUNNING = text("state = 'running'")

replays = Table(
    "replays",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("endpoint_id", Name, nullable=False),
    # Final states of deliveries, and event types; no types for all.
    Column("states", Json, nullable=False),
    Column("event_types", Json, nullable=False),
    # Deliveries made from here on and before there; NULL for no bound.
    Column("start_at", Instant),
    Column("end_at", Instant),
    Column("rate_per_second", Float, nullable=False),
    Column("state", Name, nullable=False),
    # Counted when it was created.
    Column("total_count", Integer, nullable=False),
    Column("done_count", Integer, nullable=False),
    # Id of the last delivery it looked at; empty before the first.
    Column("cursor", Name, nullable=False),
    # When the next delivery may be made due.
    Column("next_at", Instant, nullable=False),
    Column("actor", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("completed_at", Instant),
    Index("replays_endpoint", "org_id", "endpoint_id", "id"),
    Index("replays_running", "next_at", sqlite_where=_RUNNING, postgresql_where=_RUNNING),
)


@frozen
class Choice:
    """Which deliveries a replay takes."""

    endpoint_id: str
    states: tuple[str, ...]
    event_types: tuple[str, ...]
    start_at: datetime | None
    end_at: datetime | None
    asked_at: datetime
    """What got its final state later is left alone: it was sent, or failed, since."""


async def count(tx: Transaction, choice: Choice) -> int:
    """Return how many deliveries a replay would take now."""
    row = await tx.first(select(func.count()).select_from(deliveries).where(*_chosen(choice)))
    assert row is not None
    return int(row[0])


async def create(tx: Transaction, replay_id: str, choice: Choice, *, rate: float, total: int, actor: str) -> Row[Any]:
    """Insert a running replay and return it."""
    row = {
        "id": replay_id,
        "endpoint_id": choice.endpoint_id,
        "states": list(choice.states),
        "event_types": list(choice.event_types),
        "start_at": choice.start_at,
        "end_at": choice.end_at,
        "rate_per_second": rate,
        "state": ReplayState.RUNNING,
        "total_count": total,
        "done_count": 0,
        "cursor": "",
        "next_at": tx.now,
        "actor": actor,
        "created_at": choice.asked_at,
        "completed_at": None,
    }
    await tx.insert(replays, [row])
    tx.wake("replayer")
    created = await get(tx, replay_id)
    assert created is not None
    return created


async def get(tx: Transaction, replay_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a replay, or None; `lock` holds it until the transaction ends."""
    statement = select(replays).where(replays.c.id == replay_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def count_open(tx: Transaction) -> int:
    """Return how many replays of the organization are running or paused."""
    still = replays.c.state.in_([state for state in ReplayState if not state.over])
    row = await tx.first(select(func.count()).select_from(replays).where(still))
    assert row is not None
    return int(row[0])


async def steer(tx: Transaction, replay_id: str, state: ReplayState, rate: float) -> Row[Any]:
    """Set state and rate of a replay that is known to exist, and return it; the pace begins anew."""
    values: dict[str, Any] = {"state": state, "rate_per_second": rate, "next_at": tx.now}
    if state.over:
        values["completed_at"] = tx.now
    await tx.run(update(replays).where(replays.c.id == replay_id).values(values))
    tx.wake("replayer")
    row = await get(tx, replay_id)
    assert row is not None
    return row


async def running(tx: Transaction) -> Sequence[Row[Any]]:
    """Return the running replays of every organization that come next, in a system transaction."""
    return await tx.all(
        select(replays.c.org_id, replays.c.id, replays.c.next_at)
        .where(replays.c.state == literal_column("'running'"))  # as in the partial index
        .order_by(replays.c.next_at)
        .limit(_LOOKED_AT)
    )


async def advance(tx: Transaction, org: str, replay_id: str) -> int:
    """Make the next deliveries of a running replay due, as many as its rate allows now, in a system transaction.

    Returns how many. A replay that another process advances, that waits or is over is left alone.
    """
    here = tx.within(org)
    mine = (replays.c.id == replay_id, replays.c.state == ReplayState.RUNNING, replays.c.next_at <= tx.now)
    row = await here.first(select(replays).where(*mine).with_for_update(skip_locked=True))
    if row is None:
        return 0
    endpoint = await endpoints.get(here, row.endpoint_id, lock="use")  # what is due for one that goes stays for ever
    if endpoint is None:
        await _note(here, row, state=ReplayState.CANCELLED, completed_at=tx.now)
        return 0
    if endpoint.state != EndpointState.ACTIVE:
        await _note(here, row, next_at=tx.now + LOOKS_AGAIN_AFTER)
        return 0
    allowed = min(throttle.allowed(row.rate_per_second, row.next_at, tx.now), MOST_AT_ONCE)
    chosen = await _next(here, row, allowed)
    await _make_due(here, row, chosen)
    through = len(chosen) < allowed
    await _note(
        here,
        row,
        done_count=row.done_count + len(chosen),
        cursor=chosen[-1].id if chosen else row.cursor,
        next_at=throttle.used(row.rate_per_second, row.next_at, tx.now, len(chosen)),
        state=ReplayState.COMPLETED if through else ReplayState.RUNNING,
        completed_at=tx.now if through else None,
    )
    return len(chosen)


async def _note(tx: Transaction, row: Row[Any], **values: Any) -> None:
    await tx.run(update(replays).where(replays.c.id == row.id).values(values))


async def _next(tx: Transaction, row: Row[Any], limit: int) -> Sequence[Row[Any]]:
    choice = Choice(
        endpoint_id=row.endpoint_id,
        states=tuple(row.states),
        event_types=tuple(row.event_types),
        start_at=row.start_at,
        end_at=row.end_at,
        asked_at=row.created_at,
    )
    statement = select(deliveries.c.id, deliveries.c.day).where(*_chosen(choice))
    if row.cursor:
        statement = statement.where(deliveries.c.id > row.cursor, deliveries.c.day >= day_in(row.cursor))
    return await tx.all(statement.order_by(deliveries.c.id).limit(limit).with_for_update())


async def _make_due(tx: Transaction, row: Row[Any], chosen: Sequence[Row[Any]]) -> None:
    """Give final deliveries a fresh schedule; nobody awaits them any more."""
    if not chosen:
        return
    values = {
        "state": DeliveryState.PENDING,
        "awaited": False,
        "attempts_before": deliveries.c.attempt_count,
        "due_at": tx.now,
        "lease_until": None,
        "lease_token": None,
        "ended_at": None,
        "replay_id": row.id,
        "lane": REPLAY,
    }
    these = (deliveries.c.id.in_([one.id for one in chosen]), deliveries.c.day.in_({one.day for one in chosen}))
    await tx.run(update(deliveries).where(*these).values(values))
    tx.wake("dispatcher")


def _chosen(choice: Choice) -> list[ColumnElement[bool]]:
    c = deliveries.c
    kept = exists(literal_column("1")).where(
        messages.c.org_id == c.org_id, messages.c.id == c.message_id, messages.c.day == c.day
    )
    conditions = [
        c.endpoint_id == choice.endpoint_id,
        c.state.in_(choice.states),
        func.coalesce(c.ended_at, c.created_at) <= choice.asked_at,
        or_(c.payload.is_not(None), kept),  # what is no longer kept cannot be sent
    ]
    if choice.event_types:
        conditions.append(c.event_type.in_(choice.event_types))
    # An id may be a little older than its row: the days spare partitions, the instants decide.
    if choice.start_at is not None:
        conditions += [c.created_at >= choice.start_at, c.day >= day_of(choice.start_at) - 1]
    if choice.end_at is not None:
        conditions += [c.created_at < choice.end_at, c.day <= day_of(choice.end_at) + 1]
    return conditions
