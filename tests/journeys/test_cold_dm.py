"""The shipped cold-DM template, lived through with a real system that carries the messages, on both databases."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from standardwebhooks import Webhook

from core.templates import templates
from dripstone.v1 import (
    agent_pb2,
    connection_pb2,
    enrollment_pb2,
    event_pb2,
    record_pb2,
    webhook_pb2,
    workflow_pb2,
)
from dripstone.v1.client import Client
from tests.delivery.direct_messages import SECRET, TOKEN, Account, direct_messages
from tests.journeys.following import Story
from tests.receiver import Receiver
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

(TEMPLATE,) = (one for one in templates() if one.id == "cold-dm")
A_FEW = TEMPLATE.source.replace("per_day: 40", "per_day: 2")
HEADER = "x-drippi-signature"
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
CAMPAIGN = ["cold_dm.sent", "followup.sent", "reply.received", "automation.paused", "automation.out_of_leads"]


@pytest.fixture
async def client(core: RunningCore) -> AsyncIterator[Client]:
    async with core.client() as opened:
        await Story(opened).begin()
        yield opened


@pytest.fixture
async def account(core: RunningCore) -> AsyncIterator[Account]:
    async with direct_messages(core.clock) as running:
        yield running


async def _prospects(core: RunningCore, client: Client, *handles: str) -> dict[str, str]:
    """Make contacts with handles, put them on the list, and return their ids."""
    found = {}
    for handle in handles:
        core.clock.advance(timedelta(milliseconds=5))  # the pool takes them in this order
        email = f"{handle[1:]}@example.com"
        event = event_pb2.EventInput(event_type="action", event_name="prospect.found", source_id="app")
        event.person_id = handle
        event.fields.update({"email": email})
        await client.events.IngestEvent(event_pb2.IngestEventRequest(event=event))
        request = record_pb2.UpsertRecordRequest(type="contact")
        request.fields.update({"email": email, "first_name": handle[1:].title(), "custom": {"handle": handle}})
        found[handle] = (await client.records.UpsertRecord(request)).record.id
    await client.records.ChangeListMembers(
        record_pb2.ChangeListMembersRequest(list="dm-prospects", add_contact_ids=list(found.values()))
    )
    return found


async def _connect(client: Client, account: Account) -> str:
    connection = connection_pb2.Connection(display_name="DMs", channel="dm", daily_limit=50)
    connection.call.url = f"{account.base}/v1/people/{{{{ message.to }}}}/messages"
    connection.call.body = '{"text": "{{ message.text }}"}'
    connection.call.auth.bearer.token = TOKEN
    connection.result.message_id = "body.id"
    connection.result.error = "body.error.message"
    made = await client.connections.CreateConnection(connection_pb2.CreateConnectionRequest(connection=connection))
    assert made.call.auth.bearer.token == ""
    return made.id


async def _listen(client: Client, receiver: Receiver) -> str:
    request = webhook_pb2.CreateEndpointRequest(url=receiver.url, event_types=[*CAMPAIGN, "sales.dm_reply"])
    request.extra_signatures.add(format=webhook_pb2.SIGNATURE_FORMAT_SHA256_HEX, header=HEADER)
    return (await client.webhooks.CreateEndpoint(request)).secret


async def _replies_come_in(core: RunningCore, client: Client, account: Account) -> None:
    """Make the source that the other system's webhooks of replies come in by."""
    request = event_pb2.CreateSourceRequest(source_id="dm", display_name="DMs", kind=event_pb2.SOURCE_KIND_INBOUND)
    request.verifier.kind = event_pb2.VERIFIER_KIND_STANDARD_WEBHOOKS
    request.verifier.secrets.append(SECRET)
    mapping = request.mapping
    mapping.event_name, mapping.person_id, mapping.when = (
        '"reply.received"',
        "body.data.from",
        'body.type == "dm.received"',
    )
    mapping.fields.update({"channel": '"dm"', "text": "body.data.text", "message_id": "body.data.in_reply_to"})
    account.replies_to = core.http_url + (await client.events.CreateSource(request)).inbound_path


async def _enrollments(client: Client) -> dict[str, tuple[str, str]]:
    """Return state and reason of every enrollment, by contact."""
    answer = await client.enrollments.ListEnrollments(enrollment_pb2.ListEnrollmentsRequest(workflow_id="cold-dm"))
    return {
        one.contact_id: (enrollment_pb2.EnrollmentState.Name(one.state).split("_")[-1].lower(), one.step_id)
        for one in answer.enrollments
    }


def _told(receiver: Receiver, core: RunningCore, secret: str) -> list[tuple[str, str]]:
    """Return type and contact of what arrived, after checking each signature as receivers do."""
    told = []
    for arrived in receiver.received:
        signed_at = int(arrived.headers["webhook-timestamp"])
        expected = Webhook(secret).sign(
            arrived.headers["webhook-id"], core.clock.now().fromtimestamp(signed_at, core.clock.now().tzinfo),
            arrived.body.decode(),
        )  # fmt: skip
        assert arrived.headers["webhook-signature"] == expected
        digest = hmac.new(secret.encode(), arrived.body, hashlib.sha256).hexdigest()
        assert arrived.headers[HEADER] == f"sha256={digest}"
        body = arrived.json()
        told.append((body["type"], body["data"].get("contact_id", "")))
    return told


