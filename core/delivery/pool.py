"""The rolling pool that dispatcher and mailer share: claim for the free places, attempt, record what has finished.

Attempts run outside any transaction, each in a task of its own, so whoever is slow holds its own place and nobody
else's; who is very slow gives it up, so that many of them together do not hold up the rest. What is under way is
leased: where a process dies, its leases run out and others attempt the same again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import structlog


class Identified(Protocol):
    """What can be told apart in the log."""

    @property
    def id(self) -> str:
        """Return whose it is."""


Claimed = TypeVar("Claimed", bound=Identified)
Completed = TypeVar("Completed", bound=Identified)

RECORDED_AT_ONCE = 256
_MOMENT_SECONDS = 0.01
_MANY = 16
"""Fewer under way are never waited for."""


_log = structlog.get_logger()


@dataclass(slots=True)
class Pool(Generic[Claimed, Completed]):
    """So many places for attempts, filled turn by turn."""

    name: str
    """Of what is attempted, for tasks and the log."""
    wake: asyncio.Event
    """Set when an attempt ends: there is something to record, and a place to claim for."""
    places: int
    claim: Callable[[int], Awaitable[Sequence[Claimed]]]
    """Leases at most so many; what needs no attempt is put into `finished` instead."""
    attempt: Callable[[Claimed], Awaitable[Completed]]
    record: Callable[[Sequence[Completed]], Awaitable[None]]
    """Writes outcomes down in one transaction."""
    release: Callable[[Collection[Claimed]], Awaitable[object]]
    """Gives back leases of attempts that were broken off."""
    slow_places: int = 0
    """So many attempts may be under way beside `places` that have been for longer than `slow_after`."""
    slow_after: float = 1.0
    """Seconds."""
    finished: list[Completed] = field(default_factory=list)
    """Outcomes that are not recorded yet."""
    _flying: dict[asyncio.Task[None], Claimed] = field(default_factory=dict, init=False)
    _begun: deque[tuple[float, asyncio.Task[None]]] = field(default_factory=deque, init=False)
    _slow: set[asyncio.Task[None]] = field(default_factory=set, init=False)
    _enough: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """So many have finished that a turn is worth it, although others are still under way."""
    _enough_is: int = field(default=0, init=False)
    _stopping: bool = field(default=False, init=False)

    @property
    def flying(self) -> Collection[Claimed]:
        """Return what is being attempted."""
        return self._flying.values()

    async def turn(self) -> int:
        """Record what has finished and claim for the free places; return how much was touched."""
        await self._gather()
        recorded = await self._record_finished()
        free = self._free()
        claimed = await self.claim(free) if free > 0 and not self._stopping else ()
        now = asyncio.get_running_loop().time()
        for one in claimed:
            task = asyncio.create_task(self._attempt(one), name=self.name)
            self._flying[task] = one
            if self.slow_places:
                self._begun.append((now, task))
            task.add_done_callback(self._landed)
        return recorded + len(claimed) + len(self.finished)

    async def _gather(self) -> None:
        """Wait a moment for most of what is under way, where that is much: a turn for one costs as much as for many."""
        under_way = self._quick + len(self.finished)
        self._enough_is = under_way * 3 // 4
        if self._stopping or under_way < max(self.places // 4, _MANY) or len(self.finished) >= self._enough_is:
            return
        self._enough.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(_MOMENT_SECONDS):
                await self._enough.wait()

    @property
    def _quick(self) -> int:
        """Return how many places are taken by what is not slow."""
        return len(self._flying) - len(self._slow)

    def _free(self) -> int:
        """Return how many may be claimed: who is slow gives its place up, as long as there is room for slow ones."""
        loop = asyncio.get_running_loop()
        while self._begun:
            begun, task = self._begun[0]
            if task in self._flying:
                if len(self._slow) == self.slow_places or begun + self.slow_after > loop.time():
                    break
                self._slow.add(task)
            self._begun.popleft()
        free = self.places - self._quick - len(self.finished)
        if free <= 0 and self._begun and len(self._slow) < self.slow_places:
            loop.call_at(self._begun[0][0] + self.slow_after, self.wake.set)
        return free

    async def drain(self) -> int:
        """Turn until nothing is due now and nothing is under way; return how much was touched."""
        total = 0
        while (touched := await self.turn()) or self._flying or self.finished:
            total += touched
            if self._flying:
                await asyncio.wait(tuple(self._flying), return_when=asyncio.FIRST_COMPLETED)
        return total

    async def stop(self, grace_seconds: float) -> None:
        """Claim no more, wait so long for what is under way, record it, and give the rest back."""
        self._stopping = True
        if self._flying:
            await asyncio.wait(tuple(self._flying), timeout=grace_seconds)
        abandoned = dict(self._flying)
        for task in abandoned:
            task.cancel()
        await asyncio.gather(*abandoned, return_exceptions=True)
        while await self._record_finished():
            pass
        try:
            await self.release(abandoned.values())
        except Exception:  # they run out by themselves; whatever else is to be closed shall be
            _log.exception("leases could not be given back", of=self.name, leases=len(abandoned))

    async def _attempt(self, claimed: Claimed) -> None:
        completed = await self.attempt(claimed)
        self.finished.append(completed)  # not before: the list is another one by now

    def _landed(self, task: asyncio.Task[None]) -> None:
        claimed = self._flying.pop(task)
        self._slow.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            # The lease runs out and another attempt is made.
            _log.error("an attempt broke", of=self.name, id=claimed.id, exc_info=error)
        self.wake.set()
        if len(self.finished) >= self._enough_is:
            self._enough.set()

    async def _record_finished(self) -> int:
        batch, self.finished = self.finished[:RECORDED_AT_ONCE], self.finished[RECORDED_AT_ONCE:]
        if not batch:
            return 0
        try:
            await self.record(batch)
        except Exception:
            _log.exception("recording outcomes failed; trying one by one", of=self.name, outcomes=len(batch))
            for single in batch:
                await self._record_alone(single)
        return len(batch)

    async def _record_alone(self, single: Completed) -> None:
        try:
            await self.record([single])
        except Exception:
            # Its lease runs out and it is attempted again under the same id.
            _log.exception("an outcome could not be recorded", of=self.name, id=single.id)
