"""Values of unique own fields: which record has each. The primary key is what makes two calls at once one value.

A record that was deleted or merged lets go of its values when somebody else wants them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

from sqlalchemy import Column, Index, Table, and_, delete, or_, select, text

from core.domain.errors import ValueTaken
from core.domain.records.changes import Change, value_at
from core.domain.records.definitions import Definition, unique_key
from core.domain.records.schema import Schema
from core.store.metadata import Name, dump_json, metadata, org_id
from core.store.records import record_schema
from core.store.transaction import Transaction, values_by_column

record_unique_values = Table(
    "record_unique_values",
    metadata,
    org_id(),
    Column("record_type", Name, primary_key=True),
    Column("field", Name, primary_key=True),
    Column("value", Name, primary_key=True),
    Column("record_id", Name, nullable=False),
    Index("record_unique_values_record", "org_id", "record_id"),
)

Key = tuple[str, str, str, str]
"""Organization, record type, field, value."""
Row = tuple[str, str, str, str, str]
"""A key and the record that has it."""


class Holder(Protocol):
    """A record."""

    @property
    def id(self) -> str: ...  # noqa: D102 -- as records have them
    @property
    def type(self) -> str: ...  # noqa: D102
    @property
    def fields(self) -> Mapping[str, Any]: ...  # noqa: D102


_COLUMNS = "org_id, record_type, field, value"
_FREE = (
    "EXISTS (SELECT 1 FROM records r WHERE r.org_id = excluded.org_id AND r.id = record_unique_values.record_id "
    "AND r.deleted_at IS NOT NULL)"
)
_STANDS = text(
    "NOT EXISTS (SELECT 1 FROM records r WHERE r.org_id = record_unique_values.org_id "
    "AND r.id = record_unique_values.record_id AND r.deleted_at IS NOT NULL)"
)
_MINE = f"record_unique_values.record_id = excluded.record_id OR {_FREE}"
# Whoever restores or merges the present holder is waited for first: the claim then sees what became of it.
_LOCK_POSTGRESQL = (
    "SELECT u.record_id FROM record_unique_values u JOIN unnest($1::text[], $2::text[], $3::text[], $4::text[]) "  # noqa: S608
    f"AS w({_COLUMNS}) USING ({_COLUMNS}) ORDER BY {_COLUMNS} FOR UPDATE OF u"
)
_CLAIM_POSTGRESQL = (
    f"INSERT INTO record_unique_values ({_COLUMNS}, record_id) "  # noqa: S608 -- names are ours
    "SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) "
    f"ON CONFLICT ({_COLUMNS}) DO UPDATE SET record_id = excluded.record_id WHERE {_MINE} RETURNING {_COLUMNS}"
)
_RELEASE_POSTGRESQL = (
    "DELETE FROM record_unique_values u USING unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[]) "  # noqa: S608
    f"AS w({_COLUMNS}, record_id) WHERE (u.org_id, u.record_type, u.field, u.value, u.record_id) "
    "= (w.org_id, w.record_type, w.field, w.value, w.record_id)"
)
_RELEASE_SQLITE = (
    "DELETE FROM record_unique_values WHERE org_id = ? AND record_type = ? AND field = ? AND value = ? "
    "AND record_id = ?"
)
_CLAIM_SQLITE = (
    f"INSERT INTO record_unique_values ({_COLUMNS}, record_id) "  # noqa: S608 -- names are ours
    "SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4 FROM json_each($1) WHERE true "
    f"ON CONFLICT ({_COLUMNS}) DO UPDATE SET record_id = excluded.record_id WHERE {_MINE} RETURNING {_COLUMNS}"
)


async def claim(tx: Transaction, rows: Iterable[Row]) -> dict[Key, str]:
    """Give values to records where they are free; return who has those that are not."""
    wanted: dict[Key, str] = {}
    lost: dict[Key, str] = {}
    for *key, record_id in sorted(set(rows)):  # in one order everywhere: two writers never wait for each other
        own: Key = (key[0], key[1], key[2], key[3])
        if wanted.setdefault(own, record_id) != record_id:
            lost[own] = wanted[own]
    if not wanted:
        return {}
    given = [(*key, record_id) for key, record_id in wanted.items()]
    if tx.dialect == "postgresql":
        await tx.fetch(_LOCK_POSTGRESQL, *values_by_column(list(wanted)))
        won = await tx.fetch(_CLAIM_POSTGRESQL, *values_by_column(given))
    else:
        won = await tx.fetch(_CLAIM_SQLITE, dump_json(given))
    beaten = set(wanted) - {(row[0], row[1], row[2], row[3]) for row in won}
    return {**lost, **await owners(tx, beaten)}


async def owners(tx: Transaction, keys: Iterable[Key]) -> dict[Key, str]:
    """Return the record that has each of these values; one that does not stand has none."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    c = record_unique_values.c
    rows = await tx.all(
        select(record_unique_values).where(
            or_(
                *(
                    and_(c.org_id == key[0], c.record_type == key[1], c.field == key[2], c.value == key[3])
                    for key in wanted
                )
            ),
            _STANDS,
        )
    )
    return {(row.org_id, row.record_type, row.field, row.value): row.record_id for row in rows}


