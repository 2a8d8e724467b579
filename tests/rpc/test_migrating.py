"""Moving running enrollments to another version: what the plan says of their waits, and what becomes of these."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from core.domain.errors import Invalid
from core.engine.driver import Entry
from core.rpc.workflows import migrating, workflow_statistics
from core.store.workflows import pausing, workflows
from dripstone.v1 import workflow_pb2 as pb
from tests.engine.parts import ORG
from tests.engine.parts import Parts as Engine
from tests.rpc.workflow_calls import call, enroll

pytestmark = pytest.mark.anyio

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
KEEP, RECOMPUTE, RESTART = pb.WAIT_POLICY_KEEP, pb.WAIT_POLICY_RECOMPUTE, pb.WAIT_POLICY_RESTART


async def _plan(engine: Engine, **asked: Any) -> pb.MigrationPlan:
    plan: pb.MigrationPlan = await call(
        engine, migrating.plan_migration, pb.PlanMigrationRequest(workflow_id="w", **asked)
    )
    return plan


async def _migrate(engine: Engine, **asked: Any) -> pb.MigrationPlan:
    plan = await _plan(engine, **asked)
    applied: pb.MigrationPlan = await call(
        engine, migrating.apply_migration, pb.ApplyMigrationRequest(plan_id=plan.plan_id, hash=plan.hash)
    )
    assert [(one.wait, one.enrollment_ids) for one in applied.moves] == [
        (one.wait, one.enrollment_ids) for one in plan.moves
    ]
    return plan


def _told(plan: pb.MigrationPlan) -> list[tuple[int, int, int, int, datetime | None, datetime | None]]:
    return [
        (
            *(one.wait, one.count, one.at_once_count, one.failing_count),
            one.earliest_due_time.ToDatetime() if one.HasField("earliest_due_time") else None,
            one.latest_due_time.ToDatetime() if one.HasField("latest_due_time") else None,
        )
        for one in plan.moves
    ]


PAUSE = "steps: [{id: pause, kind: wait, for: 30d}, {id: rest, kind: wait, for: 90d}]"


@pytest.mark.one_database
async def test_a_plan_tells_when_waits_end_that_are_made_again(engine: Engine) -> None:
    await engine.publish(PAUSE)
    began = []
    for _ in range(3):
        await enroll(engine)
        began.append(engine.clock.now().replace(tzinfo=None))
        await engine.pass_time(2 * DAY)
    await engine.publish(PAUSE.replace("30d", "3d"))
    assert _told(await _plan(engine, validate_only=True)) == [
        (RECOMPUTE, 3, 2, 0, began[2] + 3 * DAY, began[2] + 3 * DAY),
    ]
    kept = await _plan(engine, waits={"pause": KEEP}, validate_only=True)
    assert _told(kept) == [(KEEP, 3, 0, 0, began[0] + 30 * DAY, began[2] + 30 * DAY)]
    assert _told(await _plan(engine, waits={"pause": RESTART}, validate_only=True)) == [(RESTART, 3, 0, 0, None, None)]
    with pytest.raises(Invalid) as refused:
        await _plan(engine, waits={"pauze": KEEP})
    (problem,) = refused.value.violations
    assert (problem.field, problem.reason, problem.hint) == ("waits.pauze", "UNKNOWN_STEP", "Did you mean pause?")

    await _migrate(engine)
    await engine.settle()
    assert [one.step_id for one in await engine.enrolled()] == ["rest", "rest", "pause"]
    await engine.pass_time(DAY)
    assert {one.step_id for one in await engine.enrolled()} == {"rest"}


@pytest.mark.one_database
async def test_a_plan_tells_whose_wait_cannot_be_made_there(engine: Engine) -> None:
    paid = "variables: {order: string}\nsteps: [{id: paid, kind: wait_for_event, event: paid, %stimeout: 2d}]"
    await engine.publish(paid % "")
    await enroll(engine)
    await enroll(engine, order="7")
    await engine.publish(paid % 'match: {order_id: "{{ vars.order }}"}, ')
    due = engine.clock.now().replace(tzinfo=None) + 2 * DAY
    ((wait, count, at_once, failing, earliest, _),) = _told(await _plan(engine))
    assert (wait, count, at_once, failing) == (RECOMPUTE, 2, 0, 1)
    assert earliest is not None
    assert due - HOUR < earliest <= due


LISTENS = """
variables: {order: string}
steps:
  - {id: paid, kind: wait_for_event, event: paid, match: {%s: "{{ vars.order }}"}, timeout: %s,
     exits: {matched: thanks, timeout: late}}
  - {id: thanks, kind: exit, reason: paid}
  - {id: late, kind: exit, reason: late}
