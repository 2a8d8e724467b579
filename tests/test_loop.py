"""The shape of every loop: it turns while there may be more, and then waits to be woken."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from core.clock import ManualClock
from core.loop import Loop
from core.store.database import Database

pytestmark = pytest.mark.anyio


class _Waits(ManualClock):
    """A clock that notes after which turn somebody waited."""

    def __init__(self, turns: list[int]):
        super().__init__(datetime(2026, 1, 1, tzinfo=UTC))
        self.turns = turns
        self.waited: list[int] = []

    async def wait(self, event: asyncio.Event, seconds: float) -> None:
        self.waited.append(len(self.turns))


async def test_a_loop_with_a_backlog_leaves_others_their_turn(database: Database, clock: ManualClock) -> None:
    turns = 0
    begun = asyncio.Event()

    async def turn() -> int:
        nonlocal turns
        async with database.system() as tx:
            await tx.fetch("SELECT 1")
        turns += 1
        begun.set()
        if turns == 500:
            loop.stop()
        return 1

    loop = Loop("engine", turn, asyncio.Event(), clock)
    running = asyncio.create_task(loop.run())
    await begun.wait()
    async with database.system() as tx:
        await tx.fetch("SELECT 1")
    waited = turns
    loop.stop()
    await running
    assert waited < 50


@pytest.mark.parametrize(("few", "waited"), [(0, [3, 5]), (8, [2, 3, 4, 5])])
async def test_a_loop_waits_after_a_turn_that_left_nothing(few: int, waited: list[int]) -> None:
    turns: list[int] = []
    clock = _Waits(turns)

    async def turn() -> int:
        turns.append(len(turns))
        if len(turns) == 6:
            loop.stop()
        return [9, 8, 0, 1, 0, 0][len(turns) - 1]

    loop = Loop("some", turn, asyncio.Event(), clock, few=few)
    await loop.run()
    assert clock.waited == waited


@pytest.mark.parametrize("fails", [False, True])
async def test_a_loop_tells_that_it_has_turned_whatever_came_of_it(clock: ManualClock, fails: bool) -> None:
    async def turn() -> int:
        assert not loop.turned.is_set()
        if fails:
            raise RuntimeError("it cannot")
        return 0

    loop = Loop("engine", turn, asyncio.Event(), clock)
    running = asyncio.create_task(loop.run())
    async with asyncio.timeout(10):
        await loop.turned.wait()
        loop.stop()
        await running
