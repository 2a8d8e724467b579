"""The loop for what is not about one enrollment: expiry, clean-up, tomorrow's partitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from core.store import idempotency, postgresql, retention
from core.store.agents import tasks
from core.store.control import approvals, budgets, plans, usage
from core.store.control.usage import Used
from core.store.database import Database
from core.store.erasing import erasing_search
from core.store.events import events, quarantine
from core.store.merging import duplicates, stragglers
from core.store.organizations import handing_over
from core.store.qualification import rerouting
from core.store.records import imports
from core.store.retention import Kept
from core.store.systems import sync_schedule, syncs
from core.store.webhooks import endpoints
from core.store.workflows import entries, pausing, statistics

FORGETS_EVERY = timedelta(hours=1)
"""How often it is looked for history that is no longer kept."""


class Scheduler:
    """Does its rounds of upkeep in a few transactions; every process may run them, each is harmless twice."""

    def __init__(
        self,
        database: Database,
        kept: Kept | None = None,
        on_used: Callable[[Sequence[Used]], None] = lambda _used: None,
    ):
        """Join the parts; `kept` says how long history stays, `on_used` is told what was folded, each thing once."""
        self._database = database
        self._on_used = on_used
        self._kept = kept or Kept()
        self._forgets_at: datetime | None = None

    async def turn(self) -> int:
        """Do one round. Returns 0: there is never more to do at once."""
        async with self._database.system() as tx:
            await approvals.expire_due(tx, tx.now)
            await plans.expire_due(tx)
            await plans.forget_old(tx)
            await budgets.forget_old(tx)
            await idempotency.forget_old(tx)
            await events.forget_old_message_ids(tx)
            await quarantine.forget_old(tx)
            await imports.forget_old(tx)
            await entries.forget_old(tx, tx.now)
            await tasks.expire(tx)
        async with self._database.system() as tx:
            await sync_schedule.begin_due(tx)
        async with self._database.system() as tx:
            await endpoints.remove_expired(tx)
        async with self._database.system() as tx:
            await handing_over.go_on(tx)
        await rerouting.upkeep(self._database)
        async with self._database.system() as tx:
            await pausing.release_forgotten(tx)
            await statistics.fold(tx)
        async with self._database.system() as tx:
            used = await usage.fold(tx)
        self._on_used(used)
        async with self._database.system() as tx:
            await postgresql.ensure_partitions(tx, tx.now)
        now = self._database.clock.now()
        if self._forgets_at is None or now >= self._forgets_at:
            self._forgets_at = now + FORGETS_EVERY
            await retention.forget(self._database, self._kept)
            async with self._database.system() as tx:
                await syncs.forget_old(tx)
        await stragglers.gather(self._database)
        await erasing_search.upkeep(self._database)
        await duplicates.upkeep(self._database)
        return 0
