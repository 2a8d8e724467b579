"""Stored values that contradict a definition: counted, with a few of them named, before the definition holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from core.domain.records import definitions
from core.domain.records.definitions import MOST_SAMPLES, Definition, unique_key
from core.domain.records.schema import TypeSchema
from core.store.filtering import JsonPath, json_text
from core.store.records import unique_values
from core.store.records.record_rows import records
from core.store.transaction import Transaction

_AT_ONCE = 2_000
_LONGEST_SHOWN = 40


@dataclass(slots=True)
class Contradictions:
    """What stands in the way of a definition."""

    count: int = 0
    samples: list[str] = field(default_factory=list)
    """A few of them, each as a clause."""

    def add(self, record_id: str, value: Any, why: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.samples) < MOST_SAMPLES:
            shown = str(value)
            shown = f"{shown[:_LONGEST_SHOWN]}…" if len(shown) > _LONGEST_SHOWN else shown
            self.samples.append(f"{record_id} has `{shown}`, which {why}")


async def look(tx: Transaction, of: TypeSchema, definition: Definition) -> Contradictions:
    """Return the standing records whose value would not be taken under a definition, or is another record's too."""
    found = Contradictions()
    seen: dict[str, str] = {}
    async for record_id, value in _values(tx, of.name, definition.name):
        why = definitions.contradiction(definition, value)
        if not why and definition.unique:
            first = seen.setdefault(unique_key(value), record_id)
            why = "" if first == record_id else f"{first} has as well"
        if why:
            found.add(record_id, value, why)
    return found


async def settle_unique(tx: Transaction, of: TypeSchema, definition: Definition, before: Definition | None) -> None:
    """Write down who has which value of a field that becomes unique, or forget it where it no longer is."""
    if before is not None and before.unique and not before.archived:
        if not definition.unique:
            await unique_values.forget_field(tx, of.name, definition.name)
        return
    if not definition.unique:
        return
    rows: list[unique_values.Row] = []
    async for record_id, value in _values(tx, of.name, definition.name):
        rows.append((tx.org_id, of.name, definition.name, unique_key(value), record_id))
    for start in range(0, len(rows), _AT_ONCE):
        await unique_values.claim(tx, rows[start : start + _AT_ONCE])


async def _values(tx: Transaction, record_type: str, name: str) -> AsyncIterator[tuple[str, Any]]:
    """Yield the standing records of a type that have a value under a name, oldest first."""
    at = JsonPath(records.c.fields, ("custom", name))
    after = ""
    while True:
        rows = await tx.all(
            select(records.c.id, records.c.fields)
            .where(records.c.type == record_type, records.c.deleted_at.is_(None), records.c.id > after)
            .where(json_text(at, tx.dialect).is_not(None))
            .order_by(records.c.id)
            .limit(_AT_ONCE)
        )
        for row in rows:
            yield row.id, row.fields["custom"][name]
        if len(rows) < _AT_ONCE:
            return
        after = rows[-1].id
