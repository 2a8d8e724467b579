"""Holding workflows, letting them go on, repairing what failed, moving who runs: through the public surface."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from datetime import timedelta

import grpc
import pytest

from dripstone.v1 import enrollment_pb2 as pb
from dripstone.v1 import webhook_pb2, workflow_pb2
from dripstone.v1.client import ApiError
from tests.journeys.following import Story
from tests.receiver import Receiver
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

NURTURE = """
title: Nurture
steps:
  - {id: pause, kind: wait, for: 2d}
  - {id: tell, kind: webhook, event_type: nurture.told, data: {email: "{{ contact.email }}"}}
  - {id: reply, kind: wait_for_event, event: reply.received, timeout: 3d, exits: {timeout: silent}}
  - {id: happy, kind: log, message: replied, next: end}
  - {id: silent, kind: log, message: silence}
"""
FAILING = """
title: Fragile
circuit_breaker: {percent: 50, of_last: 10}
steps:
  - {id: pause, kind: wait, for: 1h}
  - {id: agree, kind: update, set: {employees: "{{ contact.job_title }}"}}
  - {id: done, kind: log, message: done}
"""


@pytest.fixture
async def story(core: RunningCore) -> AsyncIterator[Story]:
    async with core.client() as client:
        told = Story(client)
        await told.begin()
        yield told


async def _pause(story: Story, workflow_id: str) -> workflow_pb2.Workflow:
    request = workflow_pb2.PauseWorkflowRequest(workflow_id=workflow_id, reason="the copy is wrong")
    return await story.client.workflows.PauseWorkflow(request)


async def _resume(
    story: Story, workflow_id: str, policy: str, *, dry: bool = False
) -> workflow_pb2.ResumeWorkflowResponse:
    return await story.client.workflows.ResumeWorkflow(
        workflow_pb2.ResumeWorkflowRequest(
            workflow_id=workflow_id,
            policy=workflow_pb2.ResumePolicy.Value(f"RESUME_POLICY_{policy}"),
            validate_only=dry,
        )
    )


def _types(receiver: Receiver) -> list[str]:
    return [json.loads(one.body)["type"] for one in receiver.received]


async def _sent(core: RunningCore, story: Story, receiver: Receiver) -> None:
    await story.client.webhooks.CreateEndpoint(
        webhook_pb2.CreateEndpointRequest(url=receiver.url, event_types=["nurture.told", "automation.paused"])
    )


async def test_while_a_workflow_is_paused_nobody_moves_and_nothing_is_sent(
    core: RunningCore, story: Story, receiver: Receiver
) -> None:
    await _sent(core, story, receiver)
    await story.publish("nurture", NURTURE)
    (ada,) = await story.enroll("nurture", "ada@example.com")
    await core.pass_time(timedelta(days=1))
    paused = await _pause(story, "nurture")
    assert (paused.state, paused.pause_reason) == (workflow_pb2.WORKFLOW_STATE_PAUSED, "the copy is wrong")
    (bob,) = await story.enroll("nurture", "bob@example.com")  # who comes meanwhile is taken in, and waits
    await core.pass_time(timedelta(days=30))
    assert await story.where(ada) == ("active", "pause")
    assert await story.where(bob) == ("active", "pause")
    assert _types(receiver) == ["automation.paused"]

    resumed = await _resume(story, "nurture", "RUN_OVERDUE")
    assert resumed.released_count == 2
    await core.settle()
    assert await story.where(ada) == ("active", "reply")
    assert await story.where(bob) == ("active", "pause")  # its wait begins now
    assert _types(receiver) == ["automation.paused", "nurture.told"]


@pytest.mark.both_databases
async def test_what_happens_during_a_pause_counts_when_it_is_over(core: RunningCore, story: Story) -> None:
    await story.publish("nurture", NURTURE)
    (ada,) = await story.enroll("nurture", "ada@example.com")
    await core.pass_time(timedelta(days=2))
    assert await story.where(ada) == ("active", "reply")
    await _pause(story, "nurture")
    await story.event("reply.received", "ada@example.com", text="yes")
    await core.pass_time(timedelta(days=10))  # the timeout of three days has gone by as well
    assert await story.where(ada) == ("active", "reply")
    preview = await _resume(story, "nurture", "RUN_OVERDUE", dry=True)
    assert [(one.step_id, one.overdue_count, one.kept_count, one.waiting_count) for one in preview.steps] == [
        ("reply", 0, 1, 0)
    ]
    assert await story.where(ada) == ("active", "reply")  # a preview changes nothing
    await _resume(story, "nurture", "RUN_OVERDUE")
    await core.settle()
    assert await story.where(ada) == ("completed", "happy")


async def test_a_preview_lists_steps_in_the_order_of_the_document(core: RunningCore, story: Story) -> None:
    first, last = "{id: zero, kind: wait, for: 1d}", "{id: alpha, kind: wait, for: 1d}"
    await story.publish("short", f"title: Short\nsteps:\n  - {first}\n  - {{id: later, kind: wait, for: 9d}}\n")
    await story.enroll("short", "old@example.com")
    await core.pass_time(timedelta(days=1))  # stands at a step that the next version has no more
    await story.publish("short", f"title: Short\nsteps:\n  - {first}\n  - {last}\n")
    await story.enroll("short", "ada@example.com")
    await core.pass_time(timedelta(days=1))
    await story.enroll("short", "bob@example.com")
    await _pause(story, "short")
    preview = await _resume(story, "short", "RUN_OVERDUE", dry=True)
    assert [one.step_id for one in preview.steps] == ["zero", "alpha", "later"]


@pytest.mark.parametrize(
    ("policy", "at_once", "a_day_later", "told"),
    [
        ("RUN_OVERDUE", "reply", "reply", 1),
        ("SHIFT", "pause", "reply", 1),
        ("SKIP_OVERDUE", "reply", "reply", 0),
    ],
)
async def test_a_policy_says_what_becomes_of_overdue_timers(
    core: RunningCore, story: Story, receiver: Receiver, policy: str, at_once: str, a_day_later: str, told: int
) -> None:
    await _sent(core, story, receiver)
    await story.publish("nurture", NURTURE)
    (ada,) = await story.enroll("nurture", "ada@example.com")
    await core.pass_time(timedelta(days=1))
    await _pause(story, "nurture")
    await core.pass_time(timedelta(days=7))
    await _resume(story, "nurture", policy)
    await core.settle()
    assert await story.where(ada) == ("active", at_once)
    await core.pass_time(timedelta(days=1))
    assert await story.where(ada) == ("active", a_day_later)
    assert _types(receiver).count("nurture.told") == told
    if policy == "SKIP_OVERDUE":
        assert ("tell", "skipped") in await story.trace(ada)


async def test_a_workflow_pauses_itself_when_too_much_fails_and_loses_nobody(
    core: RunningCore, story: Story, receiver: Receiver
) -> None:
    await _sent(core, story, receiver)
    await story.publish("fragile", FAILING)
    emails = [f"c{number:02}@example.com" for number in range(12)]
    ids = await story.enroll("fragile", *emails, job_title="not a number")
    late = await story.enroll("fragile", "late@example.com", employees=1)
    await core.pass_time(timedelta(minutes=59))
    await core.pass_time(timedelta(minutes=1))
    workflow = await story.client.workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id="fragile"))
    assert workflow.state == workflow_pb2.WORKFLOW_STATE_PAUSED
    assert "step outcomes failed" in workflow.pause_reason
    assert "automation.paused" in _types(receiver)
    letters = await story.client.enrollments.ListDeadLetters(
        pb.ListDeadLettersRequest(workflow_id="fragile", filter='state = "open"')
    )
    assert {letter.step_id for letter in letters.dead_letters} == {"agree"}
    states = [await story.where(one) for one in [*ids, *late]]
    assert {state for state, _ in states} <= {"failed", "active", "completed"}


async def test_a_failed_step_is_repaired_and_tried_again(core: RunningCore, story: Story) -> None:
    await story.publish("fragile", FAILING)
    (ada,) = await story.enroll("fragile", "ada@example.com", job_title="many")
    await core.pass_time(timedelta(hours=1))
    assert await story.where(ada) == ("failed", "agree")
    (letter,) = (await story.client.enrollments.ListDeadLetters(pb.ListDeadLettersRequest())).dead_letters
    assert (letter.enrollment_id, letter.step_id, letter.state, letter.attempts) == (ada, "agree", "open", 1)

    async def redrive(**request: object) -> pb.RedriveDeadLettersResponse:
        return await story.client.enrollments.RedriveDeadLetters(pb.RedriveDeadLettersRequest(**request))

    again = await redrive(dead_letter_ids=[letter.id])  # nothing was repaired: it fails again, with a new letter
    assert (again.redriven_count, again.results[0].state) == (1, pb.ENROLLMENT_STATE_FAILED)
    assert again.results[0].new_dead_letter_id not in ("", letter.id)
    assert again.results[0].failure == letter.reason
    refused = await redrive(dead_letter_ids=[letter.id, "dl_nobody"])
    assert [result.reason for result in refused.results] == ["ALREADY_REDRIVEN", "NOT_FOUND"]

    contact = (await story.client.enrollments.GetEnrollment(pb.GetEnrollmentRequest(enrollment_id=ada))).contact_id
    await _set_job_title(story, contact, "120")
    repaired = await redrive(workflow_id="fragile", filter='failure != ""')
    assert (repaired.redriven_count, repaired.remaining_count) == (1, 0)
    assert await story.where(ada) == ("completed", "done")


async def _set_job_title(story: Story, contact_id: str, title: str) -> None:
    from dripstone.v1 import record_pb2

    request = record_pb2.UpdateRecordRequest(record_id=contact_id, update_mask={"paths": ["job_title"]})
    request.fields.update({"job_title": title})
    await story.client.records.UpdateRecord(request)


LONGER = NURTURE.replace("for: 2d", "for: 5d").replace("{id: happy, kind: log", "{id: glad, kind: log")


@pytest.mark.both_databases
async def test_running_enrollments_move_to_a_new_version_as_planned(core: RunningCore, story: Story) -> None:
    await story.publish("nurture", NURTURE)
    (ada,) = await story.enroll("nurture", "ada@example.com")
    await core.pass_time(timedelta(days=2))
    (bob,) = await story.enroll("nurture", "bob@example.com")
    assert await story.publish("nurture", LONGER) == 2
    plan = await story.client.workflows.PlanMigration(workflow_pb2.PlanMigrationRequest(workflow_id="nurture"))
    assert (plan.moving_count, plan.staying_count, plan.to_version) == (2, 0, 2)
    assert {(one.from_step_id, one.to_step_id, one.wait, one.count) for one in plan.moves} == {
        ("reply", "reply", workflow_pb2.WAIT_POLICY_KEEP, 1),
        ("pause", "pause", workflow_pb2.WAIT_POLICY_RECOMPUTE, 1),
    }
    await core.pass_time(timedelta(hours=12))
    apply = workflow_pb2.ApplyMigrationRequest(plan_id=plan.plan_id, hash=plan.hash)
    applied = await story.client.workflows.ApplyMigration(apply)
    assert applied.moving_count == 2
    for one in (ada, bob):
        moved = await story.client.enrollments.GetEnrollment(pb.GetEnrollmentRequest(enrollment_id=one))
        assert moved.version == 2
    await story.event("reply.received", "ada@example.com")
    await core.settle()
    assert await story.where(ada) == ("completed", "glad")  # the way of the new version
    await core.pass_time(timedelta(hours=36))
    assert await story.where(bob) == ("active", "pause")  # five days now, from when the wait began
    await core.pass_time(timedelta(days=3))
    assert await story.where(bob) == ("active", "reply")


async def test_a_plan_is_stale_once_anybody_has_moved(core: RunningCore, story: Story) -> None:
    await story.publish("nurture", NURTURE)
    (ada,) = await story.enroll("nurture", "ada@example.com")
    await story.publish("nurture", LONGER)
    plan = await story.client.workflows.PlanMigration(workflow_pb2.PlanMigrationRequest(workflow_id="nurture"))
    await core.pass_time(timedelta(days=2))
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await story.client.workflows.ApplyMigration(
            workflow_pb2.ApplyMigrationRequest(plan_id=plan.plan_id, hash=plan.hash)
        )
    assert ApiError.of(refused.value).reason == "PLAN_STALE"
    moved = await story.client.enrollments.GetEnrollment(pb.GetEnrollmentRequest(enrollment_id=ada))
    assert moved.version == 1


SPLIT = """
title: Split
steps:
  - {id: ab, kind: split, ways: {a: 50, b: 50}, exits: {a: ask, b: ask}}
  - {id: ask, kind: wait_for_event, event: reply.received, timeout: 1d, exits: {timeout: end}}
  - {id: won, kind: goal, name: replied}
