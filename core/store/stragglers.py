"""What was still written for a merged record: by a transaction that had looked at it before the merge was committed.

Nobody who enrolls a contact or puts it on a list locks its record, because that would cost every enrollment something.
Upkeep sees to the few rows that a merge could not see yet; they follow as if they had been there.
"""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from sqlalchemy import Row, func, select, update

from core.store.merges import add_moves, merge_moves, merges
from core.store.merging import WAYS, Joining, lock_work
from core.store.record_rows import hold, records, save, to_record
from core.store.transaction import Transaction

LOOKED_BACK = timedelta(minutes=10)
"""No transaction lasts this long."""
_AT_ONCE = 200


async def gather(tx: Transaction) -> int:
    """Let what came late to merged records follow, in a system transaction; return how many rows."""
    recent = select(merges).where(merges.c.created_at > tx.now - LOOKED_BACK, merges.c.undone_at.is_(None))
    rows = await tx.all(recent.order_by(merges.c.org_id, merges.c.id).limit(_AT_ONCE))
    return sum([await _gather(tx.within(row.org_id), row) for row in rows])


async def _gather(tx: Transaction, row: Row[object]) -> int:
    await lock_work(tx, row.kept_id, row.merged_id)
    held = await hold(tx, [(tx.org_id, row.kept_id)])
    merged = await tx.first(select(records).where(records.c.id == row.merged_id))
    standing = await tx.first(select(merges.c.undone_at, merges.c.moved_counts).where(merges.c.id == row.id))
    if not held or merged is None or standing is None or standing.undone_at is not None:
        return 0
    joining = Joining(tx, row.id, held[tx.org_id, row.kept_id], to_record(merged), row.actor)
    await WAYS[joining.kept.type](joining)
    if not joining.moves:
        return 0
    await save(tx, joining.drafts)
    last = await tx.first(select(func.max(merge_moves.c.number)).where(merge_moves.c.merge_id == row.id))
    await add_moves(tx, row.id, joining.moves, first=(last[0] if last is not None and last[0] else 0) + 1)
    counts = dict(Counter(standing.moved_counts) + Counter(joining.counts))
    await tx.run(update(merges).where(merges.c.id == row.id).values(moved_counts=counts))
    return len(joining.moves)
