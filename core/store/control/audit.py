"""The audit log: one row for whatever changed anything, written in the transaction that changed it.

Rows come without a place in the chain, so that no writer waits for another one; `audit_chain` seals them afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, Row, Select, Table, func, select, text

from core import ids
from core.domain import names
from core.domain.control.audit import Entry, as_id, told_reason
from core.store.metadata import Instant, Name, day_of, metadata, org_id
from core.store.transaction import Transaction

_UNSEALED = "sequence IS NULL"

audit_entries = Table(
    "audit_entries",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("day", Integer, primary_key=True),
    # Place in the chain, and the hashes that hold it there; none until the entry is sealed.
    Column("sequence", BigInteger),
    Column("previous_hash", Name, nullable=False),
    Column("hash", Name, nullable=False),
    Column("principal_id", Name, nullable=False),
    Column("principal_kind", Name, nullable=False),
    Column("on_behalf_of", Name, nullable=False),
    Column("method", Name, nullable=False),
    Column("surface", Name, nullable=False),
    Column("request_id", Name, nullable=False),
    Column("subject_id", Name, nullable=False),
    Column("summary", Name, nullable=False),
    Column("reason", Name, nullable=False),
    Column("request_digest", Name, nullable=False),
    Column("before_digest", Name, nullable=False),
    Column("after_digest", Name, nullable=False),
    Column("create_time", Instant, nullable=False),
    Index("audit_entries_sequence", "org_id", "sequence"),
    Index("audit_entries_subject", "org_id", "subject_id", "id"),
    Index(
        "audit_entries_unsealed",
        "org_id",
        "id",
        sqlite_where=text(_UNSEALED),
        postgresql_where=text(_UNSEALED),
    ),
    postgresql_partition_by="RANGE (day)",
)

audit_heads = Table(
    "audit_heads",
    metadata,
    org_id(),
    # The end of the chain.
    Column("sequence", BigInteger, nullable=False),
    Column("hash", Name, nullable=False),
    Column("sealed_at", Instant, nullable=False),
    # The anchor: the last entry that is no longer kept, so that what is kept can still be checked.
    Column("anchor_sequence", BigInteger, nullable=False),
    Column("anchor_hash", Name, nullable=False),
)

FILTERED: Mapping[str, str] = {
    **{name: "string" for name in ("principal_id", "method", "subject_id", "request_id", "surface")},
    "create_time": "instant",
}
"""What the list can be filtered by."""

_COLUMNS = [column.name for column in audit_entries.c]


async def add(tx: Transaction, entry: Entry) -> None:
    """Write an entry, sealed within about a second of the commit."""
    row = (
        *(entry.organization_id, entry.id, day_of(entry.created_at), None, "", ""),
        *(entry.principal_id, entry.principal_kind, entry.on_behalf_of, entry.method, entry.surface),
        *(entry.request_id, entry.subject_id, entry.summary, entry.reason),
        *(entry.request_digest, entry.before_digest, entry.after_digest, entry.created_at),
    )
    await tx.bulk_insert(audit_entries, _COLUMNS, [row])


async def by_system(
    tx: Transaction,
    org: str,
    what: str,
    *,
    subject_id: str,
    summary: str,
    reason: str = "",
    cause: str = "",
    actor: str = "system",
    surface: str = "system",
) -> None:
    """Write down what was done without a call: by this program itself, such as `DisableEndpoint`, or by a link.

    `cause` is what led to it. `actor` is who did it where that was not this program: a source, a page.
    """
    entry = Entry(
        organization_id=org,
        id=ids.mint("aud", tx.now),
        principal_id=as_id(actor),
        principal_kind="system",
        on_behalf_of="",
        method=f"System.{what}",
        surface=surface,
        request_id=as_id(cause),
        subject_id=as_id(subject_id),
        summary=summary,
        reason=told_reason(reason),
        request_digest="",
        before_digest="",
        after_digest="",
        created_at=tx.now,
    )
    await add(tx, entry)


def entry_of(row: Row[Any]) -> Entry:
    """Return what a row says, but for its place in the chain."""
    return Entry(
        organization_id=row.org_id,
        id=row.id,
        principal_id=row.principal_id,
        principal_kind=row.principal_kind,
        on_behalf_of=row.on_behalf_of,
        method=row.method,
        surface=row.surface,
        request_id=row.request_id,
        subject_id=row.subject_id,
        summary=row.summary,
        reason=row.reason,
        request_digest=row.request_digest,
        before_digest=row.before_digest,
        after_digest=row.after_digest,
        created_at=row.create_time,
    )


def listing() -> Select[Any]:
    """Return the statement of the list of entries."""
    return select(audit_entries)


async def get(tx: Transaction, entry_id: str) -> Row[Any] | None:
    """Return an entry, sealed or not, or None."""
    c = audit_entries.c
    return await tx.first(select(audit_entries).where(c.id == entry_id, c.day == _day_in(entry_id)))


def _day_in(entry_id: str) -> int:
    try:
        return day_of(names.minted_at(entry_id))
    except (ValueError, OverflowError, OSError):
        return 0  # no entry is of that day


async def after(tx: Transaction, sequence: int, limit: int, *, since_day: int = 0) -> Sequence[Row[Any]]:
    """Return the entries that follow one in the chain; `since_day` leaves older partitions alone."""
    c = audit_entries.c
    statement = select(audit_entries).where(c.sequence > sequence, c.day >= since_day)
    return await tx.all(statement.order_by(c.sequence).limit(limit))


async def head(tx: Transaction) -> Row[Any] | None:
    """Return the end of the chain and its anchor; None before the first entry is sealed."""
    return await tx.first(select(audit_heads))


async def unsealed_count(tx: Transaction) -> int:
    """Return how many entries have no place in the chain yet."""
    row = await tx.first(select(func.count()).select_from(audit_entries).where(audit_entries.c.sequence.is_(None)))
    return int(row[0]) if row else 0
