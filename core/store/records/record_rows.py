"""Rows of records: their tables, the lock that every writer takes, and the one function that saves drafts.

Writers hold the rows they change (`FOR UPDATE`, in order of id) and then claim identifiers, so that two of them meet
at a lock or at a unique key and never overwrite each other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, Index, Integer, Row, Table, text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from core.domain import names
from core.domain.enrollment import RecordFacts
from core.domain.frozen import copied, frozen
from core.domain.records import changes as field_changes
from core.domain.records import identity, words
from core.domain.records.changes import Change
from core.domain.records.schema import STANDARD
from core.domain.records.standard import ID_PREFIXES
from core.domain.records.words import Entry
from core.pieces import LIGHT_AT_ONCE, in_pieces
from core.store.metadata import Instant, Json, Name, from_micros, metadata, org_id, read_json, to_micros, write_json
from core.store.records import identifiers, record_schema, record_search, unique_values
from core.store.records.identifiers import ExternalName
from core.store.transaction import Transaction, insertion, rows_of_json, values_by_column


class TransactionNumber(FunctionElement[int]):
    """The number of the running transaction: what commits later may have a smaller one, but nobody missed it then."""

    type = BigInteger()
    inherit_cache = True


@compiles(TransactionNumber)
def _counted_by_us(_element: TransactionNumber, _compiler: Any, **_: Any) -> str:
    return "0"  # SQLite has one writer: `save` counts


@compiles(TransactionNumber, "postgresql")
def _counted_by_postgresql(_element: TransactionNumber, _compiler: Any, **_: Any) -> str:
    return "(pg_current_xact_id()::text::bigint)"


def _partial(name: str, *columns: str) -> Index:
    condition = text(f"{next(one for one in columns if one != 'type')} IS NOT NULL")
    return Index(name, "org_id", *columns, sqlite_where=condition, postgresql_where=condition)


records = Table(
    "records",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("type", Name, nullable=False),
    Column("fields", Json, nullable=False),
    Column("rev", Integer, nullable=False),
    # Copies of fields, so that records are found by them: under row-level security no index of what is inside a JSON
    # value would be used.
    Column("contact_id", Name),
    Column("company_id", Name),
    Column("owner_id", Name),
    Column("status", Name),
    Column("tier", Name),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    # Set when it was deleted, merged or erased.
    Column("deleted_at", Instant),
    # What identified it when it was deleted, as `[kind, value]`.
    Column("freed", Json),
    Index("records_type", "org_id", "type", "id"),
    _partial("records_contact", "contact_id", "type", "id"),
    _partial("records_company", "company_id", "type", "id"),
    _partial("records_owner", "type", "owner_id", "id"),
    _partial("records_status", "type", "status", "id"),
    _partial("records_tier", "type", "tier", "id"),
)

NOT_OF_ENROLLMENTS = text("(cause NOT BETWEEN 'enrollment:' AND 'enrollment;')")

record_changes = Table(
    "record_changes",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("record_id", Name, nullable=False),
    Column("field", Name, nullable=False),
    Column("old_value", Json),
    Column("new_value", Json),
    Column("actor", Name, nullable=False),
    Column("cause", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    # Where it stands among the organization's changes, with the id: a reader who has seen what stands before every
    # running transaction misses nothing.
    Column("place", BigInteger, nullable=False, server_default=TransactionNumber()),
    # The change that took it back.
    Column("reverted_by", Name),
    Index("record_changes_record", "org_id", "record_id", "id"),
    Index("record_changes_place", "org_id", "place", "id"),
    # What enrollments did is found by their contact: they write more than all others, and nobody else pays for it.
    Index(
        "record_changes_cause",
        "org_id",
        "cause",
        "id",
        sqlite_where=NOT_OF_ENROLLMENTS,
        postgresql_where=NOT_OF_ENROLLMENTS,
    ),
)

COPIED = ("contact_id", "company_id", "owner_id", "status", "tier")
"""Fields that are columns too."""
READ_COLUMNS = ("org_id", "id", "type", "fields", "rev", "created_at", "updated_at")
"""What is read of a record."""
_RECORD_COLUMNS = (*READ_COLUMNS, *COPIED)
_PLACES = (
    "SELECT w.value, (SELECT coalesce(max(c.place), 0) + 1 FROM record_changes c WHERE c.org_id = w.value) "
    "FROM json_each($1) w"
)
_CHANGE_COLUMNS = ("org_id", "id", "record_id", "field", "old_value", "new_value", "actor", "cause", "created_at")
_MOVED = {"org_id": "text", "id": "text", "fields": "jsonb", "rev": "int", "updated_at": "bigint"}


def _update_sql(dialect: str, *, copied: bool) -> str:
    """Return the statement that writes records; columns that did not change are left alone, for the indexes' sake."""
    columns = ("fields", "rev", "updated_at", *(COPIED if copied else ()))
    if dialect != "postgresql":
        return f"UPDATE records SET {', '.join(f'{name} = ?' for name in columns)} WHERE org_id = ? AND id = ?"  # noqa: S608
    given = rows_of_json(_MOVED | dict.fromkeys(COPIED, "text") if copied else _MOVED)
    sets = ", ".join(f"{name} = v.{name}" for name in columns)
    return f"UPDATE records r SET {sets} FROM {given} AS v WHERE r.org_id = v.org_id AND r.id = v.id"  # noqa: S608


