"""Erasures: what is left of a person is a tombstone, hashes of their addresses, and the line that says so.

What is the person's own is gone in the transaction of the call. What merely mentions them is searched for in slices:
at once where there is little history, by upkeep where there is much; until then the erasure knows what it looks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Table, select, text, update

from core.store import paging
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction

_UNDER_WAY = text("search IS NOT NULL")

erasures = Table(
    "erasures",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("record_id", Name, nullable=False),
    Column("reason", Name, nullable=False),
    Column("actor", Name, nullable=False),
    Column("record_count", Integer, nullable=False),
    Column("event_count", Integer, nullable=False),
    Column("message_count", Integer, nullable=False),
    # What is still looked for, and where; nothing once it is complete.
    Column("search", Json),
    Column("created_at", Instant, nullable=False),
    Index("erasures_record", "org_id", "record_id", unique=True),
    Index("erasures_under_way", "created_at", sqlite_where=_UNDER_WAY, postgresql_where=_UNDER_WAY),
)


async def add(tx: Transaction, row: Mapping[str, Any]) -> None:
    """Write an erasure."""
    await tx.insert(erasures, [{"created_at": tx.now, **row}])


async def get(tx: Transaction, erasure_id: str) -> Row[Any] | None:
    """Return an erasure, or None."""
    return await tx.first(select(erasures).where(erasures.c.id == erasure_id))


async def of_record(tx: Transaction, record_id: str) -> Row[Any] | None:
    """Return the erasure of a contact, or None."""
    return await tx.first(select(erasures).where(erasures.c.record_id == record_id))


async def is_erased(tx: Transaction, record_id: str) -> bool:
    """Tell whether a contact was erased."""
    return await of_record(tx, record_id) is not None


async def page(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of erasures, newest first, and the next token."""
    return await paging.page(tx, select(erasures), erasures.c.id, size, token, filter_text="erasures")


async def note(tx: Transaction, erasure_id: str, **values: Any) -> None:
    """Set columns of an erasure."""
    await tx.run(update(erasures).where(erasures.c.id == erasure_id).values(values))


async def under_way(tx: Transaction) -> Sequence[Row[Any]]:
    """Return the erasures of every organization that still look for mentions, in a system transaction."""
    return await tx.all(select(erasures.c.org_id, erasures.c.id).where(_UNDER_WAY).order_by(erasures.c.created_at))


async def take(tx: Transaction, erasure_id: str) -> Row[Any] | None:
    """Hold an erasure that still looks for mentions; None where another process has it, or it is complete."""
    statement = select(erasures).where(erasures.c.id == erasure_id, erasures.c.search.is_not(None))
    return await tx.first(statement.with_for_update(skip_locked=True))
