"""Work for agents, on both databases: offered, claimed, given back, answered, out of time."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from core.clock import ManualClock
from core.domain.effects import CreateTask
from core.domain.enrollment import Enrollment, State, TaskAnswered
from core.domain.errors import Invalid, NotFound, WrongState
from core.store.agents import tasks
from core.store.agents.tasks import TaskOutcome, TaskState
from core.store.database import Database
from core.store.workflows import workflows
from tests.conftest import START
from tests.store.test_pausing import workflow

pytestmark = pytest.mark.anyio

ORG = "org_a"
SCHEMA = {"type": "object", "required": ["warm"], "properties": {"warm": {"type": "boolean"}}}


def enrollment(org: str = ORG) -> Enrollment:
    return Enrollment(
        "enr_1", org, "nurture", 1, "cnt_1", "", "key_1", State.ACTIVE, "judge", 3, entered_at=START, moved_at=START
    )


def task(task_id: str, hours: int | None = 24, schema: Any = SCHEMA) -> CreateTask:
    expires = None if hours is None else START + timedelta(hours=hours)
    return CreateTask(task_id, "Read it", "Say how warm it is.", {"text": "hi"}, schema, expires)


async def offer(database: Database, *offered: CreateTask, org: str = ORG) -> None:
    async with database.system() as tx:
        await tasks.create_many(tx, [(enrollment(org), one) for one in offered])


async def states(database: Database, org: str = ORG) -> dict[str, str]:
    async with database.read(org) as tx:
        return {row.id: row.state for row in await tx.all(tasks.listing(now=tx.now))}


async def listed(database: Database, state: TaskState) -> list[str]:
    async with database.read(ORG) as tx:
        return sorted(row.id for row in await tx.all(tasks.listing(state, workflow_id="nurture", now=tx.now)))


async def test_a_task_is_read_back_as_offered(database: Database) -> None:
    await offer(database, task("tsk_1"))
    async with database.read(ORG) as tx:
        row = await tasks.get(tx, "tsk_1")
    assert row is not None
    assert (row.title, row.input, row.output_schema) == ("Read it", {"text": "hi"}, SCHEMA)
    assert (row.enrollment_id, row.step_id, row.state, row.output) == ("enr_1", "judge", "open", None)
    async with database.read("org_b") as tx:
        assert await tasks.get(tx, "tsk_1") is None


async def test_a_claim_keeps_others_away_until_its_lease_ends(database: Database, clock: ManualClock) -> None:
    await offer(database, task("tsk_1"))
    async with database.write(ORG) as tx:
        row = await tasks.claim(tx, "tsk_1", "key_1")
    assert (row.state, row.claimed_by, row.claim_expires_at) == ("claimed", "key_1", START + tasks.LEASE)
    with pytest.raises(WrongState, match="claimed by key_1 until 09:15:00 UTC"):
        async with database.write(ORG) as tx:
            await tasks.claim(tx, "tsk_1", "key_2")
    clock.advance(timedelta(minutes=10))
    async with database.write(ORG) as tx:
        again = await tasks.claim(tx, "tsk_1", "key_1")
    assert again.claim_expires_at == START + timedelta(minutes=25)
    clock.advance(timedelta(minutes=15))
    assert await listed(database, TaskState.OPEN) == ["tsk_1"]
    async with database.write(ORG) as tx:
        assert (await tasks.claim(tx, "tsk_1", "key_2")).claimed_by == "key_2"
    with pytest.raises(WrongState, match="claimed by key_2"):
        async with database.write(ORG) as tx:
            await tasks.answer(tx, "tsk_1", "key_1", {"warm": True})


async def test_the_oldest_open_tasks_come_first(database: Database) -> None:
    await offer(database, task("tsk_1"), task("tsk_2"), task("tsk_3", 0), task("tsk_4"))
    async with database.write(ORG) as tx:
        assert [row.id for row in await tasks.claim_next(tx, "key_1", limit=2)] == ["tsk_1", "tsk_2"]
        assert [row.id for row in await tasks.claim_next(tx, "key_1", limit=2)] == ["tsk_4"]
        assert await tasks.claim_next(tx, "key_1", workflow_id="nurture") == []


async def test_two_agents_at_once_get_different_tasks(postgresql_database: Database) -> None:
    database = postgresql_database
    await offer(database, *(task(f"tsk_{n}") for n in range(8)))

    async def take(principal: str) -> list[str]:
        async with database.write(ORG) as tx:
            return [row.id for row in await tasks.claim_next(tx, principal, limit=4)]

    taken = await asyncio.gather(*(take(f"key_{n}") for n in range(4)))
    found = [task_id for ids in taken for task_id in ids]
    assert len(found) == len(set(found))


async def test_one_task_is_claimed_by_one_of_two_at_once(postgresql_database: Database) -> None:
    database = postgresql_database
    await offer(database, task("tsk_1"))

    async def take(principal: str) -> str:
        async with database.write(ORG) as tx:
            return str((await tasks.claim(tx, "tsk_1", principal)).claimed_by)

    results = await asyncio.gather(take("key_1"), take("key_2"), return_exceptions=True)
    assert sorted(type(result) for result in results if not isinstance(result, str)) == [WrongState]


async def test_a_task_that_is_given_back_is_open_to_others(database: Database) -> None:
    await offer(database, task("tsk_1"))
    async with database.write(ORG) as tx:
        await tasks.claim(tx, "tsk_1", "key_1")
    with pytest.raises(WrongState):
        async with database.write(ORG) as tx:
            await tasks.release(tx, "tsk_1", "key_2")
    async with database.write(ORG) as tx:
        row = await tasks.release(tx, "tsk_1", "key_1")
    assert (row.state, row.claimed_by, row.claim_expires_at) == ("open", "", None)


async def test_an_answer_that_fits_is_kept_and_tells_whom_to_move(database: Database) -> None:
    await offer(database, task("tsk_1"))
    async with database.write(ORG) as tx:
        await tasks.claim(tx, "tsk_1", "key_1")
        outcome = await tasks.answer(tx, "tsk_1", "key_1", {"warm": True, "why": "nul\0"})
    output = {"warm": True, "why": "nul"}
    assert outcome == TaskOutcome(ORG, "enr_1", TaskAnswered("tsk_1", output, "key_1"))
    async with database.read(ORG) as tx:
        row = await tasks.get(tx, "tsk_1")
    assert row is not None
    assert (row.state, row.output, row.answered_by, row.answered_at) == ("answered", output, "key_1", START)
    with pytest.raises(WrongState, match="answered by key_1"):
        async with database.write(ORG) as tx:
            await tasks.answer(tx, "tsk_1", "key_1", {"warm": False})


@pytest.mark.parametrize(
    ("output", "field", "reason"),
    [
        ({"warm": "yes"}, "output.warm", "SCHEMA_VIOLATION"),
        ({}, "output.warm", "SCHEMA_VIOLATION"),
        ([1], "output", "SCHEMA_VIOLATION"),
        ({"warm": True, "why": "x" * 70_000}, "output", "TOO_LARGE"),
        ({"warm": True, "why": float("nan")}, "output", "NOT_JSON"),
    ],
)
async def test_an_answer_that_does_not_fit_leaves_the_task_as_it_was(
    database: Database, output: Any, field: str, reason: str
) -> None:
    await offer(database, task("tsk_1"))
    with pytest.raises(Invalid) as caught:
        async with database.write(ORG) as tx:
            await tasks.answer(tx, "tsk_1", "key_1", output)
    assert [(one.field, one.reason) for one in caught.value.violations] == [(field, reason)]
    assert await states(database) == {"tsk_1": "open"}


async def test_a_task_out_of_time_is_neither_claimed_nor_answered(database: Database, clock: ManualClock) -> None:
    await offer(database, task("tsk_1", 1), task("tsk_2", 2), task("tsk_3", None))
    clock.advance(timedelta(hours=1))
    for act in (tasks.claim, tasks.release):
        with pytest.raises(WrongState, match="is expired"):
            async with database.write(ORG) as tx:
                await act(tx, "tsk_1", "key_1")
    with pytest.raises(WrongState, match="is expired"):
        async with database.write(ORG) as tx:
            await tasks.answer(tx, "tsk_1", "key_1", {"warm": True})
    assert (await listed(database, TaskState.EXPIRED), await listed(database, TaskState.OPEN)) == (
        ["tsk_1"],
        ["tsk_2", "tsk_3"],
    )
    async with database.system() as tx:
        assert (await tasks.expire(tx), await tasks.expire(tx)) == (1, 0)
    assert await states(database) == {"tsk_1": "expired", "tsk_2": "open", "tsk_3": "open"}


async def test_no_agent_is_late_while_the_workflow_is_paused(database: Database, clock: ManualClock) -> None:
    await offer(database, task("tsk_1", hours=1))
    async with database.write(ORG) as tx:
        await tx.insert(workflows.workflows, [workflow("nurture", "paused"), workflow("other", "active")])
    clock.advance(timedelta(hours=1))
    async with database.system() as tx:
        assert await tasks.expire(tx) == 0
    async with database.write(ORG) as tx:
        await tx.run(workflows.workflows.update().values(state="active"))
    async with database.system() as tx:
        assert await tasks.expire(tx) == 1


async def test_what_is_withdrawn_is_over_unless_it_was_answered(database: Database, clock: ManualClock) -> None:
    await offer(database, task("tsk_1"), task("tsk_2"), task("tsk_3", 1))
    await offer(database, task("tsk_1"), org="org_b")
    async with database.write(ORG) as tx:
        await tasks.answer(tx, "tsk_2", "key_1", {"warm": True})
    clock.advance(timedelta(hours=1))
    async with database.system() as tx:
        assert await tasks.cancel(tx, [(ORG, "tsk_1"), (ORG, "tsk_2"), (ORG, "tsk_3")]) == 2
        assert await tasks.cancel(tx, []) == 0
    assert await states(database) == {"tsk_1": "cancelled", "tsk_2": "answered", "tsk_3": "expired"}
    assert await states(database, "org_b") == {"tsk_1": "open"}


async def test_a_task_that_is_not_there_is_not_found(database: Database) -> None:
    async with database.write(ORG) as tx:
        with pytest.raises(NotFound):
            await tasks.claim(tx, "tsk_1", "key_1")
        with pytest.raises(NotFound):
            await tasks.answer(tx, "tsk_1", "key_1", {})
