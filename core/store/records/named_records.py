"""Whose identifiers are, and the records behind them locked, in one statement: how writers begin that know a name.

It locks in order of id, as everybody does, and what it says of owners is what was so before it waited for a lock.
"""

from __future__ import annotations

from collections.abc import Collection

from core.domain.records.identity import Identifier
from core.store.metadata import write_json
from core.store.records.record_rows import READ_COLUMNS, Record, from_driver
from core.store.transaction import Transaction, rows_of_json

_COLUMNS = ", ".join(f"r.{name}" for name in READ_COLUMNS)
# A row is an identifier and its owner, or a record.
_BOTH = (
    f"SELECT kind, value, record_id, {', '.join(['NULL'] * len(READ_COLUMNS))} FROM named "  # noqa: S608
    f"UNION ALL SELECT NULL, NULL, NULL, {_COLUMNS} FROM"
)
_HOLD_POSTGRESQL = (
    "WITH named AS MATERIALIZED (SELECT i.kind, i.value, i.record_id "  # noqa: S608
    f"FROM {rows_of_json({'kind': 'text', 'value': 'text'}, 3)} AS w CROSS JOIN LATERAL "
    # One by one: else all identifiers of the organization may be read.
    "(SELECT * FROM record_identifiers WHERE org_id = $1 AND record_type = $2 AND kind = w.kind AND value = w.value "
    "LIMIT 1) i), "
    f"held AS MATERIALIZED (SELECT {_COLUMNS} FROM records r WHERE r.org_id = $1 AND r.id = "
    "ANY(ARRAY(SELECT record_id FROM named UNION SELECT unnest($4::text[]))) AND r.deleted_at IS NULL "
    f"ORDER BY r.id FOR UPDATE OF r) {_BOTH} held r"
)
_HOLD_SQLITE = (
    "WITH named AS MATERIALIZED (SELECT i.kind, i.value, i.record_id "  # noqa: S608
    "FROM json_each($3) w CROSS JOIN record_identifiers i "
    "ON i.org_id = $1 AND i.record_type = $2 AND i.kind = (w.value ->> 0) AND i.value = (w.value ->> 1)) "
    f"{_BOTH} (SELECT record_id FROM named UNION SELECT value FROM json_each($4)) w "
    "CROSS JOIN records r ON r.org_id = $1 AND r.id = w.record_id WHERE r.deleted_at IS NULL"
)


async def hold_named(
    tx: Transaction, record_type: str, identifiers: Collection[Identifier], record_ids: Collection[str]
) -> tuple[dict[Identifier, str], list[Record]]:
    """Return whose these identifiers are, and their owners and these records, locked until the transaction ends.

    An owner that is not among the records was deleted or merged since, be it while this waited for it.
    """
    if not identifiers and not record_ids:
        return {}, []
    keys, ids = sorted(identifiers), sorted(record_ids)
    if tx.dialect == "postgresql":
        rows = await tx.fetch(_HOLD_POSTGRESQL, tx.org_id, record_type, write_json(keys), ids)
    else:
        rows = await tx.fetch(_HOLD_SQLITE, tx.org_id, record_type, write_json(keys), write_json(ids))
    owners = {(row[0], row[1]): row[2] for row in rows if row[0] is not None}
    return owners, [from_driver(row[3:]) for row in rows if row[0] is None]
