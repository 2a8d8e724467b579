"""What binds an organization's principals - policies and budgets - remembered, and read anew once it has changed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta

from core.domain.control.policy import Policy
from core.domain.frozen import frozen
from core.store.control import budgets, policies
from core.store.control.policies import CHANGED
from core.store.database import Database
from core.store.transaction import Transaction

_REMEMBERED_FOR = timedelta(seconds=20)
"""Processes are told of changes at once; this is for where the word is lost."""
_MOST_REMEMBERED = 2_000


@frozen
class Rules:
    """What binds the principals of one organization."""

    policies: tuple[Policy, ...] = ()
    limits: Mapping[tuple[str, str], int] | None = None


class Rulebook:
    """Remembers each organization's rules for 20 seconds at most."""

    def __init__(self) -> None:
        self._remembered: dict[str, tuple[datetime, Rules]] = {}
        self._changed: asyncio.Event | None = None
        self._generation = 0
        """Counts the changes heard of: what was read before one is not remembered after it."""

    async def of(self, database: Database, tx: Transaction) -> Rules:
        """Return the rules of the transaction's organization."""
        if self._changed is None:
            self._changed = database.wakeups.event(CHANGED)
        if self._changed.is_set():
            self._changed.clear()
            self._remembered.clear()
            self._generation += 1
        known = self._remembered.pop(tx.org_id, None)
        if known is None or not timedelta(0) <= tx.now - known[0] < _REMEMBERED_FOR:
            generation = self._generation
            known = tx.now, Rules(await policies.in_force(tx), await budgets.limits(tx))
            if CHANGED in tx.wakes or self._changed.is_set() or self._generation != generation:
                return known[1]  # read while somebody changes them
        self._remembered[tx.org_id] = known
        if len(self._remembered) > _MOST_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
        return known[1]
