"""The words of records, and finding records by them: one table of our own, the same on both databases.

On PostgreSQL it is read under row-level security, which would keep an index of texts from being used: only comparisons
that cannot tell anything about another organization's rows may come first, and those of words can.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Row, SmallInteger, Table, and_, case, func, or_, select
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.selectable import Subquery

from core.domain.records import words
from core.domain.records.schema import TypeSchema
from core.domain.records.words import Asked, Entry
from core.store.metadata import Name, metadata, org_id
from core.store.transaction import Transaction, values_by_column

record_words = Table(
    "record_words",
    metadata,
    org_id(),
    Column("word", Name, primary_key=True),
    Column("record_id", Name, primary_key=True),
    Column("field", Name, primary_key=True),
    Column("weight", SmallInteger, nullable=False),
    # The key is all there is: kept once, not as a row and an index of rows.
    sqlite_with_rowid=False,
)

_DELETE_POSTGRESQL = (
    "DELETE FROM record_words r USING unnest($1::text[], $2::text[], $3::text[], $4::text[]) "
    "AS w(org_id, word, record_id, field) WHERE r.org_id = w.org_id AND r.word = w.word "
    "AND r.record_id = w.record_id AND r.field = w.field"
)
_DELETE_SQLITE = "DELETE FROM record_words WHERE org_id = ? AND word = ? AND record_id = ? AND field = ?"
_INSERT_POSTGRESQL = (
    "INSERT INTO record_words (org_id, word, record_id, field, weight) "
    "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::smallint[]) ON CONFLICT DO NOTHING"
)
_INSERT_SQLITE = "INSERT OR IGNORE INTO record_words (org_id, word, record_id, field, weight) VALUES (?, ?, ?, ?, ?)"

Key = tuple[str, str]
"""Organization and record."""


async def change(tx: Transaction, changed: Iterable[tuple[Key, Sequence[Entry], Sequence[Entry]]]) -> None:
    """Take words of records away, and write others."""
    gone: list[tuple[Any, ...]] = []
    new: list[tuple[Any, ...]] = []
    for (org, record_id), before, after in changed:
        gone += [(org, entry.word, record_id, entry.field) for entry in before]
        new += [(org, entry.word, record_id, entry.field, entry.weight) for entry in after]
    if not gone and not new:
        return
    if tx.dialect == "postgresql":
        if gone:
            await tx.fetch(_DELETE_POSTGRESQL, *values_by_column(sorted(gone)))
        if new:
            await tx.fetch(_INSERT_POSTGRESQL, *values_by_column(sorted(new)))
    else:
        await tx.write_many(_DELETE_SQLITE, gone)
        await tx.write_many(_INSERT_SQLITE, new)


async def forget(tx: Transaction, of: TypeSchema, record_id: str, fields: Mapping[str, Any]) -> None:
    """Take away every word of a record that has these fields."""
    await change(tx, [((tx.org_id, record_id), sorted(words.of_record(of, fields)), [])])


def _fits(asked: Asked) -> ColumnElement[bool]:
    c = record_words.c
    if not asked.is_beginning:
        return c.word == asked.text
    return and_(c.word >= asked.text, c.word < asked.end)


def ranked(org: str, asked: Sequence[Asked]) -> Subquery:
    """Return the query of the records that have every one of these words, each with what its hits count together."""
    c = record_words.c
    found: Subquery | None = None
    for number, one in enumerate(asked):
        hit = c.weight * case((c.word == one.text, 2), else_=1)
        best = (
            select(c.org_id, c.record_id, func.max(hit).label("score"))
            .where(c.org_id == org, _fits(one))
            .group_by(c.org_id, c.record_id)
            .subquery(f"w{number}")
        )
        if found is None:
            found = best
            continue
        score = (found.c.score + best.c.score).label("score")
        both = found.join(best, and_(found.c.org_id == best.c.org_id, found.c.record_id == best.c.record_id))
        found = select(found.c.org_id, found.c.record_id, score).select_from(both).subquery(f"f{number}")
    assert found is not None
    return found


async def matched_fields(tx: Transaction, asked: Sequence[Asked], record_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return in which fields of these records the words stand."""
    c = record_words.c
    rows: Sequence[Row[Any]] = await tx.all(
        select(c.record_id, c.field)
        .where(c.record_id.in_(record_ids), or_(*(_fits(one) for one in asked)))
        .group_by(c.record_id, c.field)
        .order_by(c.record_id, c.field)
    )
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.record_id, []).append(row.field)
    return found
