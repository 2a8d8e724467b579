"""Answers kept under their idempotency keys, written in the transaction that had the effect."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Column, Index, LargeBinary, Table, delete, select, update

from core.domain.errors import IdempotencyConflict
from core.store.metadata import Instant, Name, metadata, org_id
from core.store.transaction import Transaction

KEPT_FOR = timedelta(days=8)
"""At least the seven days promised, whenever in the day the cleaning runs."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    org_id(),
    Column("key", Name, primary_key=True),
    Column("request_hash", Name, nullable=False),
    Column("reply", LargeBinary),
    Column("created_at", Instant, nullable=False),
    Index("idempotency_keys_created_at", "created_at"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """The stored answer of an earlier call."""

    reply: bytes


async def begin(tx: Transaction, key: str, request_hash: str) -> Answer | None:
    """Take a key, or return the answer stored under it.

    The key is written first: a second call with it waits for the first one's commit, then reads its answer.
    Raises IdempotencyConflict when the key stands for another request.
    """
    if await tx.insert(
        idempotency_keys, [{"key": key, "request_hash": request_hash, "created_at": tx.now}], on_conflict="ignore"
    ):
        return None
    row = await tx.first(select(idempotency_keys).where(idempotency_keys.c.key == key))
    if row is None or row.request_hash != request_hash:
        raise IdempotencyConflict(key=key, first_hash=row.request_hash[:16] if row else "unknown")
    return Answer(row.reply or b"")


async def finish(tx: Transaction, key: str, reply: bytes) -> None:
    """Store the answer under a key taken in this transaction."""
    await tx.run(update(idempotency_keys).where(idempotency_keys.c.key == key).values(reply=reply))


async def forget_old(tx: Transaction) -> int:
    """Drop answers whose time is over, in a system transaction; return how many."""
    return await tx.run(delete(idempotency_keys).where(idempotency_keys.c.created_at < tx.now - KEPT_FOR))
