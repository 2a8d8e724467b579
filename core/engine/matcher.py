"""The loop that carries events: each wakes the enrollments that wait for it and starts the workflows it triggers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from core.domain.enrollment import Enrollment, EventArrived
from core.domain.workflow import firing
from core.domain.workflow.correlation import correlation_key
from core.domain.workflow.record_changes import RECORD
from core.engine import replies
from core.engine.driver import EnrollmentDriver, Move
from core.engine.triggering import Triggering
from core.store.database import Database, is_outage
from core.store.events import events
from core.store.events.events import UnmatchedEvent
from core.store.records import record_triggers
from core.store.transaction import Transaction
from core.store.workflows import claims, hearing
from core.store.workflows.claims import NOBODY, People
from core.store.workflows.facts import Surroundings
from core.store.workflows.hearing import Hearing
from core.store.workflows.listeners import RULE, EventKey, Listener
from core.store.workflows.workflows import VersionCache

BATCH = 128
_PUT_OFF = timedelta(minutes=5)
_LATELY = timedelta(hours=1)
_LOOKS_AT_ALL_EVERY = timedelta(seconds=1)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

_log = structlog.get_logger()

Listening = Mapping[EventKey, Sequence[Listener]]
"""Who listens to the events of a batch."""


class Matcher:
    """Takes each event once, in order of arrival, in the transaction that writes what came of it."""

    few = 8
    """A turn that claimed so few left none: each organization's share is more, unless fifteen others have some too."""

    def __init__(self, database: Database, driver: EnrollmentDriver, versions: VersionCache):
        self._database = database
        self._driver = driver
        self._triggering = Triggering(driver, versions)
        self._looked_at_all = _LONG_AGO

    async def turn(self) -> int:
        """Match one batch of events and return how many there were."""
        batch: list[UnmatchedEvent] = []
        try:
            async with self._database.system() as tx:
                batch, heard = await self._claim(tx)
                await self._match(tx, batch, heard)
        except Exception as error:
            if not batch or is_outage(error):
                raise
            _log.exception("a batch failed; its events are matched one by one", count=len(batch))
            for event in batch:
                await self._match_alone(event)
        return len(batch)

    async def _claim(self, tx: Transaction) -> tuple[list[UnmatchedEvent], Hearing]:
        """Claim a batch: of what came lately, and now and then, or until there is none, of whatever came before."""
        if timedelta(0) <= tx.now - self._looked_at_all < _LOOKS_AT_ALL_EVERY:  # less: the clock was set back
            return await hearing.claim(tx, tx.now, BATCH, around=_LATELY)
        batch, heard = await hearing.claim(tx, tx.now, BATCH)
        if all(event.facts.received_at > tx.now - _LATELY for event in batch):
            self._looked_at_all = tx.now
        return batch, heard

    async def _match(self, tx: Transaction, batch: Sequence[UnmatchedEvent], heard: Hearing) -> None:
        if not batch:
            return
        await replies.announce(tx, batch)
        heard = heard.of(_named(batch))
        around: Surroundings | None = heard.around
        for one_each in _rounds(batch):
            await self._wake(tx, one_each, heard.listeners, around)
            await self._triggering.start(tx, one_each, heard)
            around = None  # what has moved may have paused its workflow
        for event in batch:
            if _is_change(event) and event.contact_id is None:
                await record_triggers.spread(tx, event.org_id, event.facts)

    async def _match_alone(self, event: UnmatchedEvent) -> None:
        """Match one event of a batch that failed; what cannot be matched now is tried again later."""
        try:
            async with self._database.system() as tx:
                if await events.take_unmatched(tx, event.org_id, event.id):
                    await self._match(tx, [event], await hearing.of_events(tx, _named([event]), {event.org_id}))
        except Exception as error:
            if is_outage(error):
                raise
            _log.exception("an event cannot be matched", org=event.org_id, received=event.id)
            async with self._database.system() as tx:
                await events.put_off(tx, event.org_id, event.id, tx.now + _PUT_OFF)

    async def _wake(
        self, tx: Transaction, batch: Sequence[UnmatchedEvent], heard: Listening, around: Surroundings | None
    ) -> None:
        """Move whoever waits for one of these events, or has a goal or exit rule that listens to it."""
        ahead: dict[tuple[str, str], list[tuple[Enrollment, UnmatchedEvent]]] = {}
        waiting, people = await _waiting(tx, batch, heard)
        ruled = await _ruled(tx, batch, heard)
        for enrollment, event in [*waiting, *ruled]:
            coming = ahead.setdefault((enrollment.org_id, enrollment.id), [])
            if all(event is not other for _, other in coming):
                coming.append((enrollment, event))
        moves = [Move(enrollment, EventArrived(event.facts)) for (enrollment, event), *_ in ahead.values()]
        # Who moved an enrollment that the rules' claim waited for may have changed people since.
        await self._driver.move(tx, moves, around, NOBODY if ruled else people)
        # Two events for one enrollment: the second must see what the first one did.
        rest = {key: [event for _, event in coming[1:]] for key, coming in ahead.items() if len(coming) > 1}
        for number in range(max(map(len, rest.values()), default=0)):
            due = {key: coming[number] for key, coming in rest.items() if number < len(coming)}
            held = await claims.claim_by_id(tx, due)
            await self._driver.move(tx, [Move(e, EventArrived(due[e.org_id, e.id].facts)) for e in held])


