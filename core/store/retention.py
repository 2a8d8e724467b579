"""What is no longer kept: history older than so many days goes, day by day; nothing that is pending ever does.

On PostgreSQL whole partitions are dropped, which costs nothing; on SQLite, and where something of a day has to stay,
rows are deleted in small batches.
"""

from __future__ import annotations

import asyncpg
import structlog

from core.domain.frozen import frozen
from core.store import postgresql
from core.store.control import audit_chain
from core.store.database import Database
from core.store.metadata import day_of
from core.store.transaction import Transaction

ROWS_AT_ONCE = 1_000
BATCHES_A_ROUND = 20

_log = structlog.get_logger()


@frozen
class Kept:
    """How many days history is kept; 0 for ever."""

    webhook_days: int = 30
    """Messages, deliveries and attempts. What has not been delivered can be replayed for so long."""
    event_days: int = 90
    """Events that came in."""
    trace_days: int = 365
    """What enrollments went through; those that still run keep theirs."""
    audit_days: int = 0
    """The audit log; an anchor stays, by which what is left can be checked."""


_OF_PENDING = "d.org_id = t.org_id AND d.day = t.day AND d.state = 'pending'"
_PENDING = {
    "delivery_attempts": f"EXISTS (SELECT 1 FROM deliveries d WHERE {_OF_PENDING} AND d.id = t.delivery_id)",  # noqa: S608
    "messages": f"EXISTS (SELECT 1 FROM deliveries d WHERE {_OF_PENDING} AND d.message_id = t.id)",  # noqa: S608
    "deliveries": "t.state = 'pending'",
    "events": "t.match_due_at IS NOT NULL",
    "trace_entries": (
        "EXISTS (SELECT 1 FROM enrollments e WHERE e.org_id = t.org_id AND e.id = t.enrollment_id "
        "AND e.state IN ('active', 'awaiting_approval'))"
    ),
    "audit_entries": (
        "t.sequence IS NULL OR NOT EXISTS (SELECT 1 FROM audit_heads h "
        "WHERE h.org_id = t.org_id AND h.anchor_sequence >= t.sequence)"
    ),
}
"""Table to the condition of rows that stay; deliveries last, because the others go by them."""


async def forget(database: Database, kept: Kept) -> int:
    """Forget what is older than it is kept, at most so much that a round stays short.

    Returns how many partitions and batches went.
    """
    days = {
        "delivery_attempts": kept.webhook_days,
        "messages": kept.webhook_days,
        "deliveries": kept.webhook_days,
        "events": kept.event_days,
        "trace_entries": kept.trace_days,
        "audit_entries": kept.audit_days,
    }
    today = day_of(database.clock.now())
    gone = 0
    if kept.audit_days > 0:
        async with database.system() as tx:
            await audit_chain.anchor(tx, today - kept.audit_days)
    for table, age in days.items():
        if age > 0:
            gone += await _forget(database, table, today - age)
    return gone


async def _forget(database: Database, table: str, before_day: int) -> int:
    gone = 0
    if database.is_postgresql:
        async with database.system() as tx:
            partitions = await postgresql.old_partitions(tx, table, before_day)
        for partition in partitions:
            gone += await _dropped(database, table, partition)
    for _ in range(BATCHES_A_ROUND):
        async with database.system() as tx:
            deleted = await _delete(tx, table, before_day)
        gone += deleted > 0
        if deleted < ROWS_AT_ONCE:
            break
    return gone


async def _dropped(database: Database, table: str, partition: str) -> bool:
    try:
        async with database.system() as tx:
            return await postgresql.drop_partition(tx, table, partition, _PENDING[table])
    except (asyncpg.LockNotAvailableError, asyncpg.UndefinedTableError):
        _log.info("a partition could not be dropped now", partition=partition)  # the next round may
        return False


_OLDEST_SQLITE = "SELECT 1 FROM {table} WHERE day < $1 AND rowid = (SELECT min(rowid) FROM {table})"


async def _delete(tx: Transaction, table: str, before_day: int) -> int:
    """Delete a batch of old rows; on PostgreSQL those in partitions that have to stay."""
    row = "tableoid, ctid"
    if tx.dialect != "postgresql":
        row = "rowid"  # in the order of time, more or less: mostly one look tells that nothing is old
        if not await tx.fetch(_OLDEST_SQLITE.format(table=table), before_day):
            return 0
    old = f"SELECT {row} FROM {table} AS t WHERE t.day < $1 AND NOT ({_PENDING[table]}) LIMIT {ROWS_AT_ONCE}"  # noqa: S608
    sql = f"DELETE FROM {table} WHERE day < $1 AND ({row}) IN ({old}) RETURNING 1"  # noqa: S608 -- names are ours
    return len(await tx.fetch(sql, before_day))
