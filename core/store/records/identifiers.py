"""Identifiers of records: which record an e-mail, a phone, a person id or a name in another system belongs to.

The primary key is what makes two concurrent upserts of one e-mail one contact. Statements go through the driver, many
rows at a time, and name organizations themselves.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Index, Table, func, select

from core.domain.frozen import frozen
from core.domain.records import identity
from core.domain.records.identity import Identifier
from core.store.metadata import Name, dump_json, metadata, org_id
from core.store.transaction import Transaction, values_by_column

record_identifiers = Table(
    "record_identifiers",
    metadata,
    org_id(),
    Column("record_type", Name, primary_key=True),
    Column("kind", Name, primary_key=True),
    Column("value", Name, primary_key=True),
    Column("record_id", Name, nullable=False),
    Index("record_identifiers_record", "org_id", "record_id"),
)

Key = tuple[str, str, str, str]
"""Organization, record type, kind, value."""
Row = tuple[str, str, str, str, str]
"""A key and the record it belongs to."""
ExternalName = tuple[str, str]
"""Another system, and the record's id there."""

_KEYS_POSTGRESQL = "unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS w(org_id, record_type, kind, value)"
_ROWS_POSTGRESQL = (
    "unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) "
    "AS w(org_id, record_type, kind, value, record_id)"
)
_PARTS = [f"(w.value ->> {number})" for number in range(5)]
_COLUMNS = "org_id, record_type, kind, value"
_OWNERS_POSTGRESQL = (
    f"SELECT {_COLUMNS}, i.record_id FROM {_KEYS_POSTGRESQL} JOIN record_identifiers i USING ({_COLUMNS})"  # noqa: S608
)
_OWNERS_SQLITE = (
    "SELECT i.org_id, i.record_type, i.kind, i.value, i.record_id FROM json_each($1) w "  # noqa: S608
    f"CROSS JOIN record_identifiers i ON i.org_id = {_PARTS[0]} AND i.record_type = {_PARTS[1]} "
    f"AND i.kind = {_PARTS[2]} AND i.value = {_PARTS[3]}"
)
_REFERENCES = (
    "SELECT record_id, kind, value FROM record_identifiers WHERE org_id = $1 AND record_id {} AND kind LIKE 'ext:%' "
    "ORDER BY kind, value"
)
_REFERENCES_POSTGRESQL = _REFERENCES.format("= ANY($2::text[])")
_REFERENCES_SQLITE = _REFERENCES.format("IN (SELECT value FROM json_each($2))")
_CLAIM_POSTGRESQL = (
    f"INSERT INTO record_identifiers ({_COLUMNS}, record_id) SELECT {_COLUMNS}, record_id FROM {_ROWS_POSTGRESQL} "  # noqa: S608
    f"ON CONFLICT DO NOTHING RETURNING {_COLUMNS}"
)
_CLAIM_SQLITE = (
    f"INSERT INTO record_identifiers ({_COLUMNS}, record_id) SELECT {', '.join(_PARTS)} FROM json_each($1) w "  # noqa: S608
    f"WHERE true ON CONFLICT DO NOTHING RETURNING {_COLUMNS}"
)
_RELEASE_POSTGRESQL = (
    f"DELETE FROM record_identifiers i USING {_ROWS_POSTGRESQL} WHERE i.org_id = w.org_id "  # noqa: S608
    "AND i.record_type = w.record_type AND i.kind = w.kind AND i.value = w.value AND i.record_id = w.record_id"
)
_RELEASE_SQLITE = (
    "DELETE FROM record_identifiers WHERE org_id = ? AND record_type = ? AND kind = ? AND value = ? AND record_id = ?"
)
_REPOINT = "UPDATE record_identifiers SET record_id = $3 WHERE org_id = $1 AND record_id = $2"


@frozen
class Change:
    """A patch of a record that may change what identifies it."""

    org_id: str
    record_id: str
    record_type: str
    patch: Mapping[str, Any]