"""


@pytest.mark.both_databases
async def test_statistics_tell_how_contacts_went_through(core: RunningCore, story: Story) -> None:
    await story.publish("split", SPLIT)
    emails = [f"c{number:02}@example.com" for number in range(20)]
    await story.enroll("split", *emails)
    for email in emails[:5]:
        await story.event("reply.received", email)
    await core.settle()
    request = workflow_pb2.GetWorkflowStatisticsRequest(workflow_id="split")
    told = await story.client.workflows.GetWorkflowStatistics(request)
    assert (told.entered_count, dict(told.states), dict(told.goals)) == (
        20, {"active": 15, "completed": 5}, {"replied": 5},
    )  # fmt: skip
    by_step = {one.step_id: one for one in told.steps}
    assert by_step["ask"].standing_count == 15
    assert dict(by_step["ask"].exits) == {"matched": 5}
    (split,) = told.splits
    assert sum(way.entered_count for way in split.ways) == 20
    assert sum(way.converted_count for way in split.ways) == 5
    assert all(way.rate_low <= way.rate <= way.rate_high for way in split.ways)
    before = told.SerializeToString(deterministic=True)
    async with core.core.database.system() as tx:
        from core.store.workflows import statistics

        assert await statistics.fold(tx, kept=0) == 1
    told = await story.client.workflows.GetWorkflowStatistics(request)
    assert told.SerializeToString(deterministic=True) == before  # folding changes no figure
    await core.pass_time(timedelta(days=1))
    told = await story.client.workflows.GetWorkflowStatistics(request)
    assert dict(told.states) == {"completed": 20}
    ask = next(one for one in told.steps if one.step_id == "ask")
    assert (ask.standing_count, ask.mean_seconds) == (0, 15 * 86_400 / 20)
