"""What a row was and became, as a digest: the before and after of the audit log.

A subject's table is named after its noun, so that new kinds of things need no entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from sqlalchemy import Table, select

from core.domain.control.digest import digest
from core.store.metadata import metadata
from core.store.postgresql import PARTITIONED
from core.store.transaction import Transaction
from core.store.webhooks.deliveries import day_in

TABLES: Mapping[str, str] = {
    "agent_task": "agent_tasks",
    "company": "records",
    "contact": "records",
    "lead": "records",
    "letter": "dead_letters",
    "quarantined": "quarantine",
    "quarantined_event": "quarantine",
    "task": "agent_tasks",
}
"""Nouns whose table is called differently."""


async def digest_of(tx: Transaction, noun: str, subject_id: str) -> str:
    """Return the digest of everything stored of a subject; empty where there is none, or no table for it."""
    table = table_of(noun)
    if table is None or not subject_id:
        return ""
    statement = select(table).where(table.c.id == subject_id)
    if table.name in PARTITIONED:
        statement = statement.where(table.c.day == day_in(subject_id))
    row = await tx.first(statement)
    return "" if row is None else digest({name: _plain(value) for name, value in row._mapping.items()})


@cache
def table_of(noun: str) -> Table | None:
    """Return the table of a noun, such as `policies` of `policy`."""
    names = (TABLES.get(noun, ""), f"{noun}s", f"{noun.removesuffix('y')}ies")
    found = next((metadata.tables[name] for name in names if name in metadata.tables), None)
    return found if found is not None and {"org_id", "id"} <= set(found.c.keys()) else None


def _plain(value: object) -> object:
    return value.hex() if isinstance(value, bytes) else value