_UPDATES = {
    (dialect, copied): _update_sql(dialect, copied=copied)
    for dialect in ("sqlite", "postgresql")
    for copied in (False, True)
}
_COLUMNS_OF_R = ", ".join(f"r.{name}" for name in READ_COLUMNS)
_GET = f"SELECT {_COLUMNS_OF_R} FROM records r WHERE r.org_id = $1 AND r.id = $2 AND r.deleted_at IS NULL"  # noqa: S608
_GET_WITH_NAMES = (
    f"SELECT {_COLUMNS_OF_R}, i.kind, i.value FROM records r LEFT JOIN record_identifiers i "  # noqa: S608
    "ON i.org_id = r.org_id AND i.record_id = r.id AND i.kind LIKE 'ext:%' "
    "WHERE r.org_id = $1 AND r.id = $2 AND r.deleted_at IS NULL ORDER BY i.kind, i.value"
)
_HOLD_SQLITE = (
    f"SELECT {_COLUMNS_OF_R} FROM json_each($1) w CROSS JOIN records r "  # noqa: S608 -- names are ours
    "ON r.org_id = (w.value ->> 0) AND r.id = (w.value ->> 1) "
    "WHERE r.deleted_at IS NULL ORDER BY r.org_id, r.id"
)
_HOLD_POSTGRESQL = (
    f"SELECT {_COLUMNS_OF_R} FROM unnest($1::text[], $2::text[]) AS w(org_id, id) "  # noqa: S608 -- names are ours
    "JOIN records r USING (org_id, id) WHERE r.deleted_at IS NULL ORDER BY r.org_id, r.id FOR UPDATE OF r"
)


@frozen
class Record:
    """A record as it is stored."""

    org_id: str
    id: str
    type: str
    fields: Mapping[str, Any]
    """Standard fields, and `custom` for the organization's own."""
    rev: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    @property
    def etag(self) -> str:
        """Return the version as callers see it."""
        return f'"{self.rev}"'

    @property
    def contact_id(self) -> str | None:
        """Return the contact that it belongs to, such as a lead's."""
        return self.fields.get("contact_id")

    @property
    def company_id(self) -> str | None:
        """Return the company that it belongs to, such as a contact's."""
        return self.fields.get("company_id")

    @property
    def facts(self) -> RecordFacts:
        """Return the record as a decision sees it."""
        return RecordFacts(self.id, self.type, self.fields)


@frozen
class Written:
    """A record after a write, and what the write changed."""

    record: Record
    changes: tuple[Change, ...]
    created: bool = False
    actor: str = ""
    cause: str = ""
    """Actor and cause of the last change."""

    @property
    def change_ids(self) -> tuple[str, ...]:
        """Return the id of each change."""
        return tuple(_change_ids(self.record, len(self.changes)))


