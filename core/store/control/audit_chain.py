"""Sealing the audit log: every entry gets its place in the chain of its organization, in the order of commits.

One process at a time seals an organization's entries, under the lock of its head. A crash in between loses nothing:
what has no place yet is looked for again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Row, select, update

from core.domain.control import audit as chain
from core.domain.control.audit import Seal
from core.store.control.audit import audit_entries, audit_heads, entry_of
from core.store.metadata import day_of, write_json
from core.store.transaction import Transaction

SEALED_AT_ONCE = 500
"""Entries of one organization that a transaction seals."""

_ORGANIZATIONS_AT_ONCE = 100

# Looked for together: joined to a row each, the index of what is unsealed is read from end to end for every one.
_SEAL_MANY = (
    "UPDATE audit_entries SET sequence = ($1::jsonb -> id ->> 0)::bigint, previous_hash = $1::jsonb -> id ->> 1, "
    "hash = $1::jsonb -> id ->> 2 WHERE org_id = $2 AND day = $3 AND id = ANY($4::text[]) AND sequence IS NULL"
)
_SEAL_ONE = (
    "UPDATE audit_entries SET sequence = ?, previous_hash = ?, hash = ? "
    "WHERE org_id = ? AND day = ? AND id = ? AND sequence IS NULL"
)


async def waiting(tx: Transaction, since_day: int) -> list[str]:
    """Return organizations with entries to seal, asking all; `since_day` leaves older partitions alone."""
    c = audit_entries.c
    rows = await tx.all(
        select(c.org_id).where(c.sequence.is_(None), c.day >= since_day).distinct().limit(_ORGANIZATIONS_AT_ONCE)
    )
    return [row.org_id for row in rows]


async def seal(tx: Transaction, org: str, since_day: int) -> int:
    """Seal some entries of an organization, in a system transaction; return how many. None while another one does."""
    held = await _held(tx, org)
    if held is None:
        return 0
    c = audit_entries.c
    rows = await tx.all(
        select(audit_entries)
        .where(c.org_id == org, c.sequence.is_(None), c.day >= since_day)
        .order_by(c.id)
        .limit(SEALED_AT_ONCE)
    )
    if not rows:
        return 0
    last = Seal(held.sequence, held.hash)
    placed: dict[int, list[tuple[str, int, str, str]]] = defaultdict(list)
    for row in rows:
        sealed = chain.seal(entry_of(row), last)
        placed[row.day].append((row.id, sealed.sequence, last.hash, sealed.hash))
        last = sealed
    await _place(tx, org, placed)
    values = {"sequence": last.sequence, "hash": last.hash, "sealed_at": tx.now}
    await tx.run(update(audit_heads).where(audit_heads.c.org_id == org).values(values))
    return len(rows)


async def _held(tx: Transaction, org: str) -> Row[Any] | None:
    """Return an organization's head, held until the transaction ends; None while another process holds it."""
    here = select(audit_heads).where(audit_heads.c.org_id == org).with_for_update(skip_locked=True)
    row = await tx.first(here)
    if row is not None:
        return row
    first = {"org_id": org, "sequence": 0, "hash": "", "sealed_at": tx.now, "anchor_sequence": 0, "anchor_hash": ""}
    await tx.insert(audit_heads, [first], on_conflict="ignore")
    return await tx.first(here)


async def _place(tx: Transaction, org: str, placed: Mapping[int, Sequence[tuple[str, int, str, str]]]) -> None:
    for day, rows in placed.items():
        if tx.dialect == "postgresql":
            seals = {id_: seal for id_, *seal in rows}
            await tx.fetch(_SEAL_MANY, write_json(seals), org, day, list(seals))
        else:
            await tx.write_many(_SEAL_ONE, [(seq, before, own, org, day, id_) for id_, seq, before, own in rows])


async def anchor(tx: Transaction, before_day: int) -> None:
    """Note, in a system transaction, up to where entries older than a day may go; the last of them is the anchor.

    Entries are sealed in the order of commits, so around midnight an older one may follow a newer one: it stays as
    long as that.
    """
    c, heads = audit_entries.c, audit_heads.c
    for row in await tx.all(select(audit_heads).where(heads.anchor_sequence < heads.sequence)):
        here = (c.org_id == row.org_id, c.sequence > row.anchor_sequence)
        kept = await tx.first(select(c.sequence).where(*here, c.day >= before_day).order_by(c.sequence).limit(1))
        last = row.sequence if kept is None else kept.sequence - 1
        gone = await tx.first(select(c.hash).where(c.org_id == row.org_id, c.sequence == last))
        if last > row.anchor_sequence and gone is not None:
            values = {"anchor_sequence": last, "anchor_hash": gone.hash}
            await tx.run(update(audit_heads).where(heads.org_id == row.org_id).values(values))


def recent(today: int) -> int:
    """Return the day since which a transaction that is not committed yet may have begun."""
    return today - 1


def day_before(row: Row[Any]) -> int:
    """Return the day before which nothing follows an entry in the chain."""
    return day_of(row.create_time) - 1
