"""Imports: files on their way in, row by row.

Where an import is and what became of its rows change in the transaction that writes the records, so a killed process
neither loses nor doubles a row. What rows say is forgotten some days after the end; what became of them stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Boolean, Column, Index, Integer, Row, Table, func, select, text, update

from core.domain.frozen import frozen
from core.store import paging
from core.store.metadata import Instant, Json, Name, metadata, org_id, write_json
from core.store.transaction import Transaction, rows_of_json

KEPT_FOR = timedelta(days=7)
"""How long what its rows say is kept once an import has ended, or waits for somebody to start it or go on."""

_LOOKED_AT = 20
_FORGOTTEN_AT_ONCE = 20


class ImportState(StrEnum):
    """Where an import is in its life."""

    CHECKING = "checking"
    CHECKED = "checked"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Tell whether nothing happens to it any more."""
        return self in (ImportState.SUCCEEDED, ImportState.CANCELLED)


class Outcome(StrEnum):
    """What becomes of a row."""

    UNCHECKED = "unchecked"
    CREATE = "create"
    UPDATE = "update"
    UNCHANGED = "unchanged"
    BAD = "bad"
    ERASED = "erased"
    DUPLICATE = "duplicate_in_file"
    CREATED = "created"
    UPDATED = "updated"


COUNTED: Mapping[str, str] = {
    Outcome.CREATE: "created_count",
    Outcome.CREATED: "created_count",
    Outcome.UPDATE: "updated_count",
    Outcome.UPDATED: "updated_count",
    Outcome.UNCHANGED: "unchanged_count",
    Outcome.BAD: "bad_count",
    Outcome.ERASED: "bad_count",
    Outcome.DUPLICATE: "bad_count",
}
"""Outcome to the count it goes into: a row that is not taken is a bad one."""

_UNDER_WAY = text("state IN ('checking', 'running')")
_WITH_VALUES = text("forgotten_at IS NULL AND state NOT IN ('checking', 'running')")

imports = Table(
    "imports",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("state", Name, nullable=False),
    Column("state_since", Instant, nullable=False),
    # Of all rows; empty where rows say their own.
    Column("record_type", Name, nullable=False),
    Column("match_by", Name, nullable=False),
    # Whose ids the column `external_id` has.
    Column("system", Name, nullable=False),
    # Record type to column to what it means; and the members that a bundle names, by id.
    Column("columns", Json, nullable=False),
    Column("members", Json, nullable=False),
    # `none`, `new` or `all`.
    Column("triggers", Name, nullable=False),
    Column("skip_bad_rows", Boolean, nullable=False),
    # It starts by itself once it is checked and no row is bad.
    Column("starts", Boolean, nullable=False),
    Column("row_count", Integer, nullable=False),
    # The last row that was checked, or carried out.
    Column("done_count", Integer, nullable=False),
    Column("created_count", Integer, nullable=False),
    Column("updated_count", Integer, nullable=False),
    Column("unchanged_count", Integer, nullable=False),
    Column("bad_count", Integer, nullable=False),
    Column("error", Name, nullable=False),
    Column("actor", Name, nullable=False),
    # `member`, `service` or `agent`: whose budget pays for the records.
    Column("actor_kind", Name, nullable=False),
    # The agent that the key spoke for; empty for none.
    Column("agent_id", Name, nullable=False, server_default=""),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Column("forgotten_at", Instant),
    Index("imports_under_way", "created_at", sqlite_where=_UNDER_WAY, postgresql_where=_UNDER_WAY),
    Index("imports_with_values", "state_since", sqlite_where=_WITH_VALUES, postgresql_where=_WITH_VALUES),
)

