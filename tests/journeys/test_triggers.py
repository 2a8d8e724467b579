"""Whatever can start a workflow does, through the public surface: webhooks, records, segments, schedules, pools."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from dripstone.v1 import enrollment_pb2 as pb
from dripstone.v1 import record_pb2, workflow_pb2
from tests.journeys.following import Story
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

DAY = timedelta(days=1)
ONBOARDING = """
title: Onboarding
variables: {plan: string}
reentry: concurrent_by_key
key: event.fields.order_id
entry:
  when: contact.country == "DE"
  suppress_lists: [customers]
triggers:
  - {source: app, event: order.placed, when: event.fields.total > 10}
exit_on:
  - {name: refunded, event: order.refunded}
goals:
  - {name: customer, when: contact.lifecycle_stage == "customer"}
steps:
  - id: wait
    kind: wait_for_event
    event: order.shipped
    match: {order_id: {cel: event.fields.order_id}}
    timeout: 30d
  - {id: thank, kind: update, set: {lifecycle_stage: engaged}}
  - {id: hold, kind: wait, for: 30d}
"""
FOLLOWING = """
title: After onboarding
triggers:
  - {record: contact, fields: [lifecycle_stage], when: 'contact.lifecycle_stage == "engaged"'}
  - {segment: '"beta" in contact.lists'}
steps: [{id: hold, kind: wait, for: 30d}]
"""
WEEKLY = """
title: Weekly
reentry: after_exit
timezone: Europe/Berlin
triggers:
  - {schedule: {cron: "0 9 * * tue"}, audience: {filter: 'country = "DE"'}}
steps: [{id: note, kind: log, message: hello}]
"""
POOL = """
title: Outreach
triggers:
  - {pool: {per_day: 2, at: "09:00"}, audience: {list: prospects}}
steps: [{id: hold, kind: wait, for: 90d}]
"""


@pytest.fixture
async def story(core: RunningCore) -> AsyncIterator[Story]:
    async with core.client() as client:
        told = Story(client)
        await told.begin()
        yield told


async def _contact(story: Story, email: str, **fields: str) -> str:
    request = record_pb2.UpsertRecordRequest(type="contact")
    request.fields.update({"email": email, **fields})
    return (await story.client.records.UpsertRecord(request)).record.id


async def _list(story: Story, name: str, *contacts: str) -> None:
    request = record_pb2.ChangeListMembersRequest(list=name, add_contact_ids=contacts)
    await story.client.records.ChangeListMembers(request)


async def _in(story: Story, workflow_id: str) -> list[tuple[str, str, str]]:
    """Return contact, key and state of everybody in a workflow."""
    request = pb.ListEnrollmentsRequest(filter=f'workflow_id = "{workflow_id}"')
    found = (await story.client.enrollments.ListEnrollments(request)).enrollments
    states = {one.id: pb.EnrollmentState.Name(one.state).removeprefix("ENROLLMENT_STATE_").lower() for one in found}
    return sorted((one.contact_id, one.key, states[one.id]) for one in found)


async def _why_not(story: Story, workflow_id: str, contact_id: str) -> pb.WhyNotResponse:
    return await story.client.enrollments.WhyNot(pb.WhyNotRequest(workflow_id=workflow_id, contact_id=contact_id))


async def test_an_inbound_webhook_starts_one_run_for_each_order(core: RunningCore, story: Story) -> None:
    await story.publish("onboarding", ONBOARDING)
    await story.publish("following", FOLLOWING)
    ada = await _contact(story, "ada@example.com", country="DE")
    eve = await _contact(story, "eve@example.com", country="US")
    for email, order, total in (
        ("ada@example.com", 1, 5),
        ("ada@example.com", 2, 50),
        ("ada@example.com", 3, 60),
        ("eve@example.com", 4, 70),
    ):
        await story.event("order.placed", email, order_id=order, total=total)
    await core.settle()
    assert await _in(story, "onboarding") == [(ada, "2", "active"), (ada, "3", "active")]
    refused = await _why_not(story, "onboarding", eve)
    assert "contact.country is US" in refused.why
    await core.pass_time(DAY)
    await story.event("order.shipped", "warehouse@example.com", order_id=3)  # somebody else's event, about her order
    await core.settle()
    assert [one[0] for one in await _in(story, "following")] == [ada]
    await core.pass_time(DAY)
    await story.event("order.refunded", "ada@example.com")
    await core.settle()
    assert await _in(story, "onboarding") == [(ada, "2", "exited"), (ada, "3", "exited")]


async def test_a_goal_reached_by_a_change_of_the_record_ends_the_run(core: RunningCore, story: Story) -> None:
    await story.publish("onboarding", ONBOARDING)
    ada = await _contact(story, "ada@example.com", country="DE")
    await story.event("order.placed", "ada@example.com", order_id=1, total=20)
    await core.settle()
    await _contact(story, "ada@example.com", lifecycle_stage="customer")
    await core.settle()
    assert await _in(story, "onboarding") == [(ada, "1", "completed")]
    await story.event("order.placed", "ada@example.com", order_id=2, total=20)
    await core.settle()
    assert len(await _in(story, "onboarding")) == 1
    assert (await _why_not(story, "onboarding", ada)).why.startswith("The goal customer: ")


@pytest.mark.both_databases
async def test_a_list_starts_whoever_joins_it(core: RunningCore, story: Story) -> None:
    await story.publish("following", FOLLOWING)
    ada, bob = await _contact(story, "ada@example.com"), await _contact(story, "bob@example.com")
    await _list(story, "news", bob)
    await _list(story, "beta", ada)
    await core.settle()
    assert [one[0] for one in await _in(story, "following")] == [ada]


async def test_a_schedule_comes_round_every_week_and_skips_a_pause(core: RunningCore, story: Story) -> None:
    await story.publish("weekly", WEEKLY)
    await _contact(story, "ada@example.com", country="DE")
    await _contact(story, "eve@example.com", country="US")
    counts = []
    for week in range(4):
        if week == 2:
            await story.client.workflows.PauseWorkflow(workflow_pb2.PauseWorkflowRequest(workflow_id="weekly"))
        if week == 3:
            policy = workflow_pb2.RESUME_POLICY_RUN_OVERDUE
            await story.client.workflows.ResumeWorkflow(
                workflow_pb2.ResumeWorkflowRequest(workflow_id="weekly", policy=policy)
            )
        await core.pass_time(7 * DAY)
        counts.append(len(await _in(story, "weekly")))
    assert counts == [1, 2, 2, 3]


@pytest.mark.both_databases
async def test_a_pool_takes_two_a_day_until_it_is_empty(core: RunningCore, story: Story) -> None:
    people = [await _contact(story, f"c{number}@example.com") for number in range(3)]
    await _list(story, "prospects", *people)
    await story.publish("outreach", POOL)
    counts = []
    for _ in range(3):
        await core.pass_time(DAY)
        counts.append(len(await _in(story, "outreach")))
    assert counts == [2, 3, 3]
    assert sorted(one[0] for one in await _in(story, "outreach")) == sorted(people)
