"""Pausing and resuming by calls: what a preview tells, and that resuming does just that."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from core.domain.explain import explain
from core.rpc.workflows import pausing
from core.store.workflows import enrollments, schedules
from dripstone.v1 import workflow_pb2 as pb
from tests.engine.parts import ORG
from tests.engine.parts import Parts as Engine
from tests.rpc.workflow_calls import call, enroll

pytestmark = pytest.mark.anyio

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
SLOTTED = """
triggers:
  - {schedule: {cron: "0 9 * * tue"}, audience: {filter: "country = DE"}}
  - {pool: {per_day: 2, at: "09:00"}, audience: {filter: "country = DE"}}
steps:
  - {id: pause, kind: wait, for: 1d, at: "09:00"}
  - {id: rest, kind: wait, for: 9d}
"""


async def _resume(engine: Engine, policy: str, preview: bool = False) -> pb.ResumeWorkflowResponse:
    number = pb.ResumePolicy.Value(f"RESUME_POLICY_{policy}")
    request = pb.ResumeWorkflowRequest(workflow_id="w", policy=number, validate_only=preview)
    told: pb.ResumeWorkflowResponse = await call(engine, pausing.resume_workflow, request)
    return told


def _missed(told: pb.ResumeWorkflowResponse) -> list[tuple[int, str, int, int, datetime]]:
    return [
        (one.trigger, one.kind, one.count, one.contact_count, one.next_time.ToDatetime(tzinfo=UTC))
        for one in told.missed_firings
    ]


async def test_a_shifted_time_of_day_is_kept_and_told(engine: Engine) -> None:
    await engine.publish(SLOTTED)  # it is Monday, 10:00 in Berlin
    await enroll(engine)
    await engine.contacts(3, country="DE")
    await call(engine, pausing.pause_workflow, pb.PauseWorkflowRequest(workflow_id="w"))
    await engine.pass_time(DAY)
    await engine.pass_time(4 * HOUR)

    # 28 hours later it is Wednesday, 13:00: the weekly one goes to the 09:00 after that, the daily one comes before it.
    on_wednesday, on_thursday = (datetime(2026, 3, day, 8, tzinfo=UTC) for day in (4, 5))
    a_week_later = datetime(2026, 3, 10, 8, tzinfo=UTC)
    for policy, weekly, daily in (
        ("RUN_OVERDUE", None, None),
        ("SHIFT", on_thursday, on_wednesday),
        ("SKIP_OVERDUE", a_week_later, on_wednesday),
    ):
        told = await _resume(engine, policy, preview=True)
        now = engine.clock.now()
        assert _missed(told) == [(0, "schedule", 1, 3, weekly or now), (1, "pool", 1, 2, daily or now)]
        assert told.slotted_count == told.shifted_count == (policy == "SHIFT")

    preview = await _resume(engine, "SHIFT", preview=True)
    done = await _resume(engine, "SHIFT")
    assert (_missed(done), done.slotted_count) == (_missed(preview), 1)
    await engine.settle()
    (ada,) = await engine.enrolled()
    assert ada.due_at is not None
    assert ada.shifted == DAY + 4 * HOUR + timedelta(milliseconds=ada.shifted.microseconds / 1_000)
    async with engine.database.read(ORG) as tx:
        version = await engine.versions.load(tx, ORG, "w", 1)
        why, following = explain(version, ada, await enrollments.trace(tx, ada.id))
        standing = await schedules.standing(tx, "w")
    assert why.endswith("Its timer has been moved by 1 day 4 hours, to 2026-03-04 12:00 UTC: the workflow was paused.")
    assert following == "From 2026-03-04 12:00 UTC on it waits for 09:00, then it goes on to rest."
    assert {one.missed for one in standing.values()} == {None}

    await engine.pass_time(ada.due_at - engine.clock.now())
    there = {one.id: one for one in await engine.enrolled()}
    assert (there[ada.id].step_id, there[ada.id].due_at) == (
        "pause",
        ada.due_at.replace(day=5, hour=8, minute=0, second=0, microsecond=0),
    )
    assert len(there) == 3  # the pool has taken two
    await engine.pass_time(DAY)
    assert {one.id: one.step_id for one in await engine.enrolled()}[ada.id] == "rest"


async def test_an_event_that_moves_nobody_lets_nothing_overdue_go_out(engine: Engine) -> None:
    await engine.publish("""
goals: [{name: big, event: bought, when: event.fields.amount > 100}]
steps:
  - {id: nap, kind: wait_for_event, event: replied, timeout: 1d, exits: {matched: told, timeout: told}}
  - {id: told, kind: webhook, event_type: told.hello}
  - {id: rest, kind: wait, for: 9d}
""")
    for _ in range(3):
        await enroll(engine)
    await call(engine, pausing.pause_workflow, pb.PauseWorkflowRequest(workflow_id="w"))
    await engine.send("replied", "c0@example.com")  # in time
    await engine.pass_time(2 * DAY)
    await engine.send("bought", "c1@example.com", amount=1)
    await engine.settle()
    assert (await _resume(engine, "SKIP_OVERDUE")).released_count == 3
    await engine.settle()
    assert [one.step_id for one in await engine.enrolled()] == ["rest"] * 3
    assert await engine.told("told.hello") == 1, "to the one that was answered in time"