@dataclass(slots=True)
class Draft:
    """A record being written: takes patches one after the other, and is saved once."""

    record: Record
    created: bool = False
    history: list[tuple[Change, str, str]] = field(default_factory=list)
    """Each change with its actor and cause."""

    def patch(self, values: Mapping[str, Any], actor: str, cause: str) -> tuple[Change, ...]:
        """Set fields by dotted path and return what that changed."""
        fields, changes = field_changes.patched(self.record.fields, values)
        if changes:
            self.record = copied(self.record, fields=fields)
            self.history += [(change, actor, cause) for change in changes]
        return changes


def to_record(row: Row[Any]) -> Record:
    """Return a row as a record."""
    return Record(row.org_id, row.id, row.type, row.fields, row.rev, row.created_at, row.updated_at, row.deleted_at)


async def get(tx: Transaction, record_id: str) -> Record | None:
    """Return a record of the transaction's organization, or None."""
    rows = await tx.fetch(_GET, tx.org_id, record_id)
    return from_driver(rows[0]) if rows else None


async def get_with_names(tx: Transaction, record_id: str) -> tuple[Record, list[ExternalName]] | None:
    """Return a record and its names in other systems in one trip, or None."""
    rows = await tx.fetch(_GET_WITH_NAMES, tx.org_id, record_id)
    if not rows:
        return None
    return from_driver(rows[0]), [identifiers.external_name(*row[-2:]) for row in rows if row[-1] is not None]


