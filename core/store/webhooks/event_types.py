"""Event types that organizations declare: the newest version of each, and all that there were."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Integer, Row, Table, func, select, tuple_, update

from core.domain.frozen import frozen
from core.domain.webhooks.own_types import OwnType, breaking_changes
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction

MOST_TYPES = 1_000
"""Of one organization."""

event_types = Table(
    "event_types",
    metadata,
    org_id(),
    Column("name", Name, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("description", Name, nullable=False),
    Column("schema", Json, nullable=False),
    # What receivers of the version before may trip over, one sentence each.
    Column("breaking_changes", Json, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

event_type_versions = Table(
    "event_type_versions",
    metadata,
    org_id(),
    Column("name", Name, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("description", Name, nullable=False),
    Column("schema", Json, nullable=False),
    Column("breaking_changes", Json, nullable=False),
    Column("created_by", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
)

_NOTHING: Mapping[str, Any] = {"version": 0, "description": "", "schema": {}, "breaking_changes": []}


@frozen
class Declared:
    """A version that was just declared."""

    type: OwnType
    breaking_changes: tuple[str, ...]


async def declare(
    tx: Transaction, name: str, description: str, schema: Mapping[str, Any], *, created_by: str
) -> Declared | None:
    """Add the next version of a type and return it; None where the organization has as many types as it may have.

    Of two at once, one waits and gets the later number.
    """
    table = event_types
    await tx.insert(table, [{"name": name, **_NOTHING, "updated_at": tx.now}], on_conflict="ignore")
    before = await tx.first(select(table).where(table.c.name == name).with_for_update())
    assert before is not None
    if not before.version and await _count(tx) > MOST_TYPES:
        return None
    told = breaking_changes(before.schema, schema) if before.version else ()
    version = before.version + 1
    about = {"version": version, "description": description, "schema": schema, "breaking_changes": list(told)}
    await tx.run(update(table).where(table.c.name == name).values(**about, updated_at=tx.now))
    await tx.insert(event_type_versions, [{"name": name, **about, "created_by": created_by, "created_at": tx.now}])
    return Declared(OwnType(name, version, description, schema), told)


async def _count(tx: Transaction) -> int:
    row = await tx.first(select(func.count(event_types.c.name).label("types")).select_from(event_types))
    return int(row.types) if row is not None else 0


async def newest(tx: Transaction, *, after: str = "", limit: int = MOST_TYPES) -> Sequence[Row[Any]]:
    """Return the newest version of types of the organization, by name, those after this one."""
    c = event_types.c
    statement = select(event_types).where(c.version > 0, c.name > after).order_by(c.name)
    return await tx.all(statement.limit(limit))


async def schemas_of(tx: Transaction, keys: Iterable[tuple[str, str]]) -> dict[tuple[str, str], OwnType]:
    """Return the newest version of each `(organization, type)` that is declared; for one or for every organization."""
    wanted = sorted(set(keys))
    if not wanted:
        return {}
    table = event_types
    rows = await tx.all(select(table).where(tuple_(table.c.org_id, table.c.name).in_(wanted), table.c.version > 0))
    return {(row.org_id, row.name): OwnType(row.name, row.version, row.description, row.schema) for row in rows}
