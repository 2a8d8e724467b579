"""Merges: which record went into which, what it took along, and where a merged record is found now.

What moved is kept row by row, before and after, so that a merge can be taken back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Table, delete, or_, select, text, update

from core.domain.errors import RecordMerged, Violation
from core.domain.frozen import frozen
from core.store import paging
from core.store.metadata import Instant, Json, Name, from_micros, metadata, org_id, to_micros
from core.store.transaction import Transaction

_STANDING = "undone_at IS NULL"
_DEEPEST = 50
"""Merges that are followed one after the other; records that went into each other more often are found all the same."""

merges = Table(
    "merges",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("record_type", Name, nullable=False),
    Column("kept_id", Name, nullable=False),
    Column("merged_id", Name, nullable=False),
    Column("actor", Name, nullable=False),
    Column("cause", Name, nullable=False),
    Column("filled_fields", Json, nullable=False),
    Column("differing_fields", Json, nullable=False),
    Column("moved_counts", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("undone_at", Instant),
    Column("undone_by", Name, nullable=False),
    # Sentences: what could not be taken back.
    Column("conflicts", Json, nullable=False),
    Index("merges_kept", "org_id", "kept_id", "id"),
    Index("merges_merged", "org_id", "merged_id", "id"),
    # A record is part of one record at a time.
    Index(
        "merges_standing",
        "org_id",
        "merged_id",
        unique=True,
        sqlite_where=text(_STANDING),
        postgresql_where=text(_STANDING),
    ),
)

merge_moves = Table(
    "merge_moves",
    metadata,
    org_id(),
    Column("merge_id", Name, primary_key=True),
    Column("number", Integer, primary_key=True),
    # `update`, `delete`, `field` or `ended`.
    Column("action", Name, nullable=False),
    # What a person calls it, such as `leads`.
    Column("kind", Name, nullable=False),
    Column("place", Name, nullable=False),
    Column("row_key", Json, nullable=False),
    Column("before", Json, nullable=False),
    Column("after", Json, nullable=False),
)

_MOVE_COLUMNS = ("org_id", "merge_id", "number", "action", "kind", "place", "row_key", "before", "after")


@frozen
class Move:
    """One row that a merge changed: how to find it, and what it said before and after."""

    action: str
    """`update`; `delete`, of which `before` is the whole row; `field` of a record; `ended`, of an enrollment."""
    kind: str
    place: str
    """The table."""
    key: Mapping[str, Any]
    """Primary key without the organization, as it was before; values as `packed` makes them."""
    before: Mapping[str, Any]
    after: Mapping[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> str:
        """Return what it is about, for a sentence."""
        if self.place == "record_identifiers":
            return f"The {self.key['kind']} `{self.key['value']}`"
        if self.place == "list_members":
            return f"The place on the list {self.key['list_name']}"
        if self.place == "consents":
            return f"The answer about {self.key['purpose']} by {self.key['channel']}"
        name = str(self.key.get("id", ""))
        return f"{self.kind.removesuffix('s').capitalize()} {name}".strip()


def packed(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row's values as JSON can keep them: instants become microseconds."""
    return {
        str(name): to_micros(value) if isinstance(table.c[name].type, Instant) and value is not None else value
        for name, value in values.items()
        if name != "org_id"
    }


