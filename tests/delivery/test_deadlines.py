"""Deadlines of many things under way, watched by one timer."""

from __future__ import annotations

import asyncio

import pytest

from core.delivery.deadlines import Deadlines

pytestmark = pytest.mark.anyio

LONG = 30.0


async def _limited(deadlines, seconds, until):
    try:
        with deadlines.within(seconds):
            await until.wait()
    except TimeoutError:
        return "too slow"
    return "in time"


async def test_only_what_takes_too_long_is_ended_whichever_came_first():
    deadlines, never, now = Deadlines(), asyncio.Event(), asyncio.Event()
    now.set()
    begun = [(LONG, now), (0.02, never), (0.01, never), (0.0, never), (0.01, now)]
    async with asyncio.timeout(5):
        told = await asyncio.gather(*(_limited(deadlines, seconds, until) for seconds, until in begun))
    assert told == ["in time", "too slow", "too slow", "too slow", "in time"]
    deadlines.close()


async def test_the_timer_goes_on_to_the_next_when_the_one_it_was_set_for_is_gone():
    deadlines, never, now = Deadlines(), asyncio.Event(), asyncio.Event()
    now.set()
    async with asyncio.timeout(5):
        assert await _limited(deadlines, 0.01, now) == "in time"
        assert await _limited(deadlines, 0.03, never) == "too slow"
    deadlines.close()


async def test_a_cancellation_from_elsewhere_stays_one():
    deadlines, never = Deadlines(), asyncio.Event()
    task = asyncio.create_task(_limited(deadlines, LONG, never))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()


async def test_who_is_ended_from_elsewhere_at_the_same_moment_is_not_told_of_time():
    deadlines, never = Deadlines(), asyncio.Event()
    task = asyncio.create_task(_limited(deadlines, 0.0, never))
    asyncio.get_running_loop().call_later(0.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()


async def test_what_was_in_time_may_go_on_as_long_as_it_likes():
    deadlines, now = Deadlines(), asyncio.Event()
    now.set()
    assert await _limited(deadlines, 0.0, now) == "in time"
    later = asyncio.Event()
    asyncio.get_running_loop().call_later(0.0, later.set)
    await later.wait()  # the timer has rung before, and nobody was left
    assert asyncio.current_task().cancelling() == 0
    deadlines.close()
