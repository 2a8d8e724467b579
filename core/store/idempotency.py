"""Answers kept under their idempotency keys, written in the transaction that had the effect."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Column, Index, LargeBinary, Row, Table, delete, select, update
from sqlalchemy.sql.elements import ColumnElement

from core.domain.errors import IdempotencyConflict
from core.domain.frozen import frozen
from core.store.metadata import Instant, Name, metadata, org_id
from core.store.transaction import Transaction

KEPT_FOR = timedelta(days=8)
"""At least the seven days promised, whenever in the day the cleaning runs."""

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    org_id(),
    # Whose key it is: two principals that choose the same one never see each other's answers.
    Column("principal_id", Name, primary_key=True),
    Column("key", Name, primary_key=True),
    # What was called, such as `RecordService.UpdateRecord`: it says what the answer is a message of.
    Column("method", Name, nullable=False),
    Column("request_hash", Name, nullable=False),
    # The call's own id, by which its changes are known: keys are forgotten, and used again.
    Column("call_id", Name, nullable=False),
    Column("reply", LargeBinary),
    Column("created_at", Instant, nullable=False),
    Index("idempotency_keys_created_at", "created_at"),
)


@frozen
class Answer:
    """The stored answer of an earlier call."""

    reply: bytes


async def begin(
    tx: Transaction, principal_id: str, key: str, method: str, request_hash: str, call_id: str
) -> Answer | None:
    """Take a key, or return the answer stored under it.

    The key is written first: a second call with it waits for the first one's commit, then reads its answer.
    Raises IdempotencyConflict when the key stands for another request.
    """
    row = {"principal_id": principal_id, "key": key, "method": method, "request_hash": request_hash}
    if await tx.insert(idempotency_keys, [row | {"call_id": call_id, "created_at": tx.now}], on_conflict="ignore"):
        return None
    stored = await find(tx, principal_id, key)
    if stored is None:
        raise IdempotencyConflict(key=key, method=method, first_hash="unknown", first_time="unknown")
    if stored.request_hash != request_hash:
        first_time = f"{stored.created_at:%Y-%m-%dT%H:%M:%SZ}"
        raise IdempotencyConflict(
            key=key, method=stored.method, first_hash=stored.request_hash[:16], first_time=first_time
        )
    tx.repeats.add("answer")
    return Answer(stored.reply or b"")


async def find(tx: Transaction, principal_id: str, key: str) -> Row[Any] | None:
    """Return what is kept under a key, or None."""
    return await tx.first(select(idempotency_keys).where(*_is(principal_id, key)))


async def finish(tx: Transaction, principal_id: str, key: str, reply: bytes) -> None:
    """Store the answer under a key taken in this transaction."""
    await tx.run(update(idempotency_keys).where(*_is(principal_id, key)).values(reply=reply))


async def release(tx: Transaction, principal_id: str, key: str) -> None:
    """Give back a key taken in this transaction."""
    await tx.run(delete(idempotency_keys).where(*_is(principal_id, key)))


def _is(principal_id: str, key: str) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return idempotency_keys.c.principal_id == principal_id, idempotency_keys.c.key == key


async def forget_old(tx: Transaction) -> int:
    """Drop answers whose time is over, in a system transaction; return how many."""
    return await tx.run(delete(idempotency_keys).where(idempotency_keys.c.created_at < tx.now - KEPT_FOR))
