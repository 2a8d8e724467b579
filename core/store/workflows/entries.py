"""Entries that were refused: kept for a while, so that somebody can ask why a contact is not in a workflow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Index, Integer, Table, delete, select

from core.domain.frozen import frozen
from core.domain.workflow.entry import Judgement
from core.domain.workflow.storable import storable
from core.domain.workflow.version import Version
from core.domain.workflow.why_not import PastRefusal
from core.store.metadata import Instant, Json, Name, dump_json, metadata, org_id, to_micros
from core.store.transaction import Transaction, values_by_column

KEPT = timedelta(days=30)
SHOWN = 20

entry_refusals = Table(
    "entry_refusals",
    metadata,
    org_id(),
    Column("workflow_id", Name, primary_key=True),
    Column("contact_id", Name, primary_key=True),
    # One row a reason, told anew each time: a busy trigger must not fill the table.
    Column("reason", Name, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("outcome", Name, nullable=False),
    Column("message", Name, nullable=False),
    Column("field", Name, nullable=False),
    Column("inputs", Json, nullable=False),
    Column("actor", Name, nullable=False),
    Column("at", Instant, nullable=False),
    Column("times", Integer, nullable=False),
    Index("entry_refusals_age", "at"),
)

_COLUMNS = "org_id workflow_id contact_id reason version outcome message field inputs actor at times".split()
_TYPES = {"version": "int", "at": "bigint", "times": "int"}
_NEWER = (
    "ON CONFLICT (org_id, workflow_id, contact_id, reason) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[4:-1])
    + ", times = entry_refusals.times + excluded.times"
)
_KEEP_SQLITE = f"INSERT INTO entry_refusals ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) {_NEWER}"  # noqa: S608
_KEEP_POSTGRESQL = (
    f"INSERT INTO entry_refusals ({', '.join(_COLUMNS)}) "  # noqa: S608 -- names are ours
    f"SELECT {', '.join(f'{name}::jsonb' if name == 'inputs' else name for name in _COLUMNS)} FROM unnest("
    + ", ".join(f"${number}::{_TYPES.get(name, 'text')}[]" for number, name in enumerate(_COLUMNS, 1))
    + f") AS rows({', '.join(_COLUMNS)}) {_NEWER}"
)


@frozen
class Refusal:
    """A contact that was not let into a workflow."""

    org_id: str
    workflow_id: str
    contact_id: str
    reason: str
    version: int
    outcome: str
    message: str
    field: str
    inputs: dict[str, Any]
    actor: str
    """Who wanted to enroll it: a principal's id, or `event:<id>` and the like."""

    @classmethod
    def of(cls, org_id: str, version: Version, contact_id: str, actor: str, judged: Judgement) -> Refusal:
        """Return the refusal that a judgement amounts to."""
        return cls(
            org_id,
            version.workflow_id,
            contact_id,
            judged.reason,
            version.number,
            judged.outcome,
            judged.message,
            judged.field,
            storable(judged.inputs),
            actor,
        )


async def keep(tx: Transaction, refusals: Sequence[Refusal]) -> None:
    """Write refusals, of any organizations; one that was there for the same reason is told anew, and counted."""
    rows: dict[tuple[str, ...], tuple[Any, ...]] = {}
    for one in refusals:
        identity = (one.org_id, one.workflow_id, one.contact_id, one.reason)
        times = rows[identity][-1] + 1 if identity in rows else 1
        about = (one.version, one.outcome, one.message, one.field, dump_json(one.inputs), one.actor, to_micros(tx.now))
        rows[identity] = (*identity, *about, times)
    if not rows:
        return
    ordered = [rows[identity] for identity in sorted(rows)]  # in one order everywhere: no two writers wait in a circle
    if tx.dialect == "postgresql":
        await tx.fetch(_KEEP_POSTGRESQL, *values_by_column(ordered))
    else:
        await tx.write_many(_KEEP_SQLITE, ordered)


async def of_contact(tx: Transaction, workflow_id: str, contact_id: str) -> list[PastRefusal]:
    """Return why a contact was not let into a workflow lately, the newest first."""
    table = entry_refusals
    rows = await tx.all(
        select(table)
        .where(table.c.workflow_id == workflow_id, table.c.contact_id == contact_id, table.c.at >= tx.now - KEPT)
        .order_by(table.c.at.desc(), table.c.reason)
        .limit(SHOWN)
    )
    return [PastRefusal(row.at, row.outcome, row.reason, row.message, row.actor, row.inputs, row.times) for row in rows]


async def forget_old(tx: Transaction, now: datetime) -> int:
    """Delete refusals that are older than they are kept, in a system transaction; return how many."""
    return await tx.run(delete(entry_refusals).where(entry_refusals.c.at < now - KEPT))
