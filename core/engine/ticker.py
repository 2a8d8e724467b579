"""The loop that carries time: claims enrollments whose due time has come and moves them, a batch a transaction."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import structlog

from core.domain.enrollment import Enrollment, EventArrived, TimerFired
from core.engine.driver import EnrollmentDriver, Move
from core.store.database import Database, is_outage
from core.store.transaction import Transaction
from core.store.workflows import arrivals, claims
from core.store.workflows.arrivals import Listening
from core.store.workflows.claims import NOBODY, People
from core.store.workflows.workflows import VersionUnusable

SMALLEST_BATCH = 32
LARGEST_BATCH = 128
_PUT_OFF = timedelta(minutes=5)
_CLOCKS_DIFFER_BY = timedelta(minutes=5)
_LOOKS_FOR_OTHERS_EVERY = timedelta(milliseconds=25)
_LOOKS_AT_ALL_EVERY = timedelta(seconds=1)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

_log = structlog.get_logger()


class Ticker:
    """Claims fairly: every organization that has work gets the same share of a batch, in turns."""

    def __init__(self, database: Database, driver: EnrollmentDriver):
        self._database = database
        self._driver = driver
        self._batch = SMALLEST_BATCH
        self._due: dict[str, int] = {}
        """Organizations that had something due when last looked at, and since when, in microseconds; 0 for ever."""
        self._looked_for_others = self._looked_at_all = _LONG_AGO
        self._served = ""
        self.behind = asyncio.Event()
        """Set by a turn that has more to do than its batch has room for: then another one may go on beside it."""

    @property
    def at_once(self) -> int:
        """Return how many turns may go on at once: on PostgreSQL one decides while the other waits for its rows.

        Each claims what the other does not hold. SQLite has one writer, and so one turn.
        """
        return 2 if self._database.is_postgresql else 1

    async def turn(self) -> int:
        """Move one batch and return how many enrollments it claimed.

        The batch grows while there is a backlog: a commit costs the same for one as for all of them. Beyond its largest
        nothing is gained, and small organizations, events and calls would wait longer for their turn.
        """
        claimed: Sequence[Enrollment] = ()
        try:
            async with self._database.system() as tx:
                claimed, people = await self._claim(tx)
                await self._move(tx, claimed, people)
        except Exception as error:
            self._due.clear()
            if not claimed or is_outage(error):
                raise
            _log.exception("a batch failed; its enrollments are moved one by one", count=len(claimed))
            for enrollment in claimed:
                await self._move_alone(enrollment)
        self._batch = min(self._batch * 2, LARGEST_BATCH) if len(claimed) >= self._batch else SMALLEST_BATCH
        return len(claimed)

    async def _claim(self, tx: Transaction) -> tuple[Sequence[Enrollment], People]:
        """Claim a batch, and what is known of its contacts.

        What is remembered of organizations saves looking at each of them every time.
        """
        while True:
            from_memory = bool(self._due)
            await self._look_around(tx)
            orgs = self._next_organizations()
            if not orgs:
                return (), NOBODY
            found = await claims.claim_due(tx, orgs, tx.now, -(-self._batch // len(orgs)))
            for org in orgs:
                self._due.pop(org, None)
            self._due.update(found.reached)
            if len(found.enrollments) >= self._batch:
                self.behind.set()
                tx.goes_ahead = True
            if found.enrollments or not from_memory:
                return found.enrollments, found.people

    async def _look_around(self, tx: Transaction) -> None:
        """Find the organizations that have something due, and now and then whatever was due before the rest."""
        if tx.now - self._looked_at_all >= _LOOKS_AT_ALL_EVERY:
            self._looked_at_all = tx.now
            self._due = dict.fromkeys(self._due, 0)
        if not self._due or tx.now - self._looked_for_others >= _LOOKS_FOR_OTHERS_EVERY:
            self._looked_for_others = tx.now
            self._due.update(dict.fromkeys(await claims.due_organizations(tx, tx.now, self._due), 0))

    def _next_organizations(self) -> dict[str, int]:
        """Return at most a batch of organizations, beginning after the one served last."""
        orgs = sorted(self._due)
        start = bisect_right(orgs, self._served) % max(len(orgs), 1)
        chosen = (orgs[start:] + orgs[:start])[: self._batch]
        self._served = chosen[-1] if chosen else ""
        return {org: self._due[org] for org in chosen}

    async def _move(self, tx: Transaction, due: Sequence[Enrollment], people: People = NOBODY) -> None:
        looks = [e for e in due if not e.held and (e.due_at is None or e.due_at > tx.now)]
        timed = [e for e in due if e.held or (e.due_at is not None and e.due_at <= tx.now)]
        waits = [e for e in timed if e.waiting is not None and e.waiting.kind == "event" and not e.held]
        heard = await arrivals.arrived(
            tx,
            [one for e in looks for one in await self._listening(tx, e, timed_out=False)]
            + [one for e in waits for one in await self._listening(tx, e, timed_out=not e.catches_up)],
        )
        moves = [Move(e, TimerFired(), tuple(heard.get(e.id, ()))) for e in timed]
        await self._driver.move(tx, moves, known=people)  # what is written then may change them
        await claims.settle(tx, looks)
        conditions = [Move(e, TimerFired()) for e in looks if e.waiting is not None and e.waiting.kind == "condition"]
        held = await self._driver.move(tx, conditions)
        looks = [e for e in looks if e.id not in held]
        rounds = max((len(heard.get(e.id, ())) for e in looks), default=0)
        for number in range(rounds):  # the first event that fits ends the wait
            moves = [Move(e, EventArrived(heard[e.id][number])) for e in looks if number < len(heard.get(e.id, ()))]
            moved = await self._driver.move(tx, moves)
            looks = [e for e in looks if e.id not in moved]

    async def _listening(self, tx: Transaction, e: Enrollment, *, timed_out: bool) -> list[Listening]:
        """Return what an enrollment listens for: the events of its wait, and those of its version's rules."""
        until = e.due_at or tx.now + _CLOCKS_DIFFER_BY
        found = []
        if e.waiting is not None and e.waiting.events and e.waiting.since is not None:
            key = e.waiting.key or e.contact_id
            found.append(
                Listening(e.id, e.org_id, e.contact_id, key, e.waiting.events, e.waiting.since, until, timed_out)
            )
        if not timed_out and e.rev == 1:  # later, whoever matches the event sees the enrollment
            named = await self._driver.rule_events(tx, e)
            if named:
                about = (e.id, e.org_id, e.contact_id, e.contact_id)
                found.append(Listening(*about, named, e.entered_at, until, timed_out))
        return found

    async def _move_alone(self, enrollment: Enrollment) -> None:
        """Move one enrollment of a batch that failed; what cannot be moved is ended, or at least put off."""
        key = (enrollment.org_id, enrollment.id)
        try:
            async with self._database.system() as tx:
                await self._move(tx, _still_there(await claims.claim_by_id(tx, [key]), enrollment))
        except Exception as error:
            if is_outage(error):
                raise
            _log.exception("an enrollment cannot be moved", org=enrollment.org_id, enrollment=enrollment.id)
            if isinstance(error, VersionUnusable):  # the fault is the core's: who waits for a better one is not ended
                await self._put_off(enrollment)
            else:
                await self._end_or_put_off(enrollment)

    async def _end_or_put_off(self, enrollment: Enrollment) -> None:
        key = (enrollment.org_id, enrollment.id)
        try:
            async with self._database.system() as tx:
                for held in _still_there(await claims.claim_by_id(tx, [key]), enrollment):
                    await self._driver.give_up(tx, held)
        except Exception as error:
            if is_outage(error):
                raise
            _log.exception("an enrollment cannot be ended", org=enrollment.org_id, enrollment=enrollment.id)
            await self._put_off(enrollment)

    async def _put_off(self, enrollment: Enrollment) -> None:
        async with self._database.system() as tx:
            await claims.put_off(tx, enrollment, tx.now + _PUT_OFF)


def _still_there(held: Sequence[Enrollment], claimed: Enrollment) -> list[Enrollment]:
    return [e for e in held if e.rev == claimed.rev]
