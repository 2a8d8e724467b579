"""The loop that carries events: each wakes the enrollments that wait for it and starts the workflows it triggers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from core.domain.enrollment import EventArrived, EventFacts, Facts
from core.domain.workflow.variables import Known, event_values
from core.domain.workflow.version import Version
from core.engine.driver import EnrollmentDriver, Entry, Move
from core.store import claims, events, workflows
from core.store.database import Database, is_outage
from core.store.transaction import Transaction
from core.store.workflows import VersionCache

BATCH = 128
_PUT_OFF = timedelta(minutes=5)

_log = structlog.get_logger()


class Matcher:
    """Takes each event once, in order of arrival, in the transaction that writes what came of it."""

    def __init__(self, database: Database, driver: EnrollmentDriver, versions: VersionCache):
        self._database = database
        self._driver = driver
        self._versions = versions

    async def turn(self) -> int:
        """Match one batch of events and return how many there were."""
        batch: list[events.UnmatchedEvent] = []
        try:
            async with self._database.system() as tx:
                batch = await events.claim_unmatched(tx, tx.now, BATCH)
                await self._match(tx, batch)
        except Exception as error:
            if not batch or is_outage(error):
                raise
            _log.exception("a batch failed; its events are matched one by one", count=len(batch))
            for event in batch:
                await self._match_alone(event)
        return len(batch)

    async def _match(self, tx: Transaction, batch: Sequence[events.UnmatchedEvent]) -> None:
        for one_each in _rounds(batch):
            await self._wake(tx, one_each)
            await self._start(tx, one_each)
        await events.mark_matched(tx, [(event.org_id, event.id) for event in batch])

    async def _match_alone(self, event: events.UnmatchedEvent) -> None:
        """Match one event of a batch that failed; what cannot be matched now is tried again later."""
        try:
            async with self._database.system() as tx:
                if await events.hold_unmatched(tx, event.org_id, event.id):
                    await self._match(tx, [event])
        except Exception as error:
            if is_outage(error):
                raise
            _log.exception("an event cannot be matched", org=event.org_id, received=event.id)
            async with self._database.system() as tx:
                await events.put_off(tx, event.org_id, event.id, tx.now + _PUT_OFF)

    async def _wake(self, tx: Transaction, batch: Sequence[events.UnmatchedEvent]) -> None:
        waits = {(e.org_id, e.contact_id, "event", e.name): e for e in batch if e.contact_id}
        held = await claims.claim_waiting(tx, waits)  # type: ignore[arg-type]
        moves = []
        for enrollment in held:
            assert enrollment.waiting is not None
            event = waits[enrollment.org_id, enrollment.contact_id, "event", enrollment.waiting.subject]
            moves.append(Move(enrollment, EventArrived(event.facts)))
        await self._driver.move(tx, moves)

    async def _start(self, tx: Transaction, batch: Sequence[events.UnmatchedEvent]) -> None:
        known = [event for event in batch if event.contact_id]
        found = await workflows.triggers_for(tx, {(event.org_id, event.name) for event in known})
        if not found:
            return
        people, leads = await claims.contacts_and_leads(tx, {(e.org_id, e.contact_id or "") for e in known})
        for event in known:
            key = (event.org_id, event.contact_id or "")
            if key in people:
                facts = Facts(people[key], leads.get(key))
                for trigger in found.get((event.org_id, event.name), ()):
                    await self._trigger(tx, event, facts, trigger)

    async def _trigger(self, tx: Transaction, event: events.UnmatchedEvent, facts: Facts, trigger: Any) -> None:
        version = await self._versions.load(tx, event.org_id, trigger.workflow_id, trigger.version)
        if _fires(version, event.facts, facts, tx.now):
            entry = Entry(facts.contact.id, actor=f"event:{event.id}", event=event_values(event.facts))
            await self._driver.enter(tx, event.org_id, version, [entry])


def _fires(version: Version, event: EventFacts, facts: Facts, now: datetime) -> bool:
    known = Known(facts, now, event_values(event))
    return any(
        trigger.event == event.name and (trigger.when is None or trigger.when.evaluate(known).holds)
        for trigger in version.triggers
    )


def _rounds(batch: Iterable[events.UnmatchedEvent]) -> list[list[events.UnmatchedEvent]]:
    """Divide a batch so that no round has two events of one contact: the second must see what the first one did."""
    rounds: list[list[events.UnmatchedEvent]] = []
    seen: dict[tuple[str, str], int] = {}
    for event in batch:
        key = (event.org_id, event.contact_id or event.id)
        number = seen.get(key, 0)
        seen[key] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(event)
    return rounds
