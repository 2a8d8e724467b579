"""Clients are told what changed: by the core's own streams, under their key, bounded, and no longer than it is good."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from mcp import MCPError
from mcp.client.subscriptions import Subscription, SubscriptionLost
from mcp.shared.subscriptions import ResourceUpdated, ServerEvent, ToolsListChanged
from mcp.types import ResourceUpdatedNotification

from core.provisioning import create_organization
from dripstone.v1 import enrollment_pb2, organization_pb2, record_pb2, workflow_pb2
from dripstone.v1.client import Client as CoreClient
from mcp_server import subscriptions
from mcp_server.subscriptions import STREAMS_OF_ONE, WATCHED
from tests.mcp_server.by_http import over_http, web
from tests.mcp_server.test_authoring import GOOD
from tests.mcp_server.whole import watcher_of
from tests.rpc.control_calls import new_key
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

OLDER_ERA = pytest.mark.filterwarnings("ignore:resources/:mcp.shared.exceptions.MCPDeprecationWarning")

READS = ["OrganizationService.GetCaller", "EnrollmentService.GetEnrollment"]

SECONDS = 5
"""Longer than any cue takes."""


@pytest.fixture
async def whole(core: RunningCore) -> RunningCore:
    """Return an organization with somebody in a workflow."""
    async with core.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="welcome", source=GOOD, publish=True)
        )
        ada = enrollment_pb2.ContactInput(email="ada@example.com", first_name="Ada")
        await client.enrollments.EnrollContacts(
            enrollment_pb2.EnrollContactsRequest(workflow_id="welcome", contacts=[ada])
        )
    return core


async def there(core: RunningCore) -> tuple[str, str]:
    """Return the contact and the enrollment there are."""
    async with core.client() as client:
        found = (await client.enrollments.ListEnrollments(enrollment_pb2.ListEnrollmentsRequest())).enrollments
    return found[0].contact_id, found[0].id


async def rename(client: CoreClient, contact_id: str, name: str) -> None:
    request = record_pb2.UpdateRecordRequest(record_id=contact_id)
    request.fields.update({"first_name": name})
    await client.records.UpdateRecord(request)


async def cancel(client: CoreClient, enrollment_id: str) -> None:
    await client.enrollments.CancelEnrollment(enrollment_pb2.CancelEnrollmentRequest(enrollment_id=enrollment_id))


async def told(stream: Subscription) -> ServerEvent:
    return await asyncio.wait_for(anext(stream), SECONDS)


async def test_a_stream_tells_of_records_and_enrollments_as_they_change(whole: RunningCore) -> None:
    contact_id, enrollment_id = await there(whole)
    record, trace = f"crm://record/{contact_id}", f"crm://enrollment/{enrollment_id}"
    async with (
        whole.client() as core,
        watcher_of(whole) as client,
        client.listen(resource_subscriptions=[record, trace, "crm://step-kind/wait"]) as stream,
    ):
        assert stream.honored.resource_subscriptions == [record, trace]
        await rename(core, contact_id, "Augusta")
        assert await told(stream) == ResourceUpdated(record)
        await cancel(core, enrollment_id)
        assert await told(stream) == ResourceUpdated(trace)
        # A key that may read an enrollment and not follow it is told all the same.
        made = await new_key(core, ["enrollments:read"], limits=organization_pb2.KeyLimits(methods=READS))
        async with watcher_of(whole, made.secret) as narrow, narrow.listen(resource_subscriptions=[trace]) as looking:
            gone = enrollment_pb2.DeleteEnrollmentRequest(enrollment_id=enrollment_id)
            await core.enrollments.DeleteEnrollment(gone)
            assert await told(looking) == ResourceUpdated(trace)


@OLDER_ERA
async def test_a_session_of_the_older_era_subscribes_and_unsubscribes(whole: RunningCore) -> None:
    contact_id, enrollment_id = await there(whole)
    record, trace = f"crm://record/{contact_id}", f"crm://enrollment/{enrollment_id}"
    cues: asyncio.Queue[str] = asyncio.Queue()

    async def heard(message: Any) -> None:
        if isinstance(message, ResourceUpdatedNotification):
            cues.put_nowait(str(message.params.uri))

    async with whole.client() as core, watcher_of(whole, era="legacy", message_handler=heard) as client:
        for uri in (record, trace, trace):
            await client.session.subscribe_resource(uri)
        await rename(core, contact_id, "Augusta")
        assert await asyncio.wait_for(cues.get(), SECONDS) == record
        await client.session.unsubscribe_resource(trace)
        await client.session.subscribe_resource(trace)
        await client.session.unsubscribe_resource(record)
        await rename(core, contact_id, "Ada")
        await cancel(core, enrollment_id)
        assert await asyncio.wait_for(cues.get(), SECONDS) == trace
        assert cues.empty()
        with pytest.raises(MCPError, match="cannot be watched"):
            await client.session.subscribe_resource("crm://events")


@OLDER_ERA
async def test_what_sessions_watch_is_bounded_however_fast_and_in_how_many_they_ask(
    whole: RunningCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "WATCHED", 2)
    monkeypatch.setattr(subscriptions, "STREAMS_OF_ONE", 1)
    name = (await there(whole))[0].removeprefix("cnt")
    forms = [f"crm://record/{form}{name}" for form in ("cnt", "%63nt", "c%6et", "cn%74")]
    async with (
        web(whole) as app,
        over_http(app, whole.api_key, "legacy", "/mcp/interactive") as one,
        over_http(app, whole.api_key, "legacy", "/mcp/interactive") as other,
    ):
        asked = [one.session.subscribe_resource(uri) for uri in forms]
        refused = [said for said in await asyncio.gather(*asked, return_exceptions=True) if isinstance(said, Exception)]
        assert [str(said)[:28] for said in refused] == ["A session watches at most 2 "] * 2
        with pytest.raises(MCPError, match="Too many resources"):
            await other.session.subscribe_resource(forms[0])
        for uri in forms:
            await one.session.unsubscribe_resource(uri)
        with pytest.raises(MCPError, match="cannot be watched"):
            await one.session.subscribe_resource("crm://events")
        for uri in forms[:2]:  # what was refused takes no place
            await other.session.subscribe_resource(uri)


async def test_streams_are_bounded_and_tell_nothing_of_another_organization(whole: RunningCore) -> None:
    contact_id, _ = await there(whole)
    other = await create_organization(whole.core.database, "Other")
    async with watcher_of(whole, other.api_key) as client:
        with pytest.raises(MCPError, match=contact_id):
            async with client.listen(resource_subscriptions=[f"crm://record/{contact_id}"]):
                pass
    async with watcher_of(whole) as client, AsyncExitStack() as open_streams:
        with pytest.raises(MCPError, match="at most"):
            async with client.listen(resource_subscriptions=[f"crm://record/cnt_{n}" for n in range(WATCHED + 1)]):
                pass
        for _ in range(STREAMS_OF_ONE):
            await open_streams.enter_async_context(client.listen(tools_list_changed=True))
        with pytest.raises(MCPError, match="Too many streams"):
            async with client.listen(tools_list_changed=True):
                pass
        await open_streams.aclose()
        async with asyncio.timeout(SECONDS):
            while True:  # the server hears of the end a moment later
                with suppress(MCPError):
                    async with client.listen(tools_list_changed=True) as stream:
                        assert stream.honored.tools_list_changed
                        break
                await asyncio.sleep(0)


async def test_a_stream_tells_of_new_rights_and_ends_with_its_key(whole: RunningCore) -> None:
    _, enrollment_id = await there(whole)
    hours = iter(range(0, 10**9, 3600))
    async with whole.client() as boss:
        made = await new_key(boss, ["enrollments:read"])
        async with (
            watcher_of(whole, made.secret, monotonic=lambda: float(next(hours))) as client,
            client.listen(
                tools_list_changed=True, resource_subscriptions=[f"crm://enrollment/{enrollment_id}"]
            ) as stream,
        ):
            wider = organization_pb2.ApiKey(scopes=["enrollments:read", "records:read"])
            request = organization_pb2.UpdateApiKeyRequest(
                api_key_id=made.api_key.id, api_key=wider, etag=made.api_key.etag
            )
            request.update_mask.paths.append("scopes")
            await boss.organization.UpdateApiKey(request)
            assert await told(stream) == ToolsListChanged()
            await boss.organization.RevokeApiKey(organization_pb2.RevokeApiKeyRequest(api_key_id=made.api_key.id))
            with pytest.raises(SubscriptionLost) as lost:
                await told(stream)
            assert isinstance(lost.value.__cause__, MCPError)


@OLDER_ERA
async def test_a_connection_without_a_session_is_told_where_changes_are_told(core: RunningCore) -> None:
    async with web(core) as app, over_http(app, core.api_key, "legacy") as client:
        with pytest.raises(MCPError, match="subscriptions/listen"):
            await client.session.subscribe_resource("crm://record/cnt_1")
