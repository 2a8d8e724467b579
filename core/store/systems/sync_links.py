"""Links: which record there is which record here, and what both were when they were last in step."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Select, Table, and_, delete, exists, literal_column, select, update

from core.domain.frozen import frozen
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.records.record_rows import Record, records, to_record
from core.store.transaction import Transaction

sync_links = Table(
    "sync_links",
    metadata,
    org_id(),
    Column("connection_id", Name, primary_key=True),
    Column("record_id", Name, primary_key=True),
    Column("type", Name, nullable=False),
    Column("external_id", Name, nullable=False),
    # Field to the value that both sides had.
    Column("base", Json, nullable=False),
    # The record's rev when nothing of it was left to push; 0 for never.
    Column("rev", Integer, nullable=False),
    Column("updated_at", Instant, nullable=False),
    # The organization not first: see `enrollments`.
    Index("sync_links_external", "external_id", "org_id", "connection_id", "type", unique=True),
)


@frozen
class Link:
    """A record here and its counterpart there."""

    record_id: str
    type: str
    external_id: str
    base: Mapping[str, Any]
    rev: int


async def of_records(tx: Transaction, connection_id: str, record_ids: Iterable[str]) -> dict[str, Link]:
    """Return the links of these records, by record."""
    c = sync_links.c
    found = await tx.all(_of(connection_id).where(c.record_id.in_(sorted(set(record_ids)))))
    return {row.record_id: _link(row) for row in found}


async def of_externals(tx: Transaction, connection_id: str, record_type: str, ids: Iterable[str]) -> dict[str, Link]:
    """Return the links of these records there, by their ids there."""
    c = sync_links.c
    found = await tx.all(_of(connection_id).where(c.type == record_type, c.external_id.in_(sorted(set(ids)))))
    return {row.external_id: _link(row) for row in found}


async def put(tx: Transaction, connection_id: str, links: Sequence[Link]) -> None:
    """Store links; of one record there is one link, and of one counterpart: a newer one takes the place of others."""
    c = sync_links.c
    for link in links:
        values = {"external_id": link.external_id, "base": dict(link.base), "rev": link.rev, "updated_at": tx.now}
        other = and_(c.type == link.type, c.external_id == link.external_id, c.record_id != link.record_id)
        await tx.run(delete(sync_links).where(c.connection_id == connection_id, other))
        mine = (c.connection_id == connection_id, c.record_id == link.record_id)
        if not await tx.run(update(sync_links).where(*mine).values(values)):
            row = {"connection_id": connection_id, "record_id": link.record_id, "type": link.type, **values}
            await tx.insert(sync_links, [row])


async def out_of_step(
    tx: Transaction, connection_id: str, record_type: str, after: str, limit: int, *, everything: bool
) -> list[Record]:
    """Return the next records of a type that have changed since they were last pushed; or simply the next."""
    link = sync_links.c
    statement = select(records).where(
        records.c.type == record_type, records.c.deleted_at.is_(None), records.c.id > after
    )
    if not everything:
        in_step = exists(literal_column("1")).where(
            link.org_id == records.c.org_id,
            link.connection_id == connection_id,
            link.record_id == records.c.id,
            link.rev >= records.c.rev,
        )
        statement = statement.where(~in_step)
    return [to_record(row) for row in await tx.all(statement.order_by(records.c.id).limit(limit))]


async def of_deleted(
    tx: Transaction, connection_id: str, record_type: str, after: str, limit: int
) -> list[tuple[Record, Link]]:
    """Return the next records that were deleted since they were last pushed, with their links."""
    link = sync_links.c
    both = sync_links.join(records, and_(link.org_id == records.c.org_id, link.record_id == records.c.id))
    statement = select(records, link.external_id, link.base, link.rev.label("pushed_rev")).select_from(both)
    which = (
        link.connection_id == connection_id,
        link.type == record_type,
        link.rev < records.c.rev,
        records.c.deleted_at.is_not(None),
        records.c.id > after,
    )
    found = await tx.all(statement.where(*which).order_by(records.c.id).limit(limit))
    return [(to_record(row), Link(row.id, record_type, row.external_id, row.base, row.pushed_rev)) for row in found]


async def settle(tx: Transaction, connection_id: str, revs: Mapping[str, int]) -> None:
    """Note of these records that nothing of them is left to push."""
    c = sync_links.c
    for record_id, rev in sorted(revs.items()):
        which = (c.connection_id == connection_id, c.record_id == record_id)
        await tx.run(update(sync_links).where(*which).values(rev=rev, updated_at=tx.now))


async def remove(tx: Transaction, connection_id: str, record_ids: Iterable[str]) -> None:
    """Forget the counterparts of these records."""
    c = sync_links.c
    which = (c.connection_id == connection_id, c.record_id.in_(sorted(set(record_ids))))
    await tx.run(delete(sync_links).where(*which))


async def remove_all(tx: Transaction, connection_id: str) -> None:
    """Forget every link of a connection."""
    await tx.run(delete(sync_links).where(sync_links.c.connection_id == connection_id))


def _of(connection_id: str) -> Select[Any]:
    return select(sync_links).where(sync_links.c.connection_id == connection_id)


def _link(row: Row[Any]) -> Link:
    return Link(row.record_id, row.type, row.external_id, row.base, row.rev)