async def hold(tx: Transaction, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Record]:
    """Return the records with these `(organization, id)`, locked until the transaction ends."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_HOLD_POSTGRESQL, *values_by_column(wanted))
    elif all(key in tx.kept.rows for key in wanted):
        rows = [tx.kept.rows[key] for key in wanted]
    else:
        rows = await tx.fetch(_HOLD_SQLITE, write_json(wanted))
    return {(row[0], row[1]): from_driver(row) for row in rows}


def from_driver(row: Sequence[Any]) -> Record:
    """Return a row of `READ_COLUMNS`, as the driver brings it, as a record."""
    fields = read_json(row[3]) if isinstance(row[3], str) else row[3]
    return Record(row[0], row[1], row[2], fields, row[4], from_micros(row[5]), from_micros(row[6]))


async def save(tx: Transaction, drafts: Collection[Draft]) -> list[Written]:
    """Write drafts, their history, their words and what identifies them; a draft without changes writes nothing.

    Raises ValueTaken for a unique value that another record has.
    """
    written = [_finished(tx, draft) for draft in drafts]
    history = [row async for some in in_pieces(drafts, LIGHT_AT_ONCE) for draft in some for row in _history(tx, draft)]
    await _write(tx, written, history)
    await identifiers.release(tx, [key for item in written for key in _given_up(item)])
    changed = [item for item in written if item.changes]
    tx.spend("records", len(changed))
    settled = [(item.record.org_id, item.record.type, item.record.id, item.changes) for item in changed]
    await unique_values.settle(tx, settled)
    await _find_by_words(tx, changed)
    return written


async def _write(tx: Transaction, written: Sequence[Written], history: Sequence[tuple[Any, ...]]) -> None:
    """Write records and their history, on SQLite in one trip."""
    new = [_columns(item.record) for item in written if item.created]
    moved: dict[bool, list[Record]] = {}
    for item in written:
        if item.changes and not item.created:
            moved.setdefault(any(change.field in COPIED for change in item.changes), []).append(item.record)
    if tx.dialect == "postgresql":
        await tx.bulk_insert(records, _RECORD_COLUMNS, new)
        for with_copies, some in moved.items():
            rows = [(r.org_id, r.id, *_moved(r, r.fields, with_copies=with_copies)) for r in some]
            await tx.fetch(_UPDATES[tx.dialect, with_copies], write_json(rows))
        await tx.bulk_insert(record_changes, _CHANGE_COLUMNS, history)
        return
    writes = [insertion(records, _RECORD_COLUMNS, new)] if new else []
    if history:
        found = await tx.fetch(_PLACES, write_json(sorted({row[0] for row in history})))
        places: dict[str, int] = {org: place for org, place in found}
        placed = [(*row, places[row[0]]) for row in history]
        writes.append(insertion(record_changes, (*_CHANGE_COLUMNS, "place"), placed))
    for with_copies, some in moved.items():
        rows = [(*_moved(r, write_json(r.fields), with_copies=with_copies), r.org_id, r.id) for r in some]
        writes.append((_UPDATES[tx.dialect, with_copies], rows))
    if await tx.write_each(*writes) != [len(rows) for _, rows in writes]:
        raise LookupError("a record that is to be written is not there")


def _moved(record: Record, fields: Any, *, with_copies: bool) -> tuple[Any, ...]:
    return (fields, record.rev, to_micros(record.updated_at), *(_copied(record) if with_copies else ()))


async def _find_by_words(tx: Transaction, written: Sequence[Written]) -> None:
    """Write the words of records where fields changed by which they are found."""
    own = {item.record.org_id for item in written if item.record.type not in ID_PREFIXES}
    schemas = await record_schema.of_many(tx, own) if own else {}
    changed = []
    for item in written:
        record = item.record
        of = schemas.get(record.org_id, STANDARD).of(record.type)
        looked_at = of.found_by
        if any(change.field in looked_at for change in item.changes):
            new, gone = list(words.of_record(of, record.fields)), list[Entry]()
            if not item.created:
                before = field_changes.as_of(record.fields, reversed(item.changes))
                gone, new = words.difference(words.of_record(of, before), new)
            changed.append(((record.org_id, record.id), gone, new))
    await record_search.change(tx, changed)


def _finished(tx: Transaction, draft: Draft) -> Written:
    if draft.history and not draft.created:
        # Who waited for the record began before who was first: history would stand the other way round.
        at = max(tx.now, draft.record.updated_at)
        draft.record = copied(draft.record, rev=draft.record.rev + 1, updated_at=at)
    return Written(draft.record, tuple(change for change, _, _ in draft.history), draft.created, *_author(draft))


def _author(draft: Draft) -> tuple[str, str]:
    return draft.history[-1][1:] if draft.history else ("", "")


def _columns(record: Record) -> tuple[Any, ...]:
    about = (record.org_id, record.id, record.type, record.fields, record.rev, record.created_at, record.updated_at)
    return (*about, *_copied(record))


def _copied(record: Record) -> tuple[Any, ...]:
    return tuple(record.fields.get(name) for name in COPIED)


def _history(tx: Transaction, draft: Draft) -> list[tuple[Any, ...]]:
    record = draft.record
    at = tx.now if draft.created else record.updated_at
    change_ids = _change_ids(record, len(draft.history))
    return [
        (record.org_id, change_id, record.id, edit.field, edit.old, edit.new, actor, cause, at)
        for change_id, (edit, actor, cause) in zip(change_ids, draft.history, strict=True)
    ]


def _change_ids(record: Record, count: int) -> Iterable[str]:
    """Yield the ids of changes: of one instant, the later one sorts after the earlier one of the same record."""
    digest = int.from_bytes(hashlib.blake2b(record.id.encode(), digest_size=6).digest())
    return (
        names.compose("chg", record.updated_at, (record.rev << 60) | (index << 48) | digest) for index in range(count)
    )


def _given_up(item: Written) -> list[identifiers.Row]:
    if item.record.type != "contact":
        return []
    changed = [change for change in item.changes if change.field in ("email", "phone") and change.old is not None]
    if not changed:
        return []
    kept = set(identity.of_fields("contact", item.record.fields))
    old = (identity.normalise(change.field, change.old) for change in changed)
    record = item.record
    return [(record.org_id, record.type, *value, record.id) for value in old if value is not None and value not in kept]
