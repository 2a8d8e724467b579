"""The loop that carries schedules and pools: enrolls an audience page by page, each page in one transaction.

How far a firing has come is written with the enrollments of its page, so that a crash neither loses nor repeats a
contact. What should have fired while nobody ran fires once, late; what should have fired while the workflow was paused
is kept, and resuming says what becomes of it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from core.domain import names
from core.domain.effects import Emit
from core.domain.workflow.trigger_kinds import PoolTrigger, Timed
from core.domain.workflow.version import Version
from core.engine.driver import EnrollmentDriver, Entry
from core.store.database import Database, is_outage
from core.store.transaction import Transaction
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission
from core.store.workflows import audience, schedules
from core.store.workflows.schedules import DueSchedule, Firing, Last, Missed
from core.store.workflows.workflows import VersionCache, WorkflowState

PAGE = 500
_PUT_OFF = timedelta(minutes=5)
_LOOK_AGAIN = timedelta(minutes=1)
"""How often a firing that a pause interrupted looks whether it may go on."""

_log = structlog.get_logger()


class Starter:
    """Fires schedules and pools, the one that has been due longest first; big audiences take turns."""

    def __init__(self, database: Database, driver: EnrollmentDriver, versions: VersionCache):
        self._database = database
        self._driver = driver
        self._versions = versions

    async def turn(self) -> int:
        """Enroll one page of the audience of one schedule; return how many schedules were due, 0 or 1."""
        due: DueSchedule | None = None
        try:
            async with self._database.system() as tx:
                due = await schedules.claim_due(tx, tx.now)
                if due is not None:
                    await self._run(tx, due)
        except Exception as error:
            if due is None or is_outage(error):
                raise
            _log.exception("a schedule cannot fire", org=due.org_id, workflow=due.workflow_id, trigger=due.position)
            async with self._database.system() as tx:
                await schedules.put_off(tx, due, tx.now + _PUT_OFF)
        return int(due is not None)

    async def _run(self, tx: Transaction, due: DueSchedule) -> None:
        version = await self._versions.load(tx, due.org_id, due.workflow_id, due.version)
        trigger = schedules.timed(version)[due.position]
        if due.workflow_state != WorkflowState.ACTIVE and await schedules.is_paused(tx, due):
            await self._pass_over(tx, due, version, trigger)
            return
        firing = due.firing or Firing(tx.now)
        left = trigger.per_day - firing.taken if isinstance(trigger, PoolTrigger) else PAGE
        page = await audience.page(
            tx,
            due.org_id,
            trigger.audience,
            after=firing.after,
            until=firing.at,
            limit=min(PAGE, left),
            never_in=due.workflow_id if isinstance(trigger, PoolTrigger) else "",
        )
        actor = f"{trigger.kind}:{due.workflow_id}/{due.position}"
        entries = [Entry(contact, actor) for contact in page.contact_ids]
        entered = await self._driver.enter(tx, due.org_id, version, entries) if entries else []
        taken = firing.taken + sum(one.outcome == "enrolled" for one in entered)
        firing = replace(firing, after=page.after, taken=taken)
        full = isinstance(trigger, PoolTrigger) and taken >= trigger.per_day
        if full or page.last:
            await self._finish(tx, due, version, trigger, firing)
        else:
            await schedules.keep(tx, due, tx.now, firing, empty=due.empty)

    async def _pass_over(self, tx: Transaction, due: DueSchedule, version: Version, trigger: Timed) -> None:
        """Keep that it came round during a pause; what was under way waits until the workflow goes on."""
        if due.firing is not None:
            await schedules.put_off(tx, due, tx.now + _LOOK_AGAIN)
            return
        missed = due.missed.again(due.at) if due.missed is not None else Missed(1, due.at, due.at)
        await schedules.keep(tx, due, _next(tx, due, version, trigger), empty=due.empty, missed=missed)

    async def _finish(
        self, tx: Transaction, due: DueSchedule, version: Version, trigger: Timed, firing: Firing
    ) -> None:
        """End a firing; a pool that had nobody left says so, once until it has had somebody again."""
        empty = isinstance(trigger, PoolTrigger) and firing.taken == 0
        if empty and not due.empty:
            data = {"workflow_id": due.workflow_id, "version": version.number, "audience": trigger.audience.said}
            message = names.derive("msg", tx.now, due.org_id, due.workflow_id, due.position, "out_of_leads")
            await deliveries.emit(tx, [Emission(due.org_id, Emit(message, "automation.out_of_leads", data))])
        last = Last(firing.at, firing.taken)
        await schedules.keep(tx, due, _next(tx, due, version, trigger), empty=empty, last=last)


def _next(tx: Transaction, due: DueSchedule, version: Version, trigger: Timed) -> datetime:
    return trigger.next_after(tx.now, schedules.zone(trigger, version, due.organization_timezone))
