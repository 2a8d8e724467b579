"""The loop that carries time: claims enrollments whose due time has come and moves them, a batch a transaction."""

from __future__ import annotations

from core.domain.enrollment import Enrollment, TimerFired
from core.engine.driver import EnrollmentDriver, Move
from core.store import claims, events
from core.store.database import Database
from core.store.transaction import Transaction

SMALLEST_BATCH = 32
LARGEST_BATCH = 256


class Ticker:
    """Claims fairly: every organization that has work gets the same share of a batch, in turns."""

    def __init__(self, database: Database, driver: EnrollmentDriver):
        self._database = database
        self._driver = driver
        self._batch = SMALLEST_BATCH
        self._served = ""

    async def turn(self) -> int:
        """Move one batch and return how many enrollments it claimed.

        The batch grows while there is a backlog, to 256: a commit costs the same for one as for all of them.
        """
        async with self._database.system() as tx:
            orgs = self._next_organizations(await claims.due_organizations(tx, tx.now))
            if not orgs:
                self._batch = SMALLEST_BATCH
                return 0
            each = -(-self._batch // len(orgs))
            due = await claims.claim_due(tx, orgs, tx.now, each)
            await self._driver.move(tx, await self._moves(tx, due))
        self._batch = min(self._batch * 2, LARGEST_BATCH) if len(due) >= self._batch else SMALLEST_BATCH
        return len(due)

    def _next_organizations(self, orgs: list[str]) -> list[str]:
        """Return at most a batch of organizations, beginning after the one served last."""
        start = next((index for index, org in enumerate(orgs) if org > self._served), 0)
        chosen = (orgs[start:] + orgs[:start])[: self._batch]
        self._served = chosen[-1] if chosen else ""
        return chosen

    async def _moves(self, tx: Transaction, due: list[Enrollment]) -> list[Move]:
        waits = [e for e in due if e.waiting is not None and e.waiting.kind == "event"]
        arrived = await events.received_since(
            tx, [(e.org_id, e.contact_id, e.waiting.subject, e.waiting.since, e.due_at) for e in waits if e.waiting]
        )
        return [Move(e, TimerFired(), tuple(arrived.get(_wait_key(e), ()))) for e in due]


def _wait_key(enrollment: Enrollment) -> tuple[str, str, str]:
    subject = enrollment.waiting.subject if enrollment.waiting else ""
    return enrollment.org_id, enrollment.contact_id, subject