async def _waiting(
    tx: Transaction, batch: Sequence[UnmatchedEvent], heard: Listening
) -> tuple[list[tuple[Enrollment, UnmatchedEvent]], People]:
    """Claim who waits for these events: by contact, or by a field that some step goes by."""
    found: dict[tuple[str, str], list[UnmatchedEvent]] = {}
    for event in batch:
        if _is_change(event):
            continue
        fields = {one.field for one in heard.get((event.org_id, event.name), ()) if one.field}
        keys = {correlation_key(name, event.facts.fields.get(name)) for name in fields}
        for key in sorted({*keys, event.contact_id or ""} - {""}):
            found.setdefault((event.org_id, key), []).append(event)
    held = await claims.claim_event_waits(tx, found)
    woken = [
        (enrollment, event)
        for enrollment in held.enrollments
        for event in found.get((enrollment.org_id, _wait_key(enrollment)), ())
        if enrollment.waiting is not None and event.name in enrollment.waiting.events
    ]
    return woken, held.people


async def _ruled(
    tx: Transaction, batch: Sequence[UnmatchedEvent], heard: Listening
) -> list[tuple[Enrollment, UnmatchedEvent]]:
    """Claim who is in a version whose goals or exit rules listen to these events."""
    found: dict[tuple[str, str, str], list[tuple[UnmatchedEvent, set[int]]]] = {}
    for event in batch:
        by_workflow: dict[str, set[int]] = {}
        for one in heard.get((event.org_id, event.name), ()):
            if one.role == RULE and event.contact_id:
                by_workflow.setdefault(one.workflow_id, set()).add(one.version)
        for workflow, versions in by_workflow.items():
            found.setdefault((event.org_id, event.contact_id or "", workflow), []).append((event, versions))
    return [
        (enrollment, event)
        for enrollment in await claims.claim_active_of_contacts(tx, found)
        for event, versions in found.get((enrollment.org_id, enrollment.contact_id, enrollment.workflow_id), ())
        if enrollment.version in versions
    ]


def _wait_key(enrollment: Enrollment) -> str:
    return (enrollment.waiting.key if enrollment.waiting else "") or enrollment.contact_id


def _is_change(event: UnmatchedEvent) -> bool:
    return event.facts.type == RECORD


def _named(batch: Iterable[UnmatchedEvent]) -> set[EventKey]:
    return {(event.org_id, name) for event in batch for name in _names(event)}


def _names(event: UnmatchedEvent) -> tuple[str, ...]:
    """Return the names under which an event is listened to; what comes in cannot pass for the core's own."""
    if _is_change(event):
        return (event.name,) if event.contact_id else ()
    own = () if event.name.startswith("$") else (event.name,)
    return (*own, firing.source_event(event.facts.source_id)) if event.facts.source_id else own


def _rounds(batch: Iterable[UnmatchedEvent]) -> list[list[UnmatchedEvent]]:
    """Divide a batch so that no round has two events of one contact: the second must see what the first one did."""
    rounds: list[list[UnmatchedEvent]] = []
    seen: dict[tuple[str, str], int] = {}
    for event in batch:
        key = (event.org_id, event.contact_id or event.id)
        number = seen.get(key, 0)
        seen[key] = number + 1
        if number == len(rounds):
            rounds.append([])
        rounds[number].append(event)
    return rounds
