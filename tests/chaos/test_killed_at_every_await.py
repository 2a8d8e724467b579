"""kill -9 of the dispatcher at every await it has: whoever comes after it finishes, and nothing is lost or doubled.

A few of the moments in the usual suite; every one of them, with a table at the end, in `make kill-matrix`.
"""

from __future__ import annotations

import itertools
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from core.clock import ManualClock
from core.delivery.dispatcher import LEASE
from core.store.database import Database
from tests.chaos.batch import A_RETRY_LATER, Batch, carry_out, dispatching, sending
from tests.chaos.connections import connections, left_alone
from tests.chaos.lives import Ended, Lives, warm
from tests.receiver import Receiver

pytestmark = [pytest.mark.anyio, pytest.mark.kill9]

EVERY = "DRIPSTONE_KILLS" in os.environ
SOME = 12
"""So many kills, spread over all moments, where not every one is asked for."""

_MANY = 256
_NEVER = 0


@pytest.fixture(scope="module")
def lives() -> Iterator[Lives]:
    with warm() as started:
        yield started


@dataclass(slots=True)
class Tally:
    """What is told of a row of kills."""

    capsys: pytest.CaptureFixture[str]
    title: str
    kills: Counter[str] = field(default_factory=Counter)
    repeated: Counter[str] = field(default_factory=Counter)
    places: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    begun: float = field(default_factory=time.monotonic)

    def add(self, ended: Ended, batch: Batch, moments: int) -> None:
        """Enter a kill, and say how far this is."""
        self.kills[ended.phase] += 1
        self.repeated[ended.phase] += batch.repeated
        self.places[ended.phase].add(ended.place)
        if ended.moments % 10 == 0:
            self._print(f"\r{self.title}: killed at {ended.moments} of about {moments}", end="")

    def show(self) -> None:
        """Print the table."""
        self._print(f"\r{self.title}: {time.monotonic() - self.begun:.0f} s{'':<30}")
        self._print(f"  {'killed in':<10}{'kills':>7}{'places':>8}{'repeated requests':>19}")
        for phase in sorted(self.kills):
            self._row(phase, self.kills[phase], len(self.places[phase]), self.repeated[phase])
        self._row("all", self.kills.total(), len(set().union(*self.places.values())), self.repeated.total())

    def _row(self, phase: str, kills: int, places: int, repeated: int) -> None:
        self._print(f"  {phase:<10}{kills:>7}{places:>8}{repeated:>19}")

    def _print(self, text: str, end: str = "\n") -> None:
        if EVERY:
            with self.capsys.disabled():
                print(text, end=end, flush=True)


@dataclass(slots=True)
class Killing:
    """One life after another on the same database, each with a batch of its own."""

    database: Database
    database_url: str
    clock: ManualClock
    receiver: Receiver
    lives: Lives
    at_once: int
    _serial: int = 0

    async def kill(self, fatal: int) -> tuple[Ended, Batch]:
        """Let a dispatcher end at this moment and another finish what it left; check what became of everything."""
        self._serial += 1
        batch = Batch(f"org_{self._serial}", self.receiver)
        await batch.write(self.database)
        ours = await connections(self.database)
        ended = await self.lives.live(self.database_url, self.clock.now(), fatal, self.at_once)
        await left_alone(self.database, ours)
        self.clock.advance(ended.now - self.clock.now())
        if ended.killed:
            await self._succeed()
        problems = await batch.problems(self.database, killed=ended.killed, at_once=self.at_once)
        assert problems == [], f"killed at moment {fatal}, in {ended.phase}, {ended.place}"
        return ended, batch

    async def _succeed(self) -> None:
        """Do what a clean successor does: on SQLite it takes everything back at once, elsewhere leases run out."""
        sender = sending()
        dispatcher = dispatching(self.database, sender, self.clock, _MANY)
        if not self.database.is_postgresql:
            await dispatcher.recover()
        self.clock.advance(LEASE + timedelta(seconds=1) if self.database.is_postgresql else A_RETRY_LATER)
        await carry_out(dispatcher, self.clock)
        await sender.close()


def _fatal(moments: int) -> Iterator[int]:
    """Yield the moments to be killed at: every one, for as long as anybody lives to see it, or some of them."""
    if EVERY:
        yield from itertools.count(1)
    span = moments // SOME
    yield from (number * span + random.randint(1, span) for number in range(SOME))


@pytest.mark.parametrize("at_once", [_MANY, 1], ids=["all at once", "one by one"])
async def test_killed_at_any_await_it_leaves_all_to_be_delivered_and_repeats_no_more_than_it_was_killed(
    at_once: int, database: Database, database_url: str, clock: ManualClock, receiver: Receiver,
    lives: Lives, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    killing = Killing(database, database_url, clock, receiver, lives, at_once)
    tally = Tally(capsys, f"{'PostgreSQL' if database.is_postgresql else 'SQLite'}, {at_once} at once")
    whole, _ = await killing.kill(_NEVER)
    assert not whole.killed
    for fatal in _fatal(whole.moments):
        ended, batch = await killing.kill(fatal)
        if ended.killed:
            tally.add(ended, batch, whole.moments)
        elif EVERY:
            break
    tally.show()
    assert tally.kills.total() >= SOME * 3 // 4, "another time, a few moments less may come"