"""


@pytest.mark.parametrize(("longest", "paused"), [("9d", False), ("1d", True)])
async def test_who_waits_for_something_else_hears_what_came_since_the_wait_began(
    engine: Engine, longest: str, paused: bool
) -> None:
    await engine.publish(LISTENS % ("order_id", "5d"))
    for order in ("6", "7", "8"):
        await enroll(engine, order=order)
    await engine.publish(LISTENS % ("invoice", longest))
    await engine.send("paid", invoice="7")  # it is matched, and nobody waits for it yet
    await engine.pass_time(2 * DAY)
    await engine.send("paid", invoice="8")
    await engine.settle()
    assert [one.end_reason for one in await engine.enrolled()] == ["", "", ""]
    if paused:
        async with engine.database.write(ORG) as tx:
            await pausing.pause(tx, ORG, "w", "", "key_1")
    await _migrate(engine)
    await engine.settle()
    if paused:
        assert [one.end_reason for one in await engine.enrolled()] == ["", "", ""]
        async with engine.database.write(ORG) as tx:
            row: Any = await workflows.get(tx, "w", lock=True)
            await pausing.resume(tx, row, "run_overdue")
        await engine.settle()
    others = "late" if longest == "1d" else ""
    assert [one.end_reason for one in await engine.enrolled()] == [others, "paid", "late" if others else "paid"]


@pytest.mark.one_database
async def test_a_wait_that_is_kept_hears_what_it_was_begun_for(engine: Engine) -> None:
    await engine.publish(LISTENS % ("order_id", "5d"))
    await enroll(engine, order="6")
    await engine.publish(LISTENS % ("invoice", "5d"))
    await _migrate(engine, waits={"paid": KEEP})
    await engine.send("paid", order_id="6")
    await engine.settle()
    assert [one.end_reason for one in await engine.enrolled()] == ["paid"]


async def test_who_moves_takes_along_what_splits_had_chosen_and_what_came_of_it(engine: Engine) -> None:
    text = """
steps:
  - {id: ab, kind: split, ways: {a: 50, b: 50}, exits: {a: pause, b: pause}}
  - {id: pause, kind: wait_for_event, event: bought, timeout: 9d, exits: {matched: done, timeout: end}}
  - {id: done, kind: goal, name: bought}
  - {id: rest, kind: wait, for: 9d}
"""

    async def told(version: int) -> tuple[list[tuple[int, int]], dict[str, int]]:
        request = pb.GetWorkflowStatisticsRequest(workflow_id="w", version=version)
        answer: pb.WorkflowStatistics = await call(engine, workflow_statistics.get_workflow_statistics, request)
        (split,) = answer.splits
        return [(way.entered_count, way.converted_count) for way in split.ways], dict(answer.goals)

    await engine.publish(text)
    for _ in range(8):
        await enroll(engine)
    await engine.send("bought", "c0@example.com")
    await engine.settle()
    before, bought = await told(1)
    assert (sum(entered for entered, _ in before), sum(converted for _, converted in before)) == (8, 1)

    await engine.publish(text.replace("9d}", "8d}"))
    await _migrate(engine)
    assert await told(1) == ([(0, 0), (0, 0)], {})
    assert await told(2) == (before, bought)
    await engine.send("bought", "c1@example.com")
    await engine.settle()
    assert (await told(1), sum(converted for _, converted in (await told(2))[0])) == (
        ([(0, 0), (0, 0)], {}),
        2,
    )
    assert await told(2) == await told(0)


@pytest.mark.one_database
async def test_no_way_counts_less_than_nobody(engine: Engine) -> None:
    text = """
reentry: concurrent_by_key
key: vars.order
variables: {order: string}
steps:
  - {id: ab, kind: split, ways: {a: 50, b: 50}, by: %s, exits: {a: pause, b: pause}}
  - {id: pause, kind: wait, for: 9d}
"""
    await engine.publish(text % "contact")
    contact = await engine.contact("c@example.com")
    for order in ("1", "2"):
        async with engine.database.write(ORG) as tx:
            version = await engine.versions.load(tx, ORG, "w", 1)
            await engine.driver.enter(tx, ORG, version, [Entry(contact, "key_1", variables={"order": order})])
    await engine.publish(text % "enrollment")  # in which both count
    await _migrate(engine)

    async def drawn(version: int) -> list[int]:
        request = pb.GetWorkflowStatisticsRequest(workflow_id="w", version=version)
        told: pb.WorkflowStatistics = await call(engine, workflow_statistics.get_workflow_statistics, request)
        return [way.entered_count for way in told.splits[0].ways]

    assert await drawn(1) == [0, 0]
    assert sum(await drawn(2)) == 2
