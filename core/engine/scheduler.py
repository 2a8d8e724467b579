"""The loop for what is not about one enrollment: expiry, clean-up, tomorrow's partitions."""

from __future__ import annotations

from core.store import approvals, entries, events, idempotency, pausing, postgresql, statistics, tasks
from core.store.database import Database


class Scheduler:
    """Does its rounds of upkeep in a few transactions; every process may run them, each is harmless twice."""

    def __init__(self, database: Database):
        self._database = database

    async def turn(self) -> int:
        """Do one round. Returns 0: there is never more to do at once."""
        async with self._database.system() as tx:
            await approvals.expire_due(tx, tx.now)
            await idempotency.forget_old(tx)
            await events.forget_old_message_ids(tx)
            await entries.forget_old(tx, tx.now)
            await tasks.expire(tx)
        async with self._database.system() as tx:
            await pausing.release_forgotten(tx)
            await statistics.fold(tx)
        async with self._database.system() as tx:
            await postgresql.ensure_partitions(tx, tx.now)
        return 0