import_rows = Table(
    "import_rows",
    metadata,
    org_id(),
    Column("import_id", Name, primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("record_type", Name, nullable=False),
    # Its id where the file was written; what other rows call it.
    Column("source_id", Name, nullable=False),
    # What it is matched by; two rows with the same one mean the same record.
    Column("key", Name, nullable=False),
    Column("outcome", Name, nullable=False),
    Column("record_id", Name, nullable=False),
    Column("faults", Json, nullable=False),
    # What it says: as it came, and once checked in stored form. NULL when forgotten.
    Column("said", Json),
    Index("import_rows_source", "org_id", "import_id", "source_id"),
    Index("import_rows_key", "org_id", "import_id", "key"),
    Index("import_rows_outcome", "org_id", "import_id", "outcome", "row"),
)

_ROW_COLUMNS = (
    "org_id",
    "import_id",
    "row",
    "record_type",
    "source_id",
    "key",
    "outcome",
    "record_id",
    "faults",
    "said",
)

_JUDGED = {"org_id": "text", "import_id": "text", "row": "int", "outcome": "text"} | {
    "record_id": "text",
    "faults": "jsonb",
    "key": "text",
    "said": "jsonb",
}
_WHICH = "r.org_id = v.org_id AND r.import_id = v.import_id AND r.row = v.row"
_SETS = "outcome = v.outcome, record_id = v.record_id, faults = v.faults"
_JUDGE_POSTGRESQL = {
    said: f"UPDATE import_rows r SET {_SETS}{more} FROM {rows_of_json(_JUDGED)} AS v WHERE {_WHICH}"  # noqa: S608
    for said, more in ((False, ""), (True, ", key = v.key, said = v.said"))
}
_JUDGE_SQLITE = {
    said: f"UPDATE import_rows SET outcome = ?, record_id = ?, faults = ?{more} "  # noqa: S608 -- names are ours
    "WHERE org_id = ? AND import_id = ? AND row = ?"
    for said, more in ((False, ""), (True, ", key = ?, said = ?"))
}


@frozen
class NewRow:
    """A row as it came."""

    number: int
    record_type: str
    source_id: str
    said: Mapping[str, Any]
    faults: Sequence[Mapping[str, Any]] = ()


@frozen
class JudgedRow:
    """What was found of a row, or became of it."""

    number: int
    outcome: str
    record_id: str = ""
    key: str = ""
    said: Mapping[str, Any] | None = None
    """None where it stays as it is."""
    faults: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


async def create(tx: Transaction, row: Mapping[str, Any], rows: Sequence[NewRow]) -> None:
    """Write an import that is to be checked, with its rows."""
    counts = dict.fromkeys(("done_count", "created_count", "updated_count", "unchanged_count", "bad_count"), 0)
    new = {"state": ImportState.CHECKING, "error": "", "created_at": tx.now, "state_since": tx.now}
    await tx.insert(imports, [{**new, "row_count": len(rows), **counts, **row}])
    await tx.bulk_insert(
        import_rows,
        _ROW_COLUMNS,
        [
            (
                *(tx.org_id, row["id"], one.number, one.record_type, one.source_id, ""),
                *(Outcome.UNCHECKED.value, "", list(one.faults), one.said),
            )
            for one in rows
        ],
    )
    tx.wake("importer")


async def get(tx: Transaction, import_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return an import, or None; `lock` holds it until the transaction ends."""
    statement = select(imports).where(imports.c.id == import_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def page(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of imports, newest first, and the next token."""
    return await paging.page(tx, select(imports), imports.c.id, size, token, filter_text="imports")


async def rows_page(
    tx: Transaction, import_id: str, outcome: str, size: int, token: str
) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of an import's rows in their order, without what they say, and the next token. Raises Invalid."""
    c, within = import_rows.c, f"{import_id}|{outcome}"
    statement = select(c.row, c.outcome, c.record_id, c.faults).where(c.import_id == import_id)
    if outcome:
        statement = statement.where(c.outcome == outcome)
    if token:
        statement = statement.where(c.row > int(paging.decode_token(token, within)))
    size = paging.page_size(size)
    rows = await tx.all(statement.order_by(c.row).limit(size + 1))
    if len(rows) <= size:
        return rows, ""
    return rows[:size], paging.encode_token(str(rows[size - 1].row), within)


async def slice_of(tx: Transaction, import_id: str, after: int, limit: int) -> Sequence[Row[Any]]:
    """Return the next rows of an import with what they say."""
    c = import_rows.c
    return await tx.all(select(import_rows).where(c.import_id == import_id, c.row > after).order_by(c.row).limit(limit))


async def named(tx: Transaction, import_id: str, source_ids: Iterable[str]) -> dict[str, Row[Any]]:
    """Return the rows that stand for these ids of the file, by id."""
    wanted, c = sorted(set(source_ids) - {""}), import_rows.c
    if not wanted:
        return {}
    found = await tx.all(
        select(c.source_id, c.row, c.record_id, c.record_type, c.outcome)
        .where(c.import_id == import_id, c.source_id.in_(wanted))
        .order_by(c.row.desc())
    )
    return {row.source_id: row for row in found}  # of two rows with one id, the first


async def records_of_rows(tx: Transaction, import_id: str, numbers: Iterable[int]) -> dict[int, str]:
    """Return the records that these rows became, by row."""
    wanted, c = sorted(set(numbers)), import_rows.c
    if not wanted:
        return {}
    found = await tx.all(
        select(c.row, c.record_id).where(c.import_id == import_id, c.row.in_(wanted), c.record_id != "")
    )
    return {row.row: row.record_id for row in found}


async def seen_keys(tx: Transaction, import_id: str, keys: Iterable[str], before: int) -> dict[str, int]:
    """Return which of these keys an earlier row has, with the number of the first such row."""
    wanted, c = sorted(set(keys) - {""}), import_rows.c
    if not wanted:
        return {}
    rows = await tx.all(
        select(c.key, func.min(c.row).label("first"))
        .where(c.import_id == import_id, c.key.in_(wanted), c.row <= before, c.outcome != Outcome.DUPLICATE)
        .group_by(c.key)
    )
    return {row.key: row.first for row in rows}


async def judge(tx: Transaction, import_id: str, judged: Sequence[JudgedRow]) -> None:
    """Write what was found of rows, or became of them."""
    for said in (True, False):
        some = [one for one in judged if (one.said is not None) is said]
        if not some:
            continue
        rows = [
            (tx.org_id, import_id, one.number, one.outcome, one.record_id, list(one.faults), one.key, one.said)
            for one in some
        ]
        if tx.dialect == "postgresql":
            await tx.fetch(_JUDGE_POSTGRESQL[said], write_json(rows))
        else:
            values = [
                (*row[3:5], write_json(row[5]), *((row[6], write_json(row[7])) if said else ()), *row[:3])
                for row in rows
            ]
            await tx.write_many(_JUDGE_SQLITE[said], values)


async def note(tx: Transaction, import_id: str, **values: Any) -> None:
    """Set columns of an import."""
    if "state" in values:
        values["state_since"] = tx.now
    await tx.run(update(imports).where(imports.c.id == import_id).values(values))


async def under_way(tx: Transaction) -> Sequence[Row[Any]]:
    """Return imports of every organization that are being checked or carried out, in a system transaction."""
    c = imports.c
    return await tx.all(select(c.org_id, c.id).where(_UNDER_WAY).order_by(c.created_at).limit(_LOOKED_AT))


async def take(tx: Transaction, import_id: str) -> Row[Any] | None:
    """Hold an import that is under way; None where another process has it, or it is over."""
    statement = select(imports).where(imports.c.id == import_id, _UNDER_WAY)
    return await tx.first(statement.with_for_update(skip_locked=True))


async def forget_old(tx: Transaction) -> int:
    """Forget what rows of imports said that ended a while ago, or that nobody went on with; return how many imports.

    Works in a system transaction. What nobody went on with is over by that.
    """
    c = imports.c
    old = await tx.all(
        select(c.org_id, c.id, c.state)
        .where(_WITH_VALUES, c.state_since < tx.now - KEPT_FOR)
        .order_by(c.state_since)
        .limit(_FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    for row in old:
        within = tx.within(row.org_id)
        if not ImportState(row.state).over:
            await note(within, row.id, state=ImportState.CANCELLED, ended_at=tx.now)
        await forget(within, row.id)
    return len(old)


async def forget(tx: Transaction, import_id: str) -> None:
    """Forget what the rows of an import said; what became of them stays."""
    r = import_rows.c
    which = update(import_rows).where(r.import_id == import_id, r.said.is_not(None))
    await tx.run(which.values(said=None, key="", source_id=""))
    await tx.run(update(imports).where(imports.c.id == import_id).values(forgotten_at=tx.now, members={}))
