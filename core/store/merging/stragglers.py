"""What was still written for a merged record: by a transaction that had looked at it before the merge was committed.

Nobody who enrolls a contact or puts it on a list locks its record, because that would cost every enrollment something.
Upkeep sees to the few rows that a merge could not see yet; they follow as if they had been there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog
from sqlalchemy import Row, func, select, tuple_, update

from core.store.database import ERRORS, Database
from core.store.merging.merges import add_moves, merge_moves, merges, standing_of
from core.store.merging.merging import OWNED, WAYS, Joining, alone, lock_work
from core.store.records.record_rows import records, save, to_record
from core.store.transaction import Transaction

LOOKED_BACK = timedelta(minutes=10)
"""No transaction lasts this long."""
_AT_ONCE = 200

_log = structlog.get_logger()


async def gather(database: Database) -> int:
    """Let what came late to merged records follow, one merge a transaction; return how many rows."""
    moved, after = 0, ("", "")
    while True:
        async with database.system() as tx:
            page = await _recent(tx, after)
            late = await _late(tx, page)
        for row in page:
            if row.merged_id in late:
                moved += await _gathered(database, row)
        if len(page) < _AT_ONCE:
            return moved
        after = (page[-1].org_id, page[-1].id)


async def _recent(tx: Transaction, after: tuple[str, str]) -> Sequence[Row[Any]]:
    """Return the next recent merges, of every organization; in one, an earlier merge comes first."""
    c = merges.c
    recent = select(merges).where(c.created_at > tx.now - LOOKED_BACK, c.undone_at.is_(None))
    return await tx.all(recent.where(tuple_(c.org_id, c.id) > after).order_by(c.org_id, c.id).limit(_AT_ONCE))


async def _late(tx: Transaction, page: Sequence[Row[Any]]) -> set[str]:
    """Return which merged records rows still belong to, without holding any; of most merges there are none."""
    named, orgs = sorted({row.merged_id for row in page}), sorted({row.org_id for row in page})
    late: set[str] = set()
    for column in (one for columns in OWNED.values() for one in columns) if page else ():
        which = (column.table.c.org_id.in_(orgs), column.in_(named))
        late |= {row[0] for row in await tx.all(select(column).where(*which).distinct())}
    return late


async def _gathered(database: Database, row: Row[Any]) -> int:
    try:
        async with database.system() as tx:
            return await _gather(tx.within(row.org_id), row)
    except ERRORS as error:  # the others go on; the next round comes to this one again
        _log.warning("late rows of a merge could not follow", merge=row.id, error=type(error).__name__)
        return 0


async def _gather(tx: Transaction, row: Row[object]) -> int:
    await lock_work(tx, row.kept_id, row.merged_id)
    kept = await tx.first(select(records).where(records.c.id == row.kept_id).with_for_update())
    merged = await tx.first(select(records).where(records.c.id == row.merged_id))
    standing = await tx.first(select(merges.c.undone_at, merges.c.moved_counts).where(merges.c.id == row.id))
    if kept is None or merged is None or standing is None or standing.undone_at is not None:
        return 0
    # The kept record may itself be part of another one by now: what comes to it goes on with the next round.
    if kept.deleted_at is not None and not await standing_of(tx, [kept.id]):
        return 0
    joining = Joining(tx, row.id, to_record(kept), to_record(merged), row.actor)
    await WAYS.get(joining.kept.type, alone)(joining)
    if not joining.moves:
        return 0
    await save(tx, joining.drafts)
    last = await tx.first(select(func.max(merge_moves.c.number)).where(merge_moves.c.merge_id == row.id))
    await add_moves(tx, row.id, joining.moves, first=(last[0] if last is not None and last[0] else 0) + 1)
    counts = dict(Counter(standing.moved_counts) + Counter(joining.counts))
    await tx.run(update(merges).where(merges.c.id == row.id).values(moved_counts=counts))
    return len(joining.moves)
