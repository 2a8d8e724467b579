"""Since when the fields of records are what they are, so that what comes late does not undo what happened since."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Select, func, select

from core.domain import names
from core.domain.records.lateness import EVENT
from core.store.events.events import events
from core.store.metadata import day_of
from core.store.records.record_rows import record_changes
from core.store.transaction import Transaction

SetAt = dict[str, dict[str, datetime]]
"""Record to field to the instant since which it is what it is."""


async def set_since(tx: Transaction, as_of: Mapping[str, datetime], fields: Collection[str]) -> SetAt:
    """Return which of these fields of these records were set after an instant, and when: one answer for each at most.

    What an event brought is so since the event happened, whenever it arrived.
    """
    if not as_of or not fields:
        return {}
    rows = await tx.all(newest(tx.org_id, as_of, fields))
    prefix = f"{EVENT}:"
    brought = {row.cause: row.cause.removeprefix(prefix) for row in rows if row.cause.startswith(prefix)}
    happened = await _happened(tx, brought.values())
    found: SetAt = {}
    for row in rows:
        at = happened.get(brought.get(row.cause, ""), row.created_at)
        found.setdefault(row.record_id, {})[row.field] = at
    return found


def newest(org: str, as_of: Mapping[str, datetime], fields: Collection[str]) -> Select[Any]:
    """Return the query of the last change of each field of each record since the earliest of these instants.

    Ids of changes begin with their instant, so the index of a record's changes is read from that instant on.
    """
    c, earliest = record_changes.c, min(as_of.values())
    place = func.row_number().over(partition_by=(c.record_id, c.field), order_by=c.id.desc()).label("place")
    since = (
        select(c.org_id, c.record_id, c.field, c.cause, c.created_at, place)
        .where(
            c.org_id == org,  # named in here, too: a condition from outside does not reach below a window
            c.record_id.in_(sorted(as_of)),
            c.id >= names.compose("chg", earliest, 0),
            c.field.in_(sorted(fields)),
            c.created_at > earliest,
        )
        .subquery()
    )
    return select(since).where(since.c.place == 1)


async def _happened(tx: Transaction, event_ids: Iterable[str]) -> dict[str, datetime]:
    wanted = sorted(set(event_ids))
    if not wanted:
        return {}
    days = sorted({day_of(names.minted_at(event_id)) for event_id in wanted})
    rows = await tx.all(
        select(events.c.id, events.c.occurred_at).where(events.c.id.in_(wanted), events.c.day.in_(days))
    )
    return {row.id: row.occurred_at for row in rows}
