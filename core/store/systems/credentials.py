"""Credentials of connections, sealed: what signs in to another system stands in no other table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Column, Index, LargeBinary, Table, delete, select, update

from core import ids
from core.domain.systems import envelope
from core.domain.systems.envelope import MasterKey, Sealed
from core.store.metadata import Instant, Name, dump_json, metadata, org_id, read_json
from core.store.transaction import Transaction

credentials = Table(
    "credentials",
    metadata,
    org_id(),
    Column("connection_id", Name, primary_key=True),
    # Id of the master key that wraps the data key.
    Column("key_id", Name, nullable=False),
    # Data key under the master key, and the credentials under the data key: nonce and ciphertext each.
    Column("wrapped", LargeBinary, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("credentials_key", "key_id"),
)


async def put(tx: Transaction, keys: tuple[MasterKey, ...], connection_id: str, given: Mapping[str, str]) -> None:
    """Seal and store the credentials of a connection, in place of those that were there."""
    sealed = envelope.seal(keys[0], dump_json(given).encode(), _about(tx.org_id, connection_id), ids.new_secret_bytes)
    row = {"key_id": sealed.key_id, "wrapped": sealed.wrapped, "body": sealed.body, "updated_at": tx.now}
    if not await tx.insert(credentials, [{"connection_id": connection_id, **row}], on_conflict="ignore"):
        await tx.run(update(credentials).where(credentials.c.connection_id == connection_id).values(row))


async def get(
    tx: Transaction, keys: tuple[MasterKey, ...], connection_id: str, *, lock: bool = False
) -> dict[str, str] | None:
    """Return the credentials of a connection, or None; `lock` holds them until the transaction ends.

    Raises CannotOpen.
    """
    statement = select(credentials).where(credentials.c.connection_id == connection_id)
    row = await tx.first(statement.with_for_update() if lock else statement)
    if row is None:
        return None
    sealed = Sealed(row.key_id, bytes(row.wrapped), bytes(row.body))
    return dict(read_json(envelope.unseal(keys, sealed, _about(row.org_id, connection_id)).decode()))


async def which(tx: Transaction, connection_ids: list[str]) -> set[str]:
    """Return which of these connections have credentials."""
    c = credentials.c
    return {
        row.connection_id for row in await tx.all(select(c.connection_id).where(c.connection_id.in_(connection_ids)))
    }


async def remove(tx: Transaction, connection_id: str) -> None:
    """Forget the credentials of a connection."""
    await tx.run(delete(credentials).where(credentials.c.connection_id == connection_id))


async def rewrap(tx: Transaction, keys: tuple[MasterKey, ...], limit: int = 500) -> int:
    """Wrap some data keys anew under the first key, in a system transaction; return how many were not yet.

    Raises CannotOpen.
    """
    c = credentials.c
    statement = select(credentials).where(c.key_id != keys[0].id).order_by(c.org_id, c.connection_id).limit(limit)
    rows = await tx.all(statement.with_for_update())
    for row in rows:
        about = _about(row.org_id, row.connection_id)
        sealed = envelope.rewrap(
            keys, Sealed(row.key_id, bytes(row.wrapped), bytes(row.body)), about, ids.new_secret_bytes
        )
        values: dict[str, Any] = {"key_id": sealed.key_id, "wrapped": sealed.wrapped}
        where = (c.org_id == row.org_id, c.connection_id == row.connection_id)
        await tx.run(update(credentials).where(*where).values(values))
    return len(rows)


def _about(org: str, connection_id: str) -> str:
    return f"{org}/{connection_id}"
