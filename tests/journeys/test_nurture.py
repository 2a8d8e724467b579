"""Whole stories on a hand-turned clock, through the public surfaces, on both databases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from standardwebhooks import Webhook

from dripstone.v1 import enrollment_pb2 as pb
from dripstone.v1 import event_pb2, record_pb2, webhook_pb2, workflow_pb2
from dripstone.v1.client import Client
from tests.receiver import Receiver, receiving
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

SOURCE = """
title: Trial nurture
triggers:
  - event: trial.started
    when: event.fields.plan == "pro"
steps:
  - id: by_size
    kind: branch
    cases:
      - {name: big, when: contact.employees >= 100}
    exits: {big: tell_sales, else: two_days}
  - id: tell_sales
    kind: webhook
    event_type: trial.big
    data: {email: "{{ contact.email }}", plan: "{{ event.fields.plan }}"}
    next: done
  - {id: two_days, kind: wait, for: 2d}
  - id: activated
    kind: wait_for_event
    event: trial.activated
    timeout: 3d
    exits: {matched: happy, timeout: sleepy}
  - {id: happy, kind: update, set: {lifecycle_stage: customer}, next: done}
  - {id: sleepy, kind: update, set: {lifecycle_stage: sleepy}, next: done}
  - {id: done, kind: exit, reason: told}
"""


@pytest.fixture
async def client(core: RunningCore) -> AsyncIterator[Client]:
    async with core.client() as opened:
        await opened.events.CreateSource(
            event_pb2.CreateSourceRequest(source_id="app", display_name="App", kind=event_pb2.SOURCE_KIND_WEBHOOK)
        )
        await opened.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="trial", source=SOURCE, publish=True)
        )
        yield opened


async def _event(client: Client, name: str, **fields: object) -> event_pb2.IngestResult:
    event = event_pb2.EventInput(event_type="action", event_name=name, source_id="app")
    event.fields.update(fields)
    return await client.events.IngestEvent(event_pb2.IngestEventRequest(event=event))


async def _only(client: Client) -> pb.Enrollment:
    listed = await client.enrollments.ListEnrollments(pb.ListEnrollmentsRequest(workflow_id="trial"))
    (one,) = listed.enrollments
    return one


async def _stage(client: Client, contact_id: str) -> str:
    record = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=contact_id))
    return record.fields.fields["lifecycle_stage"].string_value


async def _path(client: Client, enrollment_id: str) -> list[tuple[str, str]]:
    trace = await client.enrollments.ListTraceEntries(pb.ListTraceEntriesRequest(enrollment_id=enrollment_id))
    return [(entry.step_id, entry.outcome) for entry in trace.entries]


async def test_an_event_starts_a_workflow_only_where_its_condition_holds(core: RunningCore, client: Client) -> None:
    await _event(client, "trial.started", email="free@example.com", plan="free")
    await _event(client, "trial.started", email="pro@example.com", plan="pro")
    await core.settle()
    one = await _only(client)
    contact = await client.records.GetRecord(record_pb2.GetRecordRequest(record_id=one.contact_id))
    assert contact.fields.fields["email"].string_value == "pro@example.com"


async def test_a_wait_ends_at_its_due_time_and_an_event_in_time_wins(core: RunningCore, client: Client) -> None:
    await _event(client, "trial.started", email="pro@example.com", plan="pro")
    await core.settle()
    await core.pass_time(timedelta(days=2) - timedelta(seconds=1))
    assert (await _only(client)).step_id == "two_days"
    await core.pass_time(timedelta(seconds=1))
    waiting = await _only(client)
    assert (waiting.step_id, waiting.waiting.kind, waiting.waiting.subject) == ("activated", "event", "trial.activated")
    await _event(client, "trial.activated", email="pro@example.com")
    await core.settle()
    over = await _only(client)
    assert over.state == pb.ENROLLMENT_STATE_EXITED
    assert await _stage(client, over.contact_id) == "customer"


async def test_an_event_received_in_time_wins_although_the_timeout_is_handled_first(
    core: RunningCore, client: Client
) -> None:
    await _event(client, "trial.started", email="pro@example.com", plan="pro")
    await core.settle()
    await core.pass_time(timedelta(days=2))
    await _event(client, "trial.activated", email="pro@example.com")  # stored, not matched: the matcher is behind
    core.clock.advance(timedelta(days=3))
    await core.core.ticker.turn()
    over = await _only(client)
    assert await _stage(client, over.contact_id) == "customer"


async def test_without_an_event_the_timeout_decides_and_the_trace_says_so(core: RunningCore, client: Client) -> None:
    await _event(client, "trial.started", email="pro@example.com", plan="pro")
    await core.settle()
    await core.pass_time(timedelta(days=2))
    await core.pass_time(timedelta(days=3))
    over = await _only(client)
    assert await _stage(client, over.contact_id) == "sleepy"
    steps = [step for step, _ in await _path(client, over.id) if step]
    assert [s for n, s in enumerate(steps) if n == 0 or steps[n - 1] != s] == [
        "by_size",
        "two_days",
        "activated",
        "sleepy",
        "done",
    ]


async def test_a_webhook_arrives_signed_and_survives_a_failing_receiver(
    core: RunningCore, client: Client, receiver: Receiver
) -> None:
    endpoint = await client.webhooks.CreateEndpoint(
        webhook_pb2.CreateEndpointRequest(
            url=receiver.url, event_types=["trial.big"], retry_preset=webhook_pb2.RETRY_PRESET_QUICK
        )
    )
    url = receiver.url
    await receiver.stop()  # nobody is there yet
    await _event(client, "trial.started", email="big@example.com", plan="pro", employees=500)
    await core.settle()
    (failing,) = (await client.webhooks.ListDeliveries(webhook_pb2.ListDeliveriesRequest())).deliveries
    assert (failing.state, failing.attempt_count) == (webhook_pb2.DELIVERY_STATE_PENDING, 1)
    async with receiving() as replacement:
        await client.webhooks.UpdateEndpoint(
            webhook_pb2.UpdateEndpointRequest(
                endpoint=webhook_pb2.Endpoint(id=endpoint.endpoint.id, url=replacement.url)
            )
        )
        await core.pass_time(timedelta(minutes=1))
    (arrived,) = replacement.received
    headers = arrived.headers
    assert url != replacement.url
    assert headers["webhook-id"] == failing.message_id
    # The public library's own signature at the hand-turned instant: its check would compare with the machine's clock.
    signed = Webhook(endpoint.secret).sign(headers["webhook-id"], core.clock.now(), arrived.body.decode())
    assert headers["webhook-signature"] == signed
    assert arrived.json()["data"] == {"email": "big@example.com", "plan": "pro"}


async def test_a_cancelled_enrollment_stays_where_it_is(core: RunningCore, client: Client) -> None:
    await _event(client, "trial.started", email="pro@example.com", plan="pro")
    await core.settle()
    one = await _only(client)
    cancelled = await client.enrollments.CancelEnrollment(
        pb.CancelEnrollmentRequest(enrollment_id=one.id, reason="changed my mind")
    )
    assert cancelled.state == pb.ENROLLMENT_STATE_CANCELLED
    before = await _path(client, one.id)
    await core.pass_time(timedelta(days=30))
    assert await _path(client, one.id) == before