def rows_of(
    schema: Schema, org: str, record_type: str, record_id: str, fields: Mapping[str, Any], *, dotted: bool = False
) -> list[Row]:
    """Return the unique values among fields of a record, or among a patch of dotted paths."""
    found = []
    for one in schema.unique.get(record_type, ()):
        value = fields.get(one.path) if dotted else value_at(fields, one.path)
        if value is not None:
            found.append((org, record_type, one.name, unique_key(value), record_id))
    return found


async def settle(tx: Transaction, changed: Sequence[tuple[str, str, str, Sequence[Change]]]) -> None:
    """Let records (organization, type, id) have the unique values that their changes brought, and no longer the old.

    Raises ValueTaken for one that another record has.
    """
    touched = [one for one in changed if any(change.field.startswith("custom") for change in one[3])]
    if not touched:
        return
    schemas = await record_schema.of_many(tx, {one[0] for one in touched})
    given_up: list[Row] = []
    wanted: list[Row] = []
    for org, record_type, record_id, changes in touched:
        for definition in schemas[org].unique.get(record_type, ()):
            values = _passed(definition, changes)
            place = (org, record_type, definition.name)
            given_up += [
                (*place, value, record_id) for value in values[:-1] if value is not None and value != values[-1]
            ]
            if values and values[-1] is not None:
                wanted.append((*place, values[-1], record_id))
    await release(tx, given_up)
    for key, owner in (await claim(tx, wanted)).items():
        raise ValueTaken(record_type=key[1], field=f"custom.{key[2]}", owner=owner)


def _passed(definition: Definition, changes: Sequence[Change]) -> list[str | None]:
    """Return the values that a field had from before the first of these changes to after the last."""
    found: list[Any] = []
    for change in changes:
        if change.field == definition.path:
            found += [change.old, change.new]
        elif change.field == "custom":
            sides = (change.old, change.new)
            found += [side.get(definition.name) if isinstance(side, Mapping) else None for side in sides]
    return [None if value is None else unique_key(value) for value in found]


async def give_back(tx: Transaction, record: Holder, other_id: str = "") -> dict[str, str]:
    """Let a record that stands again have its values; return who has the others, by path.

    What `other_id` took over when this record went into it, it gives up.
    """
    schema = await record_schema.of(tx)
    rows = rows_of(schema, tx.org_id, record.type, record.id, record.fields)
    await release(tx, [(*row[:4], other_id) for row in rows] if other_id else [])
    return {f"custom.{key[2]}": owner for key, owner in (await claim(tx, rows)).items()}


async def holder(tx: Transaction, record: Holder) -> str:
    """Return another record that has a value of this one, which does not stand; empty for none."""
    rows = rows_of(await record_schema.of(tx), tx.org_id, record.type, record.id, record.fields)
    found = await owners(tx, [row[:4] for row in rows])
    return next((owner for owner in found.values() if owner != record.id), "")


async def release(tx: Transaction, rows: Iterable[Row]) -> None:
    """Take values away from these records."""
    gone = sorted(rows)
    if not gone:
        return
    if tx.dialect == "postgresql":
        await tx.fetch(_RELEASE_POSTGRESQL, *values_by_column(gone))
    else:
        await tx.write_many(_RELEASE_SQLITE, gone)


async def forget_field(tx: Transaction, record_type: str, field: str) -> None:
    """Let a field of the organization not be unique any more."""
    c = record_unique_values.c
    await tx.run(delete(record_unique_values).where(c.record_type == record_type, c.field == field))