async def owners(tx: Transaction, keys: Iterable[Key]) -> dict[Key, str]:
    """Return the record that each identifier belongs to, where it belongs to one."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_OWNERS_POSTGRESQL, *values_by_column(wanted))
    else:
        rows = await tx.fetch(_OWNERS_SQLITE, dump_json(wanted))
    return {(row[0], row[1], row[2], row[3]): row[4] for row in rows}


async def claim(tx: Transaction, rows: Iterable[Row]) -> set[Key]:
    """Give identifiers to records where they are free, and return those that were.

    Waits for a transaction that is giving away the same one.
    """
    wanted = sorted(set(rows))  # in one order everywhere: two writers never wait for each other
    if not wanted:
        return set()
    if tx.dialect == "postgresql":
        won = await tx.fetch(_CLAIM_POSTGRESQL, *values_by_column(wanted))
    else:
        won = await tx.fetch(_CLAIM_SQLITE, dump_json(wanted))
    return {(row[0], row[1], row[2], row[3]) for row in won}


async def release(tx: Transaction, rows: Sequence[Row]) -> None:
    """Take identifiers away from these records."""
    if not rows:
        return
    if tx.dialect == "postgresql":
        await tx.fetch(_RELEASE_POSTGRESQL, *values_by_column(sorted(rows)))
    else:
        await tx.write_many(_RELEASE_SQLITE, sorted(rows))


async def counts(tx: Transaction, record_ids: Iterable[str]) -> dict[str, int]:
    """Return how many identifiers each of these records has."""
    c = record_identifiers.c
    wanted = sorted(set(record_ids))
    if not wanted:
        return {}
    statement = select(c.record_id, func.count().label("number")).where(c.record_id.in_(wanted)).group_by(c.record_id)
    return {row.record_id: int(row.number) for row in await tx.all(statement)}


async def of_records(tx: Transaction, record_ids: Iterable[str]) -> dict[str, set[Identifier]]:
    """Return what identifies each of these records."""
    c = record_identifiers.c
    wanted = sorted(set(record_ids))
    found: dict[str, set[Identifier]] = {record_id: set() for record_id in wanted}
    for row in await tx.all(select(c.record_id, c.kind, c.value).where(c.record_id.in_(wanted))):
        found[row.record_id].add((row.kind, row.value))
    return found


async def repoint(tx: Transaction, record_id: str, to: str) -> None:
    """Give every identifier of one record to another, in the organization of the transaction."""
    await tx.fetch(_REPOINT, tx.org_id, record_id, to)


async def claim_changed(tx: Transaction, changes: Iterable[Change]) -> dict[str, str]:
    """Take what patches of contacts make their identifiers; return who has a taken e-mail, by the record refused."""
    rows: list[Row] = [
        (change.org_id, change.record_type, *identifier, change.record_id)
        for change in changes
        for identifier in identity.of_fields(change.record_type, change.patch)
    ]
    won = await claim(tx, rows)
    lost = {row[:4]: row[4] for row in rows if row[:4] not in won}
    there = await owners(tx, lost)
    return {
        record_id: there[key]
        for key, record_id in lost.items()
        if key[2] == "email" and there.get(key, record_id) != record_id
    }


async def taken_emails(tx: Transaction, changes: Iterable[Change]) -> dict[Key, str]:
    """Return who has the e-mails that patches of contacts bring, where that is somebody else; takes nothing."""
    wanted: dict[Key, str] = {
        (change.org_id, change.record_type, *identifier): change.record_id
        for change in changes
        for identifier in identity.of_fields(change.record_type, change.patch)
        if identifier[0] == "email"
    }
    there = await owners(tx, wanted)
    return {key: owner for key, owner in there.items() if owner != wanted[key]}


def external_name(kind: str, value: str) -> ExternalName:
    """Return an identifier of a kind such as `ext:hubspot` as what it names."""
    return kind.removeprefix("ext:"), value


async def external_refs(tx: Transaction, record_ids: Iterable[str]) -> dict[str, list[ExternalName]]:
    """Return the names of records in other systems, by record."""
    wanted = sorted(set(record_ids))
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_REFERENCES_POSTGRESQL, tx.org_id, wanted)
    else:
        rows = await tx.fetch(_REFERENCES_SQLITE, tx.org_id, dump_json(wanted))
    found: dict[str, list[ExternalName]] = {}
    for record_id, kind, value in rows:
        found.setdefault(record_id, []).append(external_name(kind, value))
    return found


async def owner(tx: Transaction, record_type: str, identifier: Identifier) -> str | None:
    """Return the record that one identifier belongs to in the organization of the transaction."""
    key = (tx.org_id, record_type, *identifier)
    return (await owners(tx, [key])).get(key)
