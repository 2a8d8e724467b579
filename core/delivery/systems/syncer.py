"""The loop that carries syncs on: one batch a turn of each that is due, under a lease; any number of processes may."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Row

from core.clock import Clock
from core.delivery.systems import deletions, pulling, pushing
from core.delivery.systems.client import Limited, Refused, System, Theirs, Uncertain
from core.delivery.systems.deletions import Leave
from core.delivery.systems.opening import Opener
from core.domain.connections.call import NotRendered
from core.domain.errors import BudgetExhausted
from core.domain.frozen import frozen
from core.domain.systems.settings import SystemSettings, TypeMapping
from core.store.control import budgets
from core.store.control.budgets import Spender
from core.store.database import Database
from core.store.metadata import from_micros, to_micros
from core.store.systems import connections, syncs
from core.store.systems.syncs import Claimed, Item, SyncState, Way
from core.store.transaction import Transaction

MOST_TRIES = 10
"""Faults in a row after which a sync gives up."""

_FIRST_WAIT = timedelta(seconds=5)
_LONGEST_WAIT = timedelta(minutes=15)
_GRACE_SECONDS = 1.0
_log = structlog.get_logger()

_Take = Callable[[Transaction, Row[Any], Sequence[Theirs]], Awaitable[list[Item]]]
"""Writes what was found there, and tells what became of each."""


@frozen
class _Step:
    """The step that a sync is at, with all that its next batch needs."""

    org: str
    claimed: Claimed
    number: int
    settings: SystemSettings
    mapping: TypeMapping
    system: System

    def further(self, cursor: str) -> dict[str, Any]:
        """Return where the sync is after a batch: at this cursor, or at the next step."""
        return {"step": self.number if cursor else self.number + 1, "cursor": cursor}


class Syncer:
    """Advances every sync that is due."""

    def __init__(self, database: Database, opener: Opener, clock: Clock, draining: asyncio.Event, leave: Leave):
        """Join the parts; once `draining` is set, what still waits for an answer is given back."""
        self._database = database
        self._opener = opener
        self._clock = clock
        self._draining = draining
        self._leave = leave
        self._timer: asyncio.TimerHandle | None = None
        self.wake = database.wakeups.event("syncer")
        """Set when a sync begins, and when the next one is due."""

    async def turn(self) -> int:
        """Carry each sync that is due on by a batch; return how many those were."""
        async with self._database.system() as tx:
            found = await syncs.due(tx)
        now = self._clock.now()
        free = [row for row in found if row.next_at <= now and (row.lease_until is None or row.lease_until <= now)]
        moved = await self._together([asyncio.create_task(self._carry_on(row.org_id, row.id)) for row in free])
        if not moved:
            self._look_again(now, [max(row.next_at, row.lease_until or row.next_at) for row in found])
        return moved

    async def _together(self, batches: list[asyncio.Task[int]]) -> int:
        """Carry batches to their end, or give them back when the process goes away; return how many there were."""
        if not batches or self._draining.is_set():
            for batch in batches:
                batch.cancel()
            await asyncio.gather(*batches, return_exceptions=True)
            return 0
        leaving = asyncio.create_task(self._draining.wait())
        all_done = asyncio.gather(*batches)
        first: list[asyncio.Future[Any]] = [leaving, all_done]
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        leaving.cancel()
        if not all_done.done():
            await asyncio.wait(batches, timeout=_GRACE_SECONDS)  # what is being written is written
            for batch in batches:
                batch.cancel()
            await asyncio.gather(*batches, return_exceptions=True)
            return 0
        return sum(all_done.result())

    async def drain(self) -> int:
        """Turn until nothing more is due now; return how many batches that took."""
        total = 0
        while moved := await self.turn():
            total += moved
        return total

    async def recover(self) -> None:
        """Take back the leases of dead processes, where no other process can be at work."""
        async with self._database.system() as tx:
            await syncs.release_all(tx)

    async def _carry_on(self, org: str, sync_id: str) -> int:
        """Carry one sync on; what is wrong with it stops no other."""
        async with self._database.write(org) as tx:
            claimed = await syncs.claim(tx, sync_id)
        if claimed is None:
            return 0
        try:
            await self._batch(org, claimed)
        except asyncio.CancelledError:
            await self._give_back(org, claimed)
            raise
        except Limited as limited:
            await self._wait(org, claimed, limited.why, timedelta(seconds=limited.seconds), claimed.row.tries)
        except Uncertain as uncertain:
            await self._try_again(org, claimed, str(uncertain))
        except BudgetExhausted as spent:  # as an import stops; started again, it goes on once there is more of it
            await self._end(org, claimed, f"{spent.message} {spent.way_out}")
        except (Refused, NotRendered) as refused:
            await self._end(org, claimed, str(refused))
        except Exception:
            _log.exception("a sync could not be carried on", sync=sync_id)
            await self._try_again(org, claimed, "an internal error")
        return 1

    async def _batch(self, org: str, claimed: Claimed) -> None:
        row = claimed.row
        async with self._database.read(org) as tx:
            connection = await connections.get(tx, row.connection_id)
            if connection is None or connection.kind != connections.SYSTEM:
                raise Refused("the connection is gone", "Create it anew.")
            settings = connections.system(connection)
            system = await self._opener.open(tx, connection, self._clock.now())
        following = _next_step(row, settings)
        if following is None:
            await self._finish(org, claimed)
            return
        step, way, mapping = following
        on = _Step(org, claimed, step, settings, mapping, system)
        if way == "pull_deletions":
            await self._pull_deletions(on, connection)
        elif way == "pull":
            await self._pull(on, connection)
        elif way == "push_deletions":
            await self._push_deletions(on)
        else:
            await self._push(on)

    async def _pull_deletions(self, on: _Step, connection: Row[Any]) -> None:
        row = on.claimed.row
        since = None if row.whole else _mark(connection.marks, on.mapping.type)
        page = await on.system.deleted(on.mapping, since, row.cursor)

        async def take(tx: Transaction, mine: Row[Any], found: Sequence[Theirs]) -> list[Item]:
            return await deletions.take(tx, mine, on.settings, on.mapping, found, self._leave)

        await self._take(on, page.records, take, on.further(page.cursor))

    async def _pull(self, on: _Step, connection: Row[Any]) -> None:
        row, mapping = on.claimed.row, on.mapping
        since = None if row.whole else _mark(connection.marks, mapping.type)
        page = await on.system.changed(mapping, since, row.cursor)
        high = _highest(row.high, page.records)
        mark = None if page.cursor or row.preview else min(high or row.created_at, row.created_at)

        async def take(tx: Transaction, mine: Row[Any], found: Sequence[Theirs]) -> list[Item]:
            return await pulling.take(tx, mine, on.settings, mapping, found)

        then = {**on.further(page.cursor), "high": high if page.cursor else None}
        await self._take(on, page.records, take, then, mark)

    async def _take(
        self, on: _Step, found: Sequence[Theirs], take: _Take, then: Mapping[str, Any], mark: datetime | None = None
    ) -> None:
        """Write a page here, and note where the sync is then; of one beyond a budget, what there is room for.

        Otherwise a budget smaller than a page would let nothing in, however many days pass. Raises BudgetExhausted.
        """
        start, size = 0, len(found)
        while True:
            last = start + size >= len(found)
            try:
                async with self._database.write(on.org) as tx:
                    mine = await syncs.still_mine(tx, on.claimed)
                    if mine is None:
                        return
                    became = await take(tx, mine, found[start : start + size])
                    await _charge(tx, mine)
                    if last and mark is not None:
                        await _set_mark(tx, mine.connection_id, on.mapping.type, mark)
                    held = {"lease_token": mine.lease_token, "lease_until": mine.lease_until}
                    await syncs.note(tx, mine, became, then if last else held)
            except BudgetExhausted as spent:
                if size <= 1 or not int(spent.variables["left"]):
                    raise
                size //= 2
                continue
            if last:
                return
            start += size

    async def _push_deletions(self, on: _Step) -> None:
        row = on.claimed.row
        async with self._database.read(on.org) as tx:
            gone = await deletions.next_batch(tx, row, on.mapping, on.system.batch)
        await self._database.on_disk()
        carried = await deletions.push(on.system, on.settings, on.mapping, gone, preview=row.preview)
        async with self._database.write(on.org) as tx:
            mine = await syncs.still_mine(tx, on.claimed)
            if mine is None:
                return
            await deletions.remember(tx, mine, carried)
            more = len(gone.records) == on.system.batch
            await syncs.note(tx, mine, carried.items, on.further(gone.records[-1][0].id if more else ""))

    async def _push(self, on: _Step) -> None:
        row = on.claimed.row
        async with self._database.read(on.org) as tx:
            batch = await pushing.next_batch(tx, row, on.mapping, on.system.batch)
        await self._database.on_disk()
        pushed = await pushing.push(on.system, on.mapping, batch, preview=row.preview)
        async with self._database.write(on.org) as tx:
            mine = await syncs.still_mine(tx, on.claimed)
            if mine is None:
                return
            await pushing.remember(tx, mine, on.settings, pushed)
            more = len(batch.records) == on.system.batch
            await syncs.note(tx, mine, pushed.items, on.further(batch.records[-1].id if more else ""))

    async def _finish(self, org: str, claimed: Claimed) -> None:
        async with self._database.write(org) as tx:
            mine = await syncs.still_mine(tx, claimed)
            if mine is None:
                return
            connection = await connections.get(tx, mine.connection_id, lock=True)
            if connection is not None and not mine.preview:
                await syncs.mark(tx, mine.connection_id, connection.marks, synced=True)
            await syncs.end(tx, mine.id, SyncState.SUCCEEDED)

    async def _give_back(self, org: str, claimed: Claimed) -> None:
        """End the lease at once, so that another process goes on where this one was."""
        async with self._database.write(org) as tx:
            if await syncs.still_mine(tx, claimed) is not None:
                await syncs.give_back(tx, claimed.row.id)

    async def _try_again(self, org: str, claimed: Claimed, why: str) -> None:
        tries = claimed.row.tries + 1
        if tries >= MOST_TRIES:
            await self._end(org, claimed, f"{why}, {tries} times in a row. Start a sync again when it is back.")
        else:
            await self._wait(org, claimed, why, min(_FIRST_WAIT * 2 ** (tries - 1), _LONGEST_WAIT), tries)

    async def _wait(self, org: str, claimed: Claimed, why: str, by: timedelta, tries: int) -> None:
        async with self._database.write(org) as tx:
            mine = await syncs.still_mine(tx, claimed)
            if mine is not None:
                await syncs.wait(tx, mine, why, tx.now + by, tries=tries)

    async def _end(self, org: str, claimed: Claimed, why: str) -> None:
        async with self._database.write(org) as tx:
            if await syncs.still_mine(tx, claimed) is not None:
                await syncs.end(tx, claimed.row.id, SyncState.FAILED, why)

    def _look_again(self, now: datetime, following: list[datetime]) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if following:
            wait = max((min(following) - now).total_seconds(), 0.1)
            self._timer = asyncio.get_running_loop().call_later(wait, self.wake.set)


def _next_step(row: Row[Any], settings: SystemSettings) -> tuple[int, Way, TypeMapping] | None:
    """Return the step that a sync is at, or the next of which there is something to do; None at the end."""
    for number, (way, record_type) in enumerate(syncs.steps(row)):
        mapping = settings.mapping(record_type)
        if number < row.step or mapping is None:
            continue
        todo = {
            "pull": mapping.pulls,
            "push": mapping.pushes,
            "pull_deletions": settings.deletes(mapping, "pull"),
            "push_deletions": settings.deletes(mapping, "push"),
        }
        if todo[way]:
            return number, way, mapping
    return None


async def _charge(tx: Transaction, row: Row[Any]) -> None:
    """Take the records that a batch wrote from the budget of who started the sync. Raises BudgetExhausted."""
    if row.spender is not None:
        await budgets.charge(tx, Spender(**row.spender), tx.spent)


def _mark(marks: Any, record_type: str) -> datetime | None:
    micros = (marks.get(record_type) or {}).get("pull")
    return None if micros is None else from_micros(micros)


async def _set_mark(tx: Any, connection_id: str, record_type: str, at: datetime) -> None:
    connection = await connections.get(tx, connection_id, lock=True)
    if connection is not None:
        marks = {**connection.marks, record_type: {"pull": to_micros(at)}}
        await syncs.mark(tx, connection_id, marks, synced=False)


def _highest(high: datetime | None, found: tuple[Theirs, ...]) -> datetime | None:
    times = [one.modified_at for one in found if one.modified_at is not None]
    return max([*times, *([high] if high is not None else [])], default=None)
