"""Since when the fields of records are what they are, so that what comes late does not undo what happened since."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import select

from core.domain import names
from core.domain.records.lateness import EVENT
from core.store.events import events
from core.store.metadata import day_of
from core.store.record_rows import record_changes
from core.store.transaction import Transaction

SetAt = dict[str, dict[str, datetime]]
"""Record to field to the instant since which it is what it is."""


async def set_since(tx: Transaction, as_of: Mapping[str, datetime]) -> SetAt:
    """Return which fields of these records were set after an instant, and when.

    What an event brought is so since the event happened, whenever it arrived.
    """
    if not as_of:
        return {}
    table = record_changes
    earliest = min(as_of.values())
    rows = await tx.all(
        select(table.c.record_id, table.c.field, table.c.cause, table.c.created_at).where(
            table.c.record_id.in_(sorted(as_of)),
            table.c.id >= names.compose("chg", earliest, 0),
            table.c.created_at > earliest,
        )
    )
    prefix = f"{EVENT}:"
    brought = {row.cause: row.cause.removeprefix(prefix) for row in rows if row.cause.startswith(prefix)}
    happened = await _happened(tx, brought.values())
    found: SetAt = {}
    for row in rows:
        at = happened.get(brought.get(row.cause, ""), row.created_at)
        known = found.setdefault(row.record_id, {})
        known[row.field] = max(at, known.get(row.field, at))
    return found


async def _happened(tx: Transaction, event_ids: Iterable[str]) -> dict[str, datetime]:
    wanted = sorted(set(event_ids))
    if not wanted:
        return {}
    days = sorted({day_of(names.minted_at(event_id)) for event_id in wanted})
    rows = await tx.all(
        select(events.c.id, events.c.occurred_at).where(events.c.id.in_(wanted), events.c.day.in_(days))
    )
    return {row.id: row.occurred_at for row in rows}
