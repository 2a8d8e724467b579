"""Messages of paused workflows, on both databases: met once, held to the end of the pause, and none left behind."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select

from core.clock import ManualClock
from core.store.database import Database
from core.store.messages import outgoing, outgoing_due
from core.store.messages.outgoing import Completion, MessageState, outgoing_messages
from core.store.workflows import pausing, workflows
from core.store.workflows.pausing import ResumePolicy
from tests.conftest import START
from tests.store.effort import effort, tidy
from tests.store.test_outgoing import LEASE, ORG, claim, complete, message, write
from tests.store.test_pausing import workflow

pytestmark = pytest.mark.anyio

HOUR = timedelta(hours=1)


async def pause(database: Database) -> None:
    async with database.write(ORG) as tx:
        await tx.insert(workflows.workflows, [workflow("nurture", "paused"), workflow("other", "active")])


async def resume(database: Database, policy: ResumePolicy = "run_overdue") -> None:
    async with database.write(ORG) as tx:
        await pausing.resume(tx, await workflows.get(tx, "nurture", lock=True), policy)


async def due(database: Database) -> dict[str, tuple[str, datetime | None]]:
    async with database.read(ORG) as tx:
        rows = await tx.all(select(outgoing_messages))
    return {row.id: (row.state, row.due_at) for row in rows}


def of(workflow_id: str, message_id: str) -> outgoing.NewMessage:
    new = message(message_id)
    return outgoing.NewMessage(new.org_id, new.enrollment_id, workflow_id, new.step_id, new.effect)


@pytest.mark.parametrize("policy", ["run_overdue", "shift", "skip_overdue"])
async def test_messages_of_a_paused_workflow_are_held_and_go_out_in_their_order_when_it_goes_on(
    database: Database, clock: ManualClock, policy: ResumePolicy
) -> None:
    await pause(database)
    for number in (2, 1):
        await write(database, message(f"msg_{number}"))
        clock.advance(HOUR)
    await write(database, of("other", "msg_3"))
    assert [one.id for one in await claim(database)] == ["msg_3"]
    assert (await due(database))["msg_1"] == (await due(database))["msg_2"] == ("pending", None)
    clock.advance(HOUR)
    await resume(database, policy)
    claimed = [await claim(database, limit=1) for _ in range(2)]
    assert [one.id for some in claimed for one in some] == ["msg_2", "msg_1"]


async def test_what_stands_costs_nothing_until_the_pause_is_over(database: Database) -> None:
    await pause(database)
    await write(database, *(message(f"msg_{number:04}") for number in range(3_000)))
    for _ in range(6):
        assert await claim(database) == []
    await tidy(database, "outgoing_messages")
    async with database.system() as tx:
        again = outgoing_due.claim(tx, limit=10, lease=LEASE, token="lse_2")
        assert await effort(tx, lambda: again) < 100


async def test_a_long_row_of_held_messages_hides_nothing_behind_it(
    database: Database, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.store.messages.outgoing_due._PARKED_AT_ONCE", 3)
    await pause(database)
    await write(database, *(message(f"msg_{number}") for number in range(7)))
    clock.advance(HOUR)
    await write(database, of("other", "msg_z"))
    wake = database.wakeups.event("mailer")
    claimed: list[str] = []
    turns = 0
    while not claimed:
        turns += 1
        wake.clear()
        claimed = [one.id for one in await claim(database, limit=1)]
        assert claimed or wake.is_set(), "the loop would go to sleep"
    assert (claimed, turns) == (["msg_z"], 3)


async def test_a_try_that_a_pause_overtakes_is_recorded_or_made_again(database: Database, clock: ManualClock) -> None:
    await write(database, message("msg_1"), message("msg_2"))
    first, second = await claim(database)
    await pause(database)
    clock.advance(LEASE)  # the worker is slow, or dead
    assert await claim(database, "lse_2") == []
    assert set((await due(database)).values()) == {("sending", None)}
    assert await complete(database, Completion(first, MessageState.SENT, "250 ok")) == 1
    await resume(database)
    assert [one.id for one in await claim(database, "lse_3")] == [second.id]
    assert (await due(database))[first.id] == ("sent", None)


async def test_a_message_to_be_tried_again_after_the_pause_keeps_its_time(
    database: Database, clock: ManualClock
) -> None:
    await write(database, message("msg_1"))
    (tried,) = await claim(database)
    await pause(database)
    later = START + 2 * HOUR
    await complete(database, Completion(tried, MessageState.PENDING, "451 later", later))
    assert await claim(database) == []
    await resume(database)
    assert await due(database) == {"msg_1": ("pending", later)}
    clock.advance(2 * HOUR)
    assert len(await claim(database)) == 1


async def test_a_pause_does_not_end_between_being_seen_and_being_obeyed(postgresql_database: Database) -> None:
    database = postgresql_database
    await pause(database)
    await write(database, message("msg_1"))
    async with database.system() as tx:
        assert await outgoing_due.claim(tx, limit=10, lease=LEASE, token="lse_1") == []
        resuming: asyncio.Task[Any] = asyncio.create_task(resume(database))
        done, _ = await asyncio.wait([resuming], timeout=0.2)
        assert not done, "it would not see what is being held"
    await resuming
    assert [one.id for one in await claim(database)] == ["msg_1"]


async def test_a_pause_that_is_about_to_end_holds_nothing_and_nobody_up(postgresql_database: Database) -> None:
    database = postgresql_database
    await pause(database)
    await write(database, message("msg_1"))
    async with database.write(ORG) as tx:
        await pausing.resume(tx, await workflows.get(tx, "nurture", lock=True), "run_overdue")
        assert await claim(database) == []
        assert await due(database) == {"msg_1": ("pending", START)}
    assert [one.id for one in await claim(database)] == ["msg_1"]