def unpacked(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what `packed` kept as a row's values."""
    return {
        name: from_micros(value) if isinstance(table.c[name].type, Instant) and value is not None else value
        for name, value in values.items()
    }


async def keep(tx: Transaction, row: Mapping[str, Any], moves: Sequence[Move]) -> None:
    """Write a merge and what it moved."""
    await tx.insert(merges, [{"undone_at": None, "undone_by": "", "conflicts": [], "created_at": tx.now, **row}])
    await add_moves(tx, row["id"], moves, first=1)


async def add_moves(tx: Transaction, merge_id: str, moves: Sequence[Move], *, first: int) -> None:
    """Write what a merge moved, from a number on."""
    rows = [
        (tx.org_id, merge_id, number, one.action, one.kind, str(one.place), one.key, one.before, one.after)
        for number, one in enumerate(moves, first)
    ]
    await tx.bulk_insert(merge_moves, _MOVE_COLUMNS, rows)


async def moves_of(tx: Transaction, merge_id: str) -> list[Move]:
    """Return what a merge moved, in order."""
    rows = await tx.all(select(merge_moves).where(merge_moves.c.merge_id == merge_id).order_by(merge_moves.c.number))
    return [Move(row.action, row.kind, row.place, row.row_key, row.before, row.after) for row in rows]


async def get(tx: Transaction, merge_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a merge, or None; `lock` holds it until the transaction ends."""
    statement = select(merges).where(merges.c.id == merge_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def page(tx: Transaction, record_id: str, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of merges, of all records or of one that was part of them, newest first, and the next token."""
    statement = select(merges)
    if record_id:
        statement = statement.where(or_(merges.c.kept_id == record_id, merges.c.merged_id == record_id))
    return await paging.page(tx, statement, merges.c.id, size, token, filter_text=f"merges:{record_id}")


async def mark_undone(tx: Transaction, merge_id: str, by: str, conflicts: Sequence[str]) -> None:
    """Write that a merge was taken back, and what of it could not.

    Of its moves those of events stay: they tell whose events these were while it stood. The others are needed no more.
    """
    values = {"undone_at": tx.now, "undone_by": by, "conflicts": list(conflicts)}
    await tx.run(update(merges).where(merges.c.id == merge_id).values(**values))
    await tx.run(delete(merge_moves).where(merge_moves.c.merge_id == merge_id, merge_moves.c.place != "events"))


async def standing_of(tx: Transaction, merged_ids: Iterable[str]) -> dict[str, Row[Any]]:
    """Return the merge by which each of these records went into another, where one stands."""
    wanted = sorted(set(merged_ids))
    if not wanted:
        return {}
    rows = await tx.all(select(merges).where(merges.c.merged_id.in_(wanted), merges.c.undone_at.is_(None)))
    return {row.merged_id: row for row in rows}


async def parts_of(tx: Transaction, record_id: str) -> list[str]:
    """Return a record and those that are part of it now, through any number of merges; itself first."""
    c = merges.c
    found, further = [record_id], [record_id]
    for _ in range(_DEEPEST):
        rows = await tx.all(select(c.merged_id).where(c.kept_id.in_(further), c.undone_at.is_(None)))
        further = sorted({row.merged_id for row in rows} - set(found))
        if not further:
            break
        found += further
    return found


async def ever_one(tx: Transaction, record_id: str) -> set[str]:
    """Return a record and all that it ever was one with, through any number of merges, also those taken back."""
    c = merges.c
    found, further = {record_id}, {record_id}
    for _ in range(_DEEPEST):
        which = or_(c.kept_id.in_(further), c.merged_id.in_(further))
        rows = await tx.all(select(c.kept_id, c.merged_id).where(which))
        further = {one for row in rows for one in row} - found
        if not further:
            break
        found |= further
    return found


async def parted(tx: Transaction, pairs: Iterable[tuple[str, str]]) -> set[frozenset[str]]:
    """Return which of these pairs were merged once and taken apart again."""
    wanted = {frozenset(pair) for pair in pairs}
    named = sorted({record_id for pair in wanted for record_id in pair})
    c = merges.c
    which = (c.merged_id.in_(named), c.kept_id.in_(named), c.undone_at.is_not(None))
    rows = await tx.all(select(c.kept_id, c.merged_id).where(*which))
    return wanted & {frozenset((row.kept_id, row.merged_id)) for row in rows}


async def kept_by(tx: Transaction, record_id: str) -> RecordMerged | None:
    """Return the error that names the record which this one is part of now; None where it was not merged."""
    first = (await standing_of(tx, [record_id])).get(record_id)
    if first is None:
        return None
    return RecordMerged(id=record_id, kept_id=await kept_now(tx, first.kept_id), merge_id=first.id)


async def where_named(tx: Transaction, field: str, record_id: str) -> Violation | None:
    """Return what is wrong with a field that names a merged record; None where it was not merged."""
    gone = await kept_by(tx, record_id)
    return None if gone is None else Violation(field, gone.reason, gone.message, gone.way_out)


async def kept_now(tx: Transaction, record_id: str) -> str:
    """Return the record that this one is part of now, through any number of merges; itself where it was not merged."""
    for _ in range(_DEEPEST):
        further = (await standing_of(tx, [record_id])).get(record_id)
        if further is None:
            break
        record_id = further.kept_id
    return record_id
