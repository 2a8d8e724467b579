"""The rolling pool: its places, what an attempt that breaks costs, and how it stops."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from core.delivery.pool import RECORDED_AT_ONCE, Pool

pytestmark = pytest.mark.anyio


@dataclass(frozen=True)
class Job:
    id: str


@dataclass
class Work:
    """What is to be done, what was recorded and what was given back."""

    waiting: deque[str] = field(default_factory=deque)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    recorded: list[list[str]] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    """Ids whose attempt, record or release fails, after the verb: `attempt:a`."""

    def pool(self, places: int = 2) -> Pool[Job, Job]:
        return Pool("job", asyncio.Event(), places, self.claim, self.attempt, self.record, self.release)

    async def claim(self, free: int) -> list[Job]:
        return [Job(self.waiting.popleft()) for _ in range(min(free, len(self.waiting)))]

    async def attempt(self, job: Job) -> Job:
        await self.gates.get(job.id, _open()).wait()
        self._may_break("attempt", [job])
        return job

    async def record(self, jobs: Sequence[Job]) -> None:
        self._may_break("record", jobs)
        self.recorded.append([job.id for job in jobs])

    async def release(self, jobs: Collection[Job]) -> None:
        self._may_break("release", jobs)
        self.released += [job.id for job in jobs]

    def _may_break(self, verb: str, jobs: Collection[Job]) -> None:
        if any(f"{verb}:{job.id}" in self.broken for job in jobs):
            raise RuntimeError(f"{verb} failed")


def _open() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    monkeypatch.setattr("core.delivery.pool._log", structlog.get_logger())  # one that no earlier test has used
    with capture_logs() as captured:
        yield captured


async def test_who_is_slow_holds_its_own_place_alone() -> None:
    slow = asyncio.Event()
    work = Work(deque("abcd"), {"a": slow})
    pool = work.pool(places=2)
    assert await pool.turn() == 2
    assert [job.id for job in pool.flying] == ["a", "b"]
    while len(work.recorded) < 3:
        await pool.wake.wait()
        pool.wake.clear()
        await pool.turn()
    assert [id_ for some in work.recorded for id_ in some] == ["b", "c", "d"]
    assert [job.id for job in pool.flying] == ["a"]
    slow.set()
    await pool.drain()
    assert work.recorded[-1] == ["a"]


async def test_what_needs_no_attempt_is_recorded_with_the_rest_a_batch_at_a_time() -> None:
    work = Work()
    pool = work.pool()
    pool.finished += [Job(str(number)) for number in range(RECORDED_AT_ONCE + 1)]
    await pool.drain()
    assert [len(some) for some in work.recorded] == [RECORDED_AT_ONCE, 1]


async def test_what_finishes_while_others_are_recorded_is_not_lost() -> None:
    gate = asyncio.Event()
    work = Work(deque("ab"), {"a": gate})
    pool = work.pool()
    await pool.turn()
    await asyncio.wait([asyncio.create_task(pool.wake.wait())])
    gate.set()  # the attempt goes on while the other one's outcome is written
    await pool.drain()
    assert sorted(id_ for some in work.recorded for id_ in some) == ["a", "b"]


async def test_one_that_breaks_takes_no_other_with_it(logs: list[Any]) -> None:
    work = Work(deque("abc"), broken={"attempt:a", "record:b"})
    await work.pool(places=3).drain()
    assert work.recorded == [["c"]]
    assert [(one["event"], one.get("id")) for one in logs] == [
        ("an attempt broke", "a"),
        ("recording outcomes failed; trying one by one", None),
        ("an outcome could not be recorded", "b"),
    ]
    assert isinstance(logs[0]["exc_info"], RuntimeError), "whoever renders it decides what may be told of it"


async def test_stopping_records_what_is_done_in_time_and_gives_the_rest_back() -> None:
    quick, never = asyncio.Event(), asyncio.Event()
    work = Work(deque("abc"), {"a": quick, "b": never})
    pool = work.pool(places=2)
    await pool.turn()
    quick.set()
    await pool.stop(0.05)
    assert (work.recorded, work.released) == ([["a"]], ["b"])
    assert await pool.turn() == 0, "it claims no more"


async def test_leases_that_cannot_be_given_back_run_out(logs: list[Any]) -> None:
    work = Work(deque("a"), {"a": asyncio.Event()}, broken={"release:a"})
    pool = work.pool()
    await pool.turn()
    await pool.stop(0)
    assert [(one["event"], one["leases"]) for one in logs] == [("leases could not be given back", 1)]


async def test_who_is_slow_gives_its_place_up_as_long_as_there_is_room_for_slow_ones() -> None:
    gates = {name: asyncio.Event() for name in "abcd"}
    work = Work(deque("abcd"), gates)
    pool = work.pool(places=1)
    pool.slow_places, pool.slow_after = 2, 0.0
    for _ in range(5):
        await pool.turn()
    assert [job.id for job in pool.flying] == ["a", "b", "c"], "two slow ones and one place"
    gates["a"].set()
    pool.wake.clear()
    await asyncio.wait_for(pool.wake.wait(), 5)
    for _ in range(3):
        await pool.turn()
    assert [job.id for job in pool.flying] == ["b", "c", "d"]
    for gate in gates.values():
        gate.set()
    await pool.drain()
    assert sorted(id for batch in work.recorded for id in batch) == list("abcd")


async def test_a_full_pool_looks_again_when_somebody_has_become_slow() -> None:
    work = Work(deque("ab"), {"a": asyncio.Event()})
    pool = work.pool(places=1)
    pool.slow_places, pool.slow_after = 1, 0.01
    await pool.turn()
    pool.wake.clear()
    await pool.turn()
    await asyncio.wait_for(pool.wake.wait(), 5)
    await pool.turn()
    assert "b" in [job.id for job in pool.flying] or work.recorded == [["b"]]
    work.gates["a"].set()
    await pool.drain()


async def test_where_many_are_under_way_a_turn_takes_most_of_them_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.delivery.pool._MOMENT_SECONDS", 5.0)  # a busy machine must not end it early
    gates = {f"{number:02}": asyncio.Event() for number in range(16)}
    work = Work(deque(gates), gates)
    pool = work.pool(places=32)
    await pool.turn()
    await asyncio.sleep(0)
    for gate in list(gates.values())[:12]:
        asyncio.get_running_loop().call_soon(gate.set)
    await pool.turn()
    assert [len(some) for some in work.recorded] == [12], "three of four, written down at once"
    for gate in gates.values():
        gate.set()
    await pool.drain()
    assert sum(len(some) for some in work.recorded) == 16
