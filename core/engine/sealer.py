"""The loop that gives entries of the audit log their place in the chain, about a second after their commit."""

from __future__ import annotations

from core.store.control import audit_chain
from core.store.database import Database
from core.store.metadata import day_of
from core.store.transaction import EVERY_ORGANIZATION


class Sealer:
    """Seals what was committed; several processes may run it, each organization is sealed by one at a time."""

    def __init__(self, database: Database):
        self._database = database
        self._looked_at_all = False

    async def turn(self) -> int:
        """Seal some entries of every organization that has any; return how many."""
        today = day_of(self._database.clock.now())
        since_day = audit_chain.recent(today) if self._looked_at_all else 0
        async with self._database.read(EVERY_ORGANIZATION) as tx:
            waiting = await audit_chain.waiting(tx, since_day)
        sealed = 0
        for org in waiting:
            async with self._database.system() as tx:
                sealed += await audit_chain.seal(tx, org, since_day)
        if not sealed:
            self._looked_at_all = True  # nothing older is left: later ones are of today, or of last midnight
        return sealed