@pytest.mark.both_databases
async def test_a_campaign_from_the_pool_to_replies_and_until_nobody_is_left(
    core: RunningCore, client: Client, receiver: Receiver, account: Account
) -> None:
    account.people, account.per_minute = {"@ada", "@bob", "@cleo"}, 1
    await _connect(client, account)
    secret = await _listen(client, receiver)
    await _replies_come_in(core, client, account)
    who = await _prospects(core, client, "@ada", "@bob", "@cleo")
    ada, bob, cleo = who["@ada"], who["@bob"], who["@cleo"]
    await Story(client).publish("cold-dm", A_FEW)
    await core.settle()
    assert account.sent == []

    await core.pass_time(6 * HOUR)  # Monday, ten o'clock in New York: two a day
    await core.pass_time(timedelta(seconds=31))  # as the other system asked, which takes one a minute
    await core.pass_time(timedelta(seconds=30))
    assert {one.handle: one.text.split(",")[0] for one in account.sent} == {"@ada": "Hi Ada", "@bob": "Hi Bob"}
    assert 429 in account.refused
    assert sorted(_told(receiver, core, secret)) == [("cold_dm.sent", ada), ("cold_dm.sent", bob)]

    await core.pass_time(HOUR)
    assert await account.reply("@ada", "Tell me more") == 200
    await core.settle()
    (task,) = (await client.agents.ListAgentTasks(agent_pb2.ListAgentTasksRequest())).tasks
    async with core.client(core.agent_key) as agent:
        await agent.agents.ClaimAgentTask(agent_pb2.ClaimAgentTaskRequest(task_id=task.id))
        answer = agent_pb2.AnswerAgentTaskRequest(task_id=task.id)
        answer.output.update({"intent": "interested", "summary": "Wants a demo."})
        await agent.agents.AnswerAgentTask(answer)
    await core.settle()
    assert _told(receiver, core, secret)[2:] == [("reply.received", ada), ("sales.dm_reply", ada)]
    reply, handed_over = (arrived.json()["data"] for arrived in receiver.received[2:])
    assert (reply["channel"], handed_over["reply"], handed_over["summary"]) == ("dm", "Tell me more", "Wants a demo.")
    (first,) = (data for data in (one.json()["data"] for one in receiver.received[:2]) if data["contact_id"] == ada)
    assert [reply[name] for name in ("message_id", "enrollment_id", "workflow_id")] == [
        first[name] for name in ("message_id", "enrollment_id", "workflow_id")
    ]

    await core.pass_time(DAY)  # Tuesday: the last one
    assert _told(receiver, core, secret)[4:] == [("cold_dm.sent", cleo)]
    for _ in range(2):  # Wednesday and Thursday: nobody, which is said once; bob gets his follow-up
        await core.pass_time(DAY)
    assert _told(receiver, core, secret)[5:] == [("automation.out_of_leads", ""), ("followup.sent", bob)]

    await Story(client).event("reply.received", "bob@example.com", channel="email", text="Please call")
    await core.settle()
    told = _told(receiver, core, secret)[7:]
    assert told == [("reply.received", bob)]
    standing = await _enrollments(client)
    assert (standing[ada][0], standing[bob][0]) == ("completed", "exited")

    for _ in range(40):
        await core.pass_time(DAY)
        await core.pass_time(timedelta(minutes=2))
    assert _told(receiver, core, secret)[8:] == [("followup.sent", cleo)] * 2
    assert (await _enrollments(client))[cleo] == ("exited", "no_answer")
    assert [one.handle for one in account.sent[2:]] == ["@cleo", "@bob", "@cleo", "@cleo"]
    keys = [request.headers["idempotency-key"] for request in account.requests]
    assert len(set(keys)) == len(account.sent)

    account.people.add("@dora")
    (dora,) = (await _prospects(core, client, "@dora")).values()  # it goes on, and says once more when it is over
    for _ in range(7):
        await core.pass_time(DAY)
    again = _told(receiver, core, secret)[10:]
    assert (again[0], again.count(("automation.out_of_leads", ""))) == (("cold_dm.sent", dora), 1)


async def test_a_blocked_account_pauses_the_campaign_and_loses_nobody(
    core: RunningCore, client: Client, receiver: Receiver, account: Account
) -> None:
    handles = [f"@p{number:02}" for number in range(30)]
    account.people = set(handles)
    connection_id = await _connect(client, account)
    secret = await _listen(client, receiver)
    await _prospects(core, client, *handles)
    wrong = connection_pb2.Connection(id=connection_id)
    wrong.call.url = f"{account.base}/v1/people/{{{{ message.to }}}}/messages"
    wrong.call.body = '{"text": "{{ message.text }}"}'
    wrong.call.auth.bearer.token = "blocked"
    await client.connections.UpdateConnection(connection_pb2.UpdateConnectionRequest(connection=wrong))
    await Story(client).publish("cold-dm", TEMPLATE.source)
    await core.pass_time(6 * HOUR)
    for _ in range(30):
        await core.pass_time(timedelta(seconds=2))
    assert [type for type, _ in _told(receiver, core, secret)] == ["automation.paused"]
    assert "step outcomes failed" in receiver.received[0].json()["data"]["reason"]
    workflow = await client.workflows.GetWorkflow(workflow_pb2.GetWorkflowRequest(workflow_id="cold-dm"))
    assert workflow.state == workflow_pb2.WORKFLOW_STATE_PAUSED
    assert len(await _enrollments(client)) == 30
