"""Connections through the API: what is refused and where, what is never shown, and what a test call tells."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import httpx2
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from sqlalchemy import text

from core import ids
from core.domain.workflow import templates
from core.rpc.connections import connection_messages
from core.store.organizations import organizations
from core.store.systems import connections
from core.store.systems.connections import ConnectionState
from dripstone.v1 import connection_pb2 as pb
from dripstone.v1 import enrollment_pb2, options_pb2, record_pb2
from dripstone.v1.client import ApiError, Client
from tests.delivery.direct_messages import TOKEN, Account, direct_messages
from tests.journeys.following import Story
from tests.running import RunningCore

pytestmark = pytest.mark.anyio
_WAITING = text("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


@contextmanager
def refused(reason: str) -> Iterator[None]:
    with pytest.raises(grpc.RpcError) as error:
        yield
    details = dict(error.value.trailing_metadata())["grpc-status-details-bin"]  # type: ignore[attr-defined]
    assert reason.encode() in details


WRITE = "steps: [{id: dm, kind: message, channel: dm, to: '@{{ contact.first_name }}', text: 'Hi'}]"


@pytest.fixture
async def account(core: RunningCore) -> AsyncIterator[Account]:
    async with direct_messages(core.clock) as running:
        running.people = {"@ada"}
        yield running


@pytest.fixture
async def client(core: RunningCore) -> AsyncIterator[Client]:
    async with core.client() as opened:
        yield opened


def connection(account: Account, **more: Any) -> pb.Connection:
    made = pb.Connection(display_name="DMs", channel="dm", **more)
    made.call.url = f"{account.base}/v1/people/{{{{ message.to }}}}/messages?api_key=abc"
    made.call.body = '{"text": "{{ message.text }}"}'
    made.call.headers["X-Api-Token"] = "xyz"
    made.call.auth.bearer.token = TOKEN
    made.result.message_id = "body.id"
    made.result.error = "body.error.message"
    return made


async def create(client: Client, given: pb.Connection, **more: Any) -> pb.Connection:
    return await client.connections.CreateConnection(pb.CreateConnectionRequest(connection=given, **more))


async def update(client: Client, given: pb.Connection, *paths: str) -> pb.Connection:
    request = pb.UpdateConnectionRequest(connection=given, update_mask=FieldMask(paths=paths))
    return await client.connections.UpdateConnection(request)


async def test_a_connection_lives_and_shows_no_secret(core: RunningCore, client: Client, account: Account) -> None:
    made = await create(client, connection(account, daily_limit=5), request_id="once")
    assert made.id.startswith("con_")
    assert (made.call.method, made.call.content_type, made.state) == (
        "POST",
        "application/json",
        pb.CONNECTION_STATE_ACTIVE,
    )
    assert made.call.auth.WhichOneof("scheme") == "bearer"
    again = await create(client, connection(account, daily_limit=5), request_id="once")
    assert again.id == made.id
    got = await client.connections.GetConnection(pb.GetConnectionRequest(connection_id=made.id))
    listed = await client.connections.ListConnections(pb.ListConnectionsRequest())
    assert list(listed.connections) == [got] == [made]
    assert TOKEN not in str((made, again, got))

    made.rate_per_second = 2
    changed = await update(client, made, "rate_per_second", "call")  # what was read can be written back
    assert (changed.rate_per_second, changed.daily_limit, changed.etag) == (2, 5, '"2"')
    tried = await client.connections.TestConnection(
        pb.TestConnectionRequest(connection_id=made.id, to="@ada", send=True)
    )
    assert tried.ok
    with refused("ETAG_MISMATCH"):
        await update(client, pb.Connection(id=made.id, display_name="Other", etag='"1"'))
    moved = pb.Connection(id=made.id)
    moved.call.CopyFrom(changed.call)
    moved.call.url = "https://elsewhere.example.com/"
    with refused("AUTH_NEEDED_AGAIN"):
        await update(client, moved)
    with refused("UNKNOWN_FIELD"):
        await update(client, pb.Connection(id=made.id), "chanel")
    await client.connections.DeleteConnection(pb.DeleteConnectionRequest(connection_id=made.id))
    with refused("NOT_FOUND"):
        await client.connections.GetConnection(pb.GetConnectionRequest(connection_id=made.id))


async def test_everything_that_is_wrong_is_told_at_once_with_its_path(core: RunningCore) -> None:
    bad = {
        "display_name": "x",
        "channel": "email",
        "call": {
            "method": "GET",
            "url": "https://{{ message.to }}/",
            "headers": {"Host": "x", "X-A": "{{ mesage.id }}"},
            "body": "{{ message.txt }}",
            "auth": {"basic": {"username": "ada"}},
        },
        "result": {"sent": "status", "error": "bdy.error"},
        "rate_per_second": -1,
        "daily_limit": -1,
        "max_in_flight": 1000,
    }
    async with core.http() as http:
        answer = await http.post("/api/v1/connections", json=bad)
    assert answer.status_code == 400
    assert {one["field"] for one in answer.json()["error"]["details"]} == {
        "channel",
        "call.method",
        "call.url",
        "call.headers[Host]",
        "call.headers[X-A]",
        "call.body",
        "call.auth.basic.password",
        "result.sent",
        "result.error",
        "rate_per_second",
        "daily_limit",
        "max_in_flight",
    }


async def test_a_body_has_one_limit_which_is_that_of_every_template(client: Client, account: Account) -> None:
    body = pb.HttpCall.DESCRIPTOR.fields_by_name["body"]
    assert body.GetOptions().Extensions[options_pb2.max_length] == templates.LONGEST_TEXT
    given = connection(account)
    start, end = '{"text": "', '{{ message.text }}"}'
    given.call.body = start + "x" * (templates.LONGEST_TEXT - len(start) - len(end)) + end
    assert (await create(client, given)).call.body == given.call.body
    given.call.body = " " + given.call.body
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await create(client, given)
    told = [(one.field, one.reason) for one in ApiError.of(error.value).violations]
    assert told == [("connection.call.body", "TOO_LONG")]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("second", ["create", "update"])
@pytest.mark.both_databases
async def test_of_two_that_become_active_at_once_the_second_is_told_of_the_first(
    core: RunningCore, client: Client, account: Account, second: str
) -> None:
    """The first is made, and not committed yet, when the second looks."""
    paused = await create(client, connection(account, state=pb.CONNECTION_STATE_PAUSED))
    made = connection_messages.settings_in(connection(account))
    async with core.core.database.write(core.organization.org_id) as tx:
        await organizations.hold(tx)
        await connections.create(tx, ids.mint("con", tx.now), made, ConnectionState.ACTIVE)
        if second == "create":
            late = asyncio.create_task(create(client, connection(account)))
        else:
            late = asyncio.create_task(update(client, pb.Connection(id=paused.id, state=pb.CONNECTION_STATE_ACTIVE)))
        await _it_waits_for_a_row(core)
    with refused("CHANNEL_TAKEN"):
        await late


async def _it_waits_for_a_row(core: RunningCore) -> None:
    async with asyncio.timeout(10):
        while True:
            async with core.core.database.system() as tx:
                if await tx.first(_WAITING) is not None:
                    return


@pytest.mark.both_databases
async def test_many_that_become_active_at_once_leave_one_active_and_no_error_of_ours(
    client: Client, account: Account
) -> None:
    paused = [await create(client, connection(account, state=pb.CONNECTION_STATE_PAUSED)) for _ in range(6)]
    calls = [update(client, pb.Connection(id=one.id, state=pb.CONNECTION_STATE_ACTIVE)) for one in paused]
    told = await asyncio.gather(
        *calls, *(create(client, connection(account)) for _ in range(6)), return_exceptions=True
    )
    errors = [ApiError.of(one).reason for one in told if isinstance(one, grpc.aio.AioRpcError)]
    assert errors == ["CHANNEL_TAKEN"] * 11
    listed = await client.connections.ListConnections(pb.ListConnectionsRequest())
    assert sum(one.state == pb.CONNECTION_STATE_ACTIVE for one in listed.connections) == 1


async def test_a_channel_has_one_active_connection(client: Client, account: Account) -> None:
    first = await create(client, connection(account))
    with refused("CHANNEL_TAKEN"):
        await create(client, connection(account))
    second = await create(client, connection(account, state=pb.CONNECTION_STATE_PAUSED))
    with refused("CHANNEL_TAKEN"):
        await update(client, pb.Connection(id=second.id, state=pb.CONNECTION_STATE_ACTIVE))
    await update(client, pb.Connection(id=first.id, state=pb.CONNECTION_STATE_PAUSED))
    swapped = await update(client, pb.Connection(id=second.id, state=pb.CONNECTION_STATE_ACTIVE))
    assert swapped.state == pb.CONNECTION_STATE_ACTIVE


async def test_a_test_shows_the_request_and_sends_it_only_when_asked(client: Client, account: Account) -> None:
    made = await create(client, connection(account))
    request = record_pb2.UpsertRecordRequest(type="contact")
    request.fields.update({"email": "ada@example.com"})
    contact = (await client.records.UpsertRecord(request)).record

    async def tried(**more: Any) -> pb.TestConnectionResponse:
        return await client.connections.TestConnection(pb.TestConnectionRequest(connection_id=made.id, **more))

    shown = await tried(to="@ada", text='Hi "Ada"', contact_id=contact.id)
    assert shown.request_line == f"POST {account.base}/v1/people/%40ada/messages?api_key=***"
    assert dict(shown.headers) == {
        "X-Api-Token": "***",
        "authorization": "Bearer ***",
        "content-type": "application/json",
        "idempotency-key": shown.headers["idempotency-key"],
    }
    assert (shown.body, shown.ok, shown.code) == ('{"text": "Hi \\"Ada\\""}', False, 0)
    assert account.requests == []
    sent = await tried(to="@ada", text="Hi", send=True)
    assert (sent.ok, sent.code, sent.status_code, sent.message) == (True, 1, 201, "HTTP 201, as dm_1.")
    unknown = await tried(to="@nobody", send=True)
    assert (unknown.ok, unknown.code, unknown.message) == (False, 11110111, "HTTP 404: there is no @nobody.")
    cannot = await tried(to="..", send=True)
    assert (cannot.ok, cannot.code) == (False, 11110111)
    assert "would be . or .." in cannot.message
    assert TOKEN not in str((shown, sent, unknown))
    with refused("NOT_FOUND"):
        await tried(contact_id="cnt_nobody")


async def test_what_waits_goes_on_when_its_connection_changes(
    core: RunningCore, client: Client, account: Account
) -> None:
    made = await create(client, connection(account, daily_limit=1))
    await Story(client).publish("write", WRITE)
    for name in ("a", "b", "c"):
        contact = enrollment_pb2.ContactInput(email=f"{name}@example.com", first_name="ada")
        request = enrollment_pb2.EnrollContactsRequest(workflow_id="write", contacts=[contact])
        await client.enrollments.EnrollContacts(request)
    await core.settle()
    assert len(account.sent) == 1
    got = await client.connections.GetConnection(pb.GetConnectionRequest(connection_id=made.id))
    assert got.sent_today == 1
    await update(client, pb.Connection(id=made.id, daily_limit=2))
    await core.settle()
    assert len(account.sent) == 2
    await update(client, pb.Connection(id=made.id), "daily_limit")
    await core.settle()
    assert len(account.sent) == 3


async def test_json_comes_and_goes(core: RunningCore, account: Account) -> None:
    body = {"channel": "sms", "call": {"url": f"{account.base}/x", "body": '{"to": "{{ message.to }}"}'}}
    async with core.http() as http:
        made: httpx2.Response = await http.post("/api/v1/connections", json=body)
        assert made.status_code == 201
        shown = await http.post(f"/api/v1/connections/{made.json()['id']}/test", json={"to": "+15550100"})
    assert shown.json()["body"] == '{"to": "+15550100"}'
