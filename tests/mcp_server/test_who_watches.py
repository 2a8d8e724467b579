"""Who may watch what, and until when: nobody is told of what they cannot read, and nobody who has gone."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from mcp import MCPError

from dripstone.v1 import enrollment_pb2, workflow_pb2
from mcp_server import app as http_app
from tests.mcp_server.by_http import LEGACY, browser, key_of, over_http, web
from tests.mcp_server.conftest import NURTURE, moved_in
from tests.mcp_server.test_watching import OLDER_ERA
from tests.mcp_server.whole import over_the_wire
from tests.running import RunningCore

pytestmark = [pytest.mark.anyio, OLDER_ERA]

SECONDS = 5
"""Longer than any end takes."""


@pytest.fixture
async def watched(core: RunningCore) -> list[str]:
    """Return what can be watched: a record, which is looked at, and an enrollment, which the core streams."""
    async with core.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="nurture", source=NURTURE, publish=True)
        )
        request = enrollment_pb2.EnrollContactsRequest(workflow_id="nurture", contacts=[{"email": "ada@example.com"}])
        (result,) = (await client.enrollments.EnrollContacts(request)).results
    return [f"crm://record/{result.contact_id}", f"crm://enrollment/{result.enrollment_id}"]


def watching(core: RunningCore) -> tuple[int, int]:
    """Return how many watchers there are in this process, and how many streams of the core are open."""
    tasks = [task.get_name() for task in asyncio.all_tasks()]
    streams = core.core.database.wakeups._events.get("watch", ())
    return sum(name == "watch" or "Subscriptions._" in name for name in tasks), len(streams)


async def until(core: RunningCore, expected: tuple[int, int]) -> None:
    """Wait until that many watch."""
    for _ in range(SECONDS * 200):
        if (found := watching(core)) == expected:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{found} watch, not {expected}")


async def test_watchers_end_when_their_session_ends(core: RunningCore, watched: list[str]) -> None:
    async with over_the_wire(core, "legacy", "/interactive") as client:
        for uri in watched:
            await client.session.subscribe_resource(uri)
        await until(core, (2, 1))
    await until(core, (0, 0))


@pytest.mark.parametrize("path", ["", "/interactive"])
async def test_watchers_end_when_the_client_of_a_stream_closes_it_or_is_gone(
    core: RunningCore, watched: list[str], path: str
) -> None:
    async with over_the_wire(core, "auto", path) as client:
        async with client.listen(resource_subscriptions=watched):
            await until(core, (3, 1))  # one more looks whether the key still holds
        await until(core, (0, 0))

    async def listen() -> None:
        async with over_the_wire(core, "auto", path) as one, one.listen(resource_subscriptions=watched):
            await asyncio.Event().wait()

    gone = asyncio.create_task(listen())
    await until(core, (3, 1))
    gone.cancel()
    await until(core, (0, 0))


@pytest.mark.parametrize("ending", ["nobody comes back", "the server stops"])
async def test_watchers_end_with_a_session_that_nobody_ends(
    core: RunningCore, watched: list[str], monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    if ending == "nobody comes back":
        monkeypatch.setattr(http_app, "SESSION_SECONDS", 0.2)
    begin = {
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
    }  # fmt: skip
    headers = {"accept": "application/json, text/event-stream"}
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(web(core))
        http = await stack.enter_async_context(browser(app, core.api_key))
        begun = await http.post("/mcp/interactive", json=begin, headers=headers)
        headers |= {"mcp-session-id": begun.headers["mcp-session-id"], **LEGACY}
        said = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        await http.post("/mcp/interactive", json=said, headers=headers)
        for number, uri in enumerate(watched, start=2):
            ask = {"jsonrpc": "2.0", "id": number, "method": "resources/subscribe", "params": {"uri": uri}}
            assert (await http.post("/mcp/interactive", json=ask, headers=headers)).status_code == 200
        assert watching(core)[0] == 2
        if ending == "the server stops":
            await stack.aclose()
        await until(core, (0, 0))


RECORD, ENROLLMENT, WORKFLOW = "crm://record/", "crm://enrollment/", "crm://workflow/"
ALL = (RECORD, ENROLLMENT, WORKFLOW)


@pytest.fixture
async def addresses(watched: list[str]) -> list[str]:
    """Return a record, an enrollment and a workflow; the last is shown to authors too."""
    return [*watched, "crm://workflow/nurture"]


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("", ALL),
        ("/read-only", ALL),
        ("/o/{organization}/interactive", ALL),
        ("/x/author", (WORKFLOW,)),
        ("/o/{organization}/x/author,operate/read-only", (WORKFLOW,)),
        ("/interactive/x/operate", ()),
    ],
)
async def test_a_stream_honours_what_its_address_shows_and_refuses_where_that_is_nothing(
    core: RunningCore, addresses: list[str], path: str, shown: tuple[str, ...]
) -> None:
    expected = [uri for uri in addresses if uri.startswith(shown)]
    path = path.format(organization=core.organization.org_id)
    async with over_the_wire(core, "auto", path) as client:
        if expected:
            async with client.listen(resource_subscriptions=addresses) as stream:
                assert stream.honored.resource_subscriptions == expected
        else:
            with pytest.raises(MCPError, match=f"{addresses[0]} cannot be watched"):
                async with client.listen(resource_subscriptions=addresses):
                    pass


@pytest.mark.parametrize(
    ("decided", "path", "shown"),
    [
        ({}, "", ALL),
        ({}, "/read-only", ALL),
        ({}, "/x/author", (WORKFLOW,)),
        ({}, "/x/operate", ()),
        ({"toolsets": ("author",), "read_only": True}, "", (WORKFLOW,)),
    ],
)
async def test_a_session_watches_what_its_address_and_the_deployment_show(
    core: RunningCore, addresses: list[str], decided: dict[str, object], path: str, shown: tuple[str, ...]
) -> None:
    async with (
        web(core, **decided) as app,
        over_http(app, core.api_key, "legacy", f"/mcp/interactive{path}") as client,
    ):
        for uri in addresses:
            if uri.startswith(shown):
                await client.session.subscribe_resource(uri)
            else:
                with pytest.raises(MCPError, match="cannot be watched"):
                    await client.session.subscribe_resource(uri)


async def test_nothing_is_watched_that_the_key_or_its_organization_does_not_see(
    core: RunningCore, home: RunningCore, addresses: list[str]
) -> None:
    narrow, elsewhere = await key_of(core, "records:read"), await moved_in(home)
    async with (
        over_the_wire(core, "auto", "", narrow) as client,
        client.listen(resource_subscriptions=addresses) as stream,
    ):
        assert stream.honored.resource_subscriptions == addresses[:1]
    async with over_the_wire(elsewhere, "auto", "") as client:
        for uri in addresses:
            with pytest.raises(MCPError, match="There is no"):
                async with client.listen(resource_subscriptions=[uri]):
                    pass
    async with web(core) as app, over_http(app, elsewhere.api_key, "legacy", "/mcp/interactive") as other:
        for uri in addresses:
            with pytest.raises(MCPError, match="There is no"):
                await other.session.subscribe_resource(uri)
