"""The opportunities and own objects that decisions look at: those that enrollments are about, and contacts' newest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from core.domain.enrollment import RecordFacts
from core.store.metadata import read_json, write_json
from core.store.transaction import Transaction, values_by_column

Contact = tuple[str, str]
"""Organization and contact."""

InHand = tuple[str, str]
"""Type of a record and its id; an empty id for the newest of the contact."""

# A look at each, not joins: the table is not to be read from end to end, nor are the thousands that a contact may have.
_COLUMNS = "r.id, r.type, r.fields"
_BY_ID_SQLITE = (
    f"SELECT w.value ->> 0, w.value ->> 2, {_COLUMNS} FROM json_each($1) w CROSS JOIN records r "  # noqa: S608
    "ON r.org_id = (w.value ->> 0) AND r.id = (w.value ->> 1) WHERE r.deleted_at IS NULL"
)
_BY_ID_POSTGRESQL = (
    f"SELECT w.org_id, w.contact_id, {_COLUMNS} "  # noqa: S608
    "FROM unnest($1::text[], $2::text[], $3::text[]) AS w(org_id, id, contact_id) CROSS JOIN LATERAL "
    "(SELECT n.id, n.type, n.fields FROM records n WHERE n.org_id = w.org_id AND n.id = w.id "
    "AND n.deleted_at IS NULL LIMIT 1) r"
)
_NEWEST_SQLITE = (
    f"SELECT w.value ->> 0, w.value ->> 1, {_COLUMNS} FROM json_each($1) w CROSS JOIN records r "  # noqa: S608
    "ON r.org_id = (w.value ->> 0) AND r.id = (SELECT n.id FROM records n WHERE n.org_id = (w.value ->> 0) "
    "AND n.contact_id = (w.value ->> 1) AND n.type = (w.value ->> 2) AND n.deleted_at IS NULL "
    "ORDER BY n.id DESC LIMIT 1)"
)
_NEWEST_POSTGRESQL = (
    f"SELECT w.org_id, w.contact_id, {_COLUMNS} "  # noqa: S608
    "FROM unnest($1::text[], $2::text[], $3::text[]) AS w(org_id, contact_id, type) CROSS JOIN LATERAL "
    "(SELECT n.id, n.type, n.fields FROM records n WHERE n.org_id = w.org_id AND n.contact_id = w.contact_id "
    "AND n.type = w.type AND n.deleted_at IS NULL ORDER BY n.id DESC LIMIT 1) r"
)


async def of_contacts(
    tx: Transaction, wanted: Mapping[Contact, Collection[InHand]]
) -> dict[Contact, dict[str, RecordFacts]]:
    """Return the records that are there, for a caller's or a loop's transaction: by id, the newest by their type."""
    named = [(org, one, who) for (org, who), some in wanted.items() for _, one in some if one]
    newest = [(org, who, kind) for (org, who), some in wanted.items() for kind, one in some if not one]
    found: dict[Contact, dict[str, RecordFacts]] = {}
    for row in await _fetch(tx, _BY_ID_SQLITE, _BY_ID_POSTGRESQL, named):
        found.setdefault((row[0], row[1]), {})[row[2]] = _facts(row)
    for row in await _fetch(tx, _NEWEST_SQLITE, _NEWEST_POSTGRESQL, newest):
        found.setdefault((row[0], row[1]), {})[row[3]] = _facts(row)
    return found


async def _fetch(
    tx: Transaction, sqlite: str, postgresql: str, rows: Collection[tuple[str, str, str]]
) -> Sequence[Sequence[Any]]:
    if not rows:
        return ()
    if tx.dialect == "postgresql":
        return await tx.fetch(postgresql, *values_by_column(sorted(set(rows))))
    return await tx.fetch(sqlite, write_json(sorted(set(rows))))


def _facts(row: Sequence[Any]) -> RecordFacts:
    fields = row[4]
    return RecordFacts(row[2], row[3], read_json(fields) if isinstance(fields, str) else fields)
