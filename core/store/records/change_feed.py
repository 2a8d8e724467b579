"""The feed of all changes, oldest first: a reader who goes on from a token misses none, whenever they were committed.

On PostgreSQL a change stands at the number of the transaction that wrote it, and the feed ends before the oldest
transaction that still runs: whatever commits later stands after everything that was ever shown. SQLite has one writer.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Row, and_, literal_column, select, tuple_
from sqlalchemy.sql.elements import ColumnElement

from core.domain.errors import invalid
from core.store import paging
from core.store.records import causes
from core.store.records.record_rows import record_changes, records
from core.store.transaction import Transaction

_SETTLED: ColumnElement[int] = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint")


async def page(
    tx: Transaction, size: int, token: str, *, record_type: str = "", record_id: str = "", cause: str = ""
) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of changes, each with its record's type, and the token to go on with; it is good for ever.

    Raises Invalid for a token of another list.
    """
    c = record_changes.c
    list_name = "|".join(("changes", record_type, record_id, cause))
    both = record_changes.join(records, and_(records.c.org_id == c.org_id, records.c.id == c.record_id))
    statement = select(record_changes, records.c.type.label("record_type")).select_from(both)
    if token:
        statement = statement.where(tuple_(c.place, c.id) > tuple_(*_position(paging.decode_token(token, list_name))))
    if record_type:
        statement = statement.where(records.c.type == record_type)
    if record_id:
        statement = statement.where(c.record_id == record_id)
    if cause:
        statement = statement.where(c.cause == cause, await causes.where(tx, cause))
    if tx.dialect == "postgresql":
        statement = statement.where(c.place < _SETTLED)
    # What one cause did is found by it and then put in order; in order, all of the history would be walked through.
    place = c.place + 0 if cause else c.place
    rows = await tx.all(statement.order_by(place, c.id).limit(paging.page_size(size)))
    if rows:
        return rows, paging.encode_token(f"{rows[-1].place}:{rows[-1].id}", list_name)
    return rows, token or paging.encode_token("-1:", list_name)


def _position(key: str) -> tuple[int, str]:
    place, _, change_id = key.partition(":")
    try:
        return int(place), change_id
    except ValueError:
        raise invalid("page_token", "PAGE_TOKEN_MISMATCH", "the token does not belong to this list") from None


async def missing(tx: Transaction, change_ids: Collection[str]) -> list[str]:
    """Return which of these changes there are not."""
    if not change_ids:
        return []
    rows = await tx.all(select(record_changes.c.id).where(record_changes.c.id.in_(sorted(change_ids))))
    return sorted(set(change_ids) - {row.id for row in rows})
