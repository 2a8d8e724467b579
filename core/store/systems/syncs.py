"""Syncs: durable jobs that bring records here and there in step, batch by batch, with what became of each record.

Position, counts and waits stand in the sync's row and change with the records of a batch, under a lease: a killed
process loses nothing, and another goes on when the lease has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import Boolean, Column, Index, Integer, Row, Table, delete, or_, select, text, update

from core import ids
from core.domain import names
from core.domain.frozen import frozen
from core.domain.systems.comparison import Conflict
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.paging import page
from core.store.systems.connections import connections
from core.store.transaction import Transaction

LEASE = timedelta(minutes=3)
"""A batch's calls take less; who takes longer has lost the sync."""

KEPT_FOR = timedelta(days=90)
"""How long it is known what a sync did."""

SCHEDULE = "schedule"
"""The actor of a sync that began by itself."""

_LOOKED_AT = 20


class SyncState(StrEnum):
    """Where a sync is in its life."""

    RUNNING = "running"
    WAITING = "waiting"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Tell whether nothing happens to it any more."""
        return self not in (SyncState.RUNNING, SyncState.WAITING)


_OPEN = text("state IN ('running', 'waiting')")

syncs = Table(
    "syncs",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("connection_id", Name, nullable=False),
    Column("direction", Name, nullable=False),
    # Record types; the mapped ones when it began.
    Column("types", Json, nullable=False),
    Column("whole", Boolean, nullable=False),
    Column("preview", Boolean, nullable=False),
    Column("state", Name, nullable=False),
    # Which of its steps (a direction and a type each) it is at, and where in it.
    Column("step", Integer, nullable=False),
    Column("cursor", Name, nullable=False),
    # Latest change there that the present step has seen.
    Column("high", Instant),
    Column("done_count", Integer, nullable=False),
    Column("pulled_count", Integer, nullable=False),
    Column("pushed_count", Integer, nullable=False),
    Column("conflict_count", Integer, nullable=False),
    Column("failed_count", Integer, nullable=False),
    # Faults in a row that may pass.
    Column("tries", Integer, nullable=False),
    Column("wait_reason", Name, nullable=False),
    Column("next_at", Instant, nullable=False),
    Column("lease_token", Name, nullable=False),
    Column("lease_until", Instant),
    Column("error", Name, nullable=False),
    Column("actor", Name, nullable=False),
    # Whose budget pays for the records: who started it, or set its schedule. NULL for nobody's.
    Column("spender", Json),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("syncs_open", "org_id", "connection_id", unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN),
    Index("syncs_due", "next_at", sqlite_where=_OPEN, postgresql_where=_OPEN),
)

sync_items = Table(
    "sync_items",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("sync_id", Name, nullable=False),
    Column("record_id", Name, nullable=False),
    Column("external_id", Name, nullable=False),
    Column("type", Name, nullable=False),
    Column("outcome", Name, nullable=False),
    # [{"field", "ours", "theirs", "winner"}]
    Column("conflicts", Json, nullable=False),
    Column("error", Name, nullable=False),
    Column("hint", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("sync_items_sync", "org_id", "sync_id", "id"),
)

OUTCOMES = (
    "created_here", "updated_here", "deleted_here", "created_there", "updated_there", "deleted_there", "unchanged",
    "conflict", "failed", "skipped",
)  # fmt: skip

Way = Literal["pull", "push", "pull_deletions", "push_deletions"]


@frozen
class Item:
    """What became of a record."""

    record_id: str
    external_id: str
    type: str
    outcome: str
    conflicts: tuple[Conflict, ...] = ()
    error: str = ""
    hint: str = ""


@frozen
class Claimed:
    """A sync that this process works on, as long as its lease lasts."""

    row: Row[Any]
    token: str


def steps(row: Row[Any]) -> list[tuple[Way, str]]:
    """Return the steps of a sync: what is done and a type each.

    What comes from there comes first, and deletions before all else: they make place for what has the same e-mail.
    """
    pulls: tuple[Way, ...] = ("pull_deletions", "pull") if row.direction != "push" else ()
    pushes: tuple[Way, ...] = ("push_deletions", "push") if row.direction != "pull" else ()
    return [(way, record_type) for way in (*pulls, *pushes) for record_type in row.types]


async def begin(
    tx: Transaction,
    connection_id: str,
    direction: str,
    types: Sequence[str],
    *,
    whole: bool,
    preview: bool,
    actor: str,
    spender: Mapping[str, str] | None = None,
) -> Row[Any] | None:
    """Insert a sync and return it; None where the connection has one under way."""
    row = {
        "id": ids.mint("syn", tx.now),
        "connection_id": connection_id,
        "direction": direction,
        "types": list(types),
        "whole": whole,
        "preview": preview,
        "state": SyncState.RUNNING,
        "step": 0,
        "cursor": "",
        "high": None,
        **dict.fromkeys(("done_count", "pulled_count", "pushed_count", "conflict_count", "failed_count", "tries"), 0),
        "wait_reason": "",
        "next_at": tx.now,
        "lease_token": "",
        "lease_until": None,
        "error": "",
        "actor": actor,
        "spender": None if spender is None else dict(spender),
        "created_at": tx.now,
        "ended_at": None,
    }
    if not await tx.insert(syncs, [row], on_conflict="ignore"):
        return None
    tx.wake("syncer")
    return await get(tx, str(row["id"]))


async def get(tx: Transaction, sync_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a sync, or None; `lock` holds it until the transaction ends."""
    statement = select(syncs).where(syncs.c.id == sync_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def open_of(tx: Transaction, connection_id: str) -> Row[Any] | None:
    """Return the sync of a connection that is under way, or None."""
    still = syncs.c.state.in_([SyncState.RUNNING, SyncState.WAITING])
    return await tx.first(select(syncs).where(syncs.c.connection_id == connection_id, still))


async def listed(tx: Transaction, connection_id: str, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of syncs, newest first, and the token of the next."""
    statement = select(syncs)
    if connection_id:
        statement = statement.where(syncs.c.connection_id == connection_id)
    return await page(tx, statement, syncs.c.id, size, token, filter_text=connection_id)


async def items(tx: Transaction, sync_id: str, outcome: str, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of what became of records, newest first, and the token of the next."""
    statement = select(sync_items).where(sync_items.c.sync_id == sync_id)
    if outcome:
        statement = statement.where(sync_items.c.outcome == outcome)
    return await page(tx, statement, sync_items.c.id, size, token, filter_text=f"{sync_id}|{outcome}")


async def due(tx: Transaction) -> Sequence[Row[Any]]:
    """Return the syncs that are under way, those that come next first, in a system transaction."""
    statement = select(syncs.c.org_id, syncs.c.id, syncs.c.next_at, syncs.c.lease_until)
    return await tx.all(statement.where(_OPEN).order_by(syncs.c.next_at).limit(_LOOKED_AT))


async def claim(tx: Transaction, sync_id: str) -> Claimed | None:
    """Lease a sync that is due; None where it is not, or another process works on it."""
    c = syncs.c
    free = or_(c.lease_until.is_(None), c.lease_until <= tx.now)
    statement = select(syncs).where(c.id == sync_id, _OPEN, c.next_at <= tx.now, free)
    row = await tx.first(statement.with_for_update(skip_locked=True))
    if row is None:
        return None
    token = ids.mint("lse", tx.now)
    values = {"lease_token": token, "lease_until": tx.now + LEASE, "state": SyncState.RUNNING, "wait_reason": ""}
    await tx.run(update(syncs).where(c.id == sync_id).values(values))
    return Claimed(row, token)


async def release_all(tx: Transaction) -> None:
    """End every lease, in a system transaction: for a database that no other process works on."""
    await tx.run(update(syncs).where(_OPEN).values(lease_until=None))


async def give_back(tx: Transaction, sync_id: str) -> None:
    """End the lease of a sync; it goes on where it was."""
    await tx.run(update(syncs).where(syncs.c.id == sync_id).values(lease_until=None, lease_token=""))
    tx.wake("syncer")


async def still_mine(tx: Transaction, claimed: Claimed) -> Row[Any] | None:
    """Return the sync, held until the transaction ends; None where it was cancelled or the lease was lost."""
    c = syncs.c
    mine = (c.id == claimed.row.id, c.lease_token == claimed.token, _OPEN)
    return await tx.first(select(syncs).where(*mine).with_for_update())


async def note(tx: Transaction, row: Row[Any], found: Sequence[Item], values: Mapping[str, Any]) -> None:
    """Write down what became of a batch, and where the sync is now; its lease ends."""
    counts = Counter(item.outcome for item in found)
    pulled = sum(count for outcome, count in counts.items() if outcome.endswith("_here"))
    pushed = sum(count for outcome, count in counts.items() if outcome.endswith("_there"))
    rows = [
        {
            "id": names.derive("sit", tx.now, row.id, row.step, item.type, item.external_id, item.record_id),
            "sync_id": row.id,
            "record_id": item.record_id,
            "external_id": item.external_id,
            "type": item.type,
            "outcome": item.outcome,
            "conflicts": [
                {"field": one.field, "ours": one.ours, "theirs": one.theirs, "winner": one.winner}
                for one in item.conflicts
            ],
            "error": item.error,
            "hint": item.hint,
            "created_at": tx.now,
        }
        for item in found
        if item.outcome != "unchanged"  # a sync in which nothing happens leaves no rows
    ]
    await tx.insert(sync_items, rows, on_conflict="ignore")
    changed = {
        "done_count": row.done_count + len(found),
        "pulled_count": row.pulled_count + pulled,
        "pushed_count": row.pushed_count + pushed,
        "conflict_count": row.conflict_count + sum(len(item.conflicts) for item in found),
        "failed_count": row.failed_count + counts["failed"],
        "tries": 0,
        "lease_until": None,
        "lease_token": "",
        **values,
    }
    await tx.run(update(syncs).where(syncs.c.id == row.id).values(changed))


async def wait(tx: Transaction, row: Row[Any], reason: str, until: datetime, *, tries: int) -> None:
    """Let a sync wait, and end its lease."""
    values = {
        "state": SyncState.WAITING,
        "wait_reason": reason[:500],
        "next_at": until,
        "tries": tries,
        "lease_until": None,
        "lease_token": "",
    }
    await tx.run(update(syncs).where(syncs.c.id == row.id).values(values))


async def end(tx: Transaction, sync_id: str, state: SyncState, error: str = "") -> Row[Any]:
    """End a sync that is known to exist, and return it."""
    values = {
        "state": state,
        "error": error[:1_000],
        "wait_reason": "",
        "ended_at": tx.now,
        "lease_until": None,
        "lease_token": "",
    }
    await tx.run(update(syncs).where(syncs.c.id == sync_id).values(values))
    row = await get(tx, sync_id)
    assert row is not None
    return row


async def mark(tx: Transaction, connection_id: str, marks: Mapping[str, Any], *, synced: bool) -> None:
    """Write down how far a connection has been brought in step."""
    values: dict[str, Any] = {"marks": dict(marks), **({"synced_at": tx.now} if synced else {})}
    await tx.run(update(connections).where(connections.c.id == connection_id).values(values))


async def remove_all(tx: Transaction, connection_id: str) -> None:
    """Forget every sync of a connection."""
    found = await tx.all(select(syncs.c.id).where(syncs.c.connection_id == connection_id))
    await tx.run(delete(sync_items).where(sync_items.c.sync_id.in_([row.id for row in found])))
    await tx.run(delete(syncs).where(syncs.c.connection_id == connection_id))


async def forget_old(tx: Transaction) -> int:
    """Delete what is told of syncs that ended long ago, some at a time, in a system transaction; return how many."""
    c = syncs.c
    old = await tx.all(select(c.org_id, c.id).where(c.ended_at < tx.now - KEPT_FOR).order_by(c.ended_at).limit(100))
    for row in old:
        here = tx.within(row.org_id)
        await here.run(delete(sync_items).where(sync_items.c.sync_id == row.id))
        await here.run(delete(syncs).where(c.id == row.id))
    return len(old)
