"""The loop that carries events: each wakes the enrollments that wait for it and starts the workflows it triggers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from core.domain import triggers
from core.domain.enrollment import EventArrived, EventFacts, RecordFacts
from core.engine.driver import EnrollmentDriver, Entry, Move
from core.store import claims, events, workflows
from core.store.database import Database
from core.store.transaction import Transaction
from core.store.workflows import VersionCache

BATCH = 128


class Matcher:
    """Takes each event once, in order of arrival, in the transaction that writes what came of it."""

    def __init__(self, database: Database, driver: EnrollmentDriver, versions: VersionCache):
        self._database = database
        self._driver = driver
        self._versions = versions

    async def turn(self) -> int:
        """Match one batch of events and return how many there were."""
        async with self._database.system() as tx:
            batch = await events.claim_unmatched(tx, tx.now, BATCH)
            for one_each in _rounds(batch):
                await self._wake(tx, one_each)
                await self._start(tx, one_each)
            await events.mark_matched(tx, [(event.org_id, event.id) for event in batch])
        return len(batch)

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
        people, _ = await claims.contacts_and_leads(tx, {(e.org_id, e.contact_id or "") for e in known})
        for event in known:
            contact = people.get((event.org_id, event.contact_id or ""))
            for trigger in found.get((event.org_id, event.name), ()):
                if contact is not None:
                    await self._trigger(tx, event, contact, trigger)

    async def _trigger(self, tx: Transaction, event: events.UnmatchedEvent, contact: RecordFacts, trigger: Any) -> None:
        version = await self._versions.load(tx, event.org_id, trigger.workflow_id, trigger.version)
        if not triggers.fires(version, event.facts, contact, tx.now):
            return
        entry = Entry(contact.id, actor=f"event:{event.id}", event=event_as_data(event.facts))
        await self._driver.enter(tx, event.org_id, version, [entry])


def event_as_data(event: EventFacts) -> dict[str, Any]:
    """Return an event as an enrollment keeps it."""
    return {
        "id": event.id,
        "name": event.name,
        "type": event.type,
        "fields": dict(event.fields),
        "occurred_at": event.occurred_at.isoformat(),
    }


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
