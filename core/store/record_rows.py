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

from sqlalchemy import Column, Index, Integer, Row, Table, text

from core.domain import names
from core.domain.enrollment import RecordFacts
from core.domain.frozen import copied, frozen
from core.domain.records import changes as field_changes
from core.domain.records import identity
from core.domain.records.changes import Change
from core.store import identifiers
from core.store.metadata import Instant, Json, Name, from_micros, metadata, org_id, read_json, to_micros, write_json
from core.store.transaction import Transaction, rows_of_json, values_by_column

records = Table(
    "records",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("type", Name, nullable=False),
    Column("fields", Json, nullable=False),
    Column("rev", Integer, nullable=False),
    # Of leads: a copy of the field, so that a contact's leads are found by index.
    Column("contact_id", Name),
    # Of contacts, for a company's contacts.
    Column("company_id", Name),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("deleted_at", Instant),
    Index("records_type", "org_id", "type", "id"),
    Index(
        "records_contact",
        "org_id",
        "contact_id",
        "id",
        sqlite_where=text("contact_id IS NOT NULL"),
        postgresql_where=text("contact_id IS NOT NULL"),
    ),
    Index(
        "records_company",
        "org_id",
        "company_id",
        "id",
        sqlite_where=text("company_id IS NOT NULL"),
        postgresql_where=text("company_id IS NOT NULL"),
    ),
)

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
    Index("record_changes_record", "org_id", "record_id", "id"),
)

_RECORD_COLUMNS = ("org_id", "id", "type", "fields", "rev", "contact_id", "company_id", "created_at", "updated_at")
_CHANGE_COLUMNS = ("org_id", "id", "record_id", "field", "old_value", "new_value", "actor", "cause", "created_at")
_UPDATE_SQLITE = (
    "UPDATE records SET fields = ?, rev = ?, contact_id = ?, company_id = ?, updated_at = ? WHERE org_id = ? AND id = ?"
)
_MOVED = {"org_id": "text", "id": "text", "fields": "jsonb", "rev": "int"} | {
    "contact_id": "text",
    "company_id": "text",
    "at": "bigint",
}
_UPDATE_POSTGRESQL = (
    "UPDATE records r SET fields = v.fields, rev = v.rev, contact_id = v.contact_id, "  # noqa: S608
    "company_id = v.company_id, updated_at = v.at "
    f"FROM {rows_of_json(_MOVED)} AS v WHERE r.org_id = v.org_id AND r.id = v.id"
)
_COLUMNS_OF_R = ", ".join(f"r.{name}" for name in _RECORD_COLUMNS)
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

    @property
    def etag(self) -> str:
        """Return the version as callers see it."""
        return f'"{self.rev}"'

    @property
    def contact_id(self) -> str | None:
        """Return a lead's contact."""
        return self.fields.get("contact_id") if self.type == "lead" else None

    @property
    def company_id(self) -> str | None:
        """Return a contact's company."""
        return self.fields.get("company_id") if self.type == "contact" else None

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
        return tuple(_change_id(self.record, index) for index in range(len(self.changes)))


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
    return Record(row.org_id, row.id, row.type, row.fields, row.rev, row.created_at, row.updated_at)


async def hold(tx: Transaction, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], Record]:
    """Return the records with these `(organization, id)`, locked until the transaction ends."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_HOLD_POSTGRESQL, *values_by_column(wanted))
    else:
        rows = await tx.fetch(_HOLD_SQLITE, write_json(wanted))
    return {(row[0], row[1]): _from_driver(row) for row in rows}


def _from_driver(row: Sequence[Any]) -> Record:
    fields = read_json(row[3]) if isinstance(row[3], str) else row[3]
    return Record(row[0], row[1], row[2], fields, row[4], from_micros(row[7]), from_micros(row[8]))


async def save(tx: Transaction, drafts: Collection[Draft]) -> list[Written]:
    """Write drafts, their history and the identifiers that they gave up; a draft without changes writes nothing."""
    written = [_finished(tx, draft) for draft in drafts]
    new = [item.record for item in written if item.created]
    moved = [item.record for item in written if item.changes and not item.created]
    await tx.bulk_insert(records, _RECORD_COLUMNS, [_columns(record) for record in new])
    await _update(tx, moved)
    await tx.bulk_insert(record_changes, _CHANGE_COLUMNS, [row for draft in drafts for row in _history(tx, draft)])
    await identifiers.release(tx, [key for item in written for key in _given_up(item)])
    return written


def _finished(tx: Transaction, draft: Draft) -> Written:
    if draft.history and not draft.created:
        draft.record = copied(draft.record, rev=draft.record.rev + 1, updated_at=tx.now)
    return Written(draft.record, tuple(change for change, _, _ in draft.history), draft.created, *_author(draft))


def _author(draft: Draft) -> tuple[str, str]:
    return draft.history[-1][1:] if draft.history else ("", "")


def _columns(record: Record) -> tuple[Any, ...]:
    copied, times = (record.contact_id, record.company_id), (record.created_at, record.updated_at)
    return (record.org_id, record.id, record.type, record.fields, record.rev, *copied, *times)


async def _update(tx: Transaction, moved: Sequence[Record]) -> None:
    if not moved:
        return
    rows = [(r.org_id, r.id, r.fields, r.rev, r.contact_id, r.company_id, to_micros(r.updated_at)) for r in moved]
    driver = await tx.driver()
    if tx.dialect == "postgresql":
        await driver.execute(_UPDATE_POSTGRESQL, write_json(rows))
    else:
        values = [(write_json(fields), *rest, org, id_) for org, id_, fields, *rest in rows]
        await driver.executemany(_UPDATE_SQLITE, values)


def _history(tx: Transaction, draft: Draft) -> list[tuple[Any, ...]]:
    record = draft.record
    return [
        (record.org_id, _change_id(record, index), record.id, edit.field, edit.old, edit.new, actor, cause, tx.now)
        for index, (edit, actor, cause) in enumerate(draft.history)
    ]


def _change_id(record: Record, index: int) -> str:
    """Return the id of a change: of one instant, the later one sorts after the earlier one of the same record."""
    digest = int.from_bytes(hashlib.sha256(record.id.encode()).digest()[:6])
    return names.compose("chg", record.updated_at, (record.rev << 60) | (index << 48) | digest)


def _given_up(item: Written) -> list[identifiers.Row]:
    if item.record.type != "contact":
        return []
    changed = [change for change in item.changes if change.field in ("email", "phone")]
    if not changed:
        return []
    kept = set(identity.of_fields("contact", item.record.fields))
    old = (identity.normalise(change.field, change.old) for change in changed)
    record = item.record
    return [(record.org_id, record.type, *value, record.id) for value in old if value is not None and value not in kept]
