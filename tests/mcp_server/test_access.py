"""A key sees the tools its scopes allow, and every call goes out under the key that it came with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from starlette.applications import Starlette

from dripstone.v1.client import Client as CoreClient
from mcp_server.app import build_app
from mcp_server.callers import CALLER_SECONDS, Callers
from mcp_server.server import build_server
from tests.mcp_server.stand_in import StandIn

pytestmark = pytest.mark.anyio

READS = ["find-records", "get-record", "list-workflows", "get-workflow"]


@asynccontextmanager
async def web(core: StandIn, **options: object) -> AsyncIterator[Starlette]:
    """Run the HTTP application as its host does."""
    app = build_app(core.grpc_target, **options)  # type: ignore[arg-type]
    async with app.router.lifespan_context(app):
        yield app


def browser(app: Starlette, key: str = "", host: str = "127.0.0.1:8000") -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=f"http://{host}", headers=headers)


@asynccontextmanager
async def over_http(app: Starlette, key: str, era: str) -> AsyncIterator[Client]:
    async with (
        browser(app, key) as http,
        Client(streamable_http_client("http://127.0.0.1:8000/mcp", http_client=http), mode=era) as client,
    ):
        yield client


async def test_only_tools_within_the_scopes_of_the_key_are_listed(core: StandIn, era: str) -> None:
    async with (
        CoreClient(core.grpc_target, core.reader_api_key) as client,
        Client(build_server(lambda _: client), mode=era) as agent,
    ):
        assert [tool.name for tool in (await agent.list_tools()).tools] == READS
        refused = await agent.call_tool("enroll", {"workflow_id": "nurture", "contacts": [{}]})
    assert refused.structured_content["error"] == {
        "reason": "SCOPE_MISSING",
        "message": "enroll needs the scope enrollments:write, which this API key lacks.",
        "hint": "Only an admin of the organization can grant it.",
        "next": "Stop and tell the person: ask for an API key with enrollments:write.",
    }


async def test_over_http_each_call_carries_its_own_key(core: StandIn, era: str) -> None:
    async with (
        web(core) as app,
        over_http(app, core.api_key, era) as agent,
        over_http(app, core.reader_api_key, era) as reader,
    ):
        assert agent.protocol_version == {"auto": "2026-07-28", "legacy": "2025-11-25"}[era]
        assert len((await agent.list_tools()).tools) == 11
        assert [tool.name for tool in (await reader.list_tools()).tools] == READS
        for client in (agent, reader):
            answer = await client.call_tool("get-record", {"record_id": "cnt_1"})
            assert answer.structured_content["record_id"] == "cnt_1"
    keys = [key for key, request in core.calls if type(request).__name__ == "GetRecordRequest"]
    assert keys == [core.api_key, core.reader_api_key]


async def test_http_without_a_valid_key_is_challenged(core: StandIn) -> None:
    async with web(core) as app:
        async with browser(app) as nobody:
            answer = await nobody.post("/mcp", json={})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="dripstone"')
        async with browser(app, "dripstone_live_wrong") as stranger:
            answer = await stranger.post("/mcp", json={})
            assert answer.status_code == 401
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]
            assert (await stranger.get("/mcp")).status_code == 401


async def test_a_web_page_elsewhere_cannot_reach_a_server_on_this_machine(core: StandIn) -> None:
    async with web(core, allowed_hosts=["crm.example.com"]) as app:
        for host, status in (("evil.example.com", 421), ("crm.example.com", 400), ("localhost:9", 400)):
            async with browser(app, core.api_key, host) as client:
                headers = {"mcp-protocol-version": "2026-07-28", "accept": "application/json, text/event-stream"}
                assert (await client.post("/mcp", json={}, headers=headers)).status_code == status


async def test_a_bad_key_over_stdio_is_said_in_words(core: StandIn, era: str) -> None:
    async with (
        CoreClient(core.grpc_target, "dripstone_live_wrong") as client,
        Client(build_server(lambda _: client), mode=era) as agent,
    ):
        with pytest.raises(MCPError, match="API key of this connection is not valid"):
            await agent.list_tools()
        refused = await agent.call_tool("list-workflows", {})
        assert refused.structured_content["error"]["reason"] == "UNAUTHENTICATED"


async def test_what_a_key_may_do_is_believed_for_thirty_seconds(core: StandIn) -> None:
    now = 0.0
    async with CoreClient(core.grpc_target, core.api_key) as client:
        callers = Callers(lambda _: client, monotonic=lambda: now)
        for now in (0.0, CALLER_SECONDS - 1, CALLER_SECONDS + 1):  # noqa: B007  read by the clock
            await callers.caller(None)
    assert len(core.calls) == 2


def test_a_toolset_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no such toolset: admin"):
        build_server(lambda _: CoreClient("127.0.0.1:1", None), toolsets=["admin"])


async def test_a_malformed_request_is_answered_in_one_line(core: StandIn) -> None:
    headers = {"accept": "application/json, text/event-stream"}
    async with web(core) as app, browser(app, core.api_key) as client:
        for body in ({}, {"jsonrpc": "2.0", "id": 1, "method": 5}, []):
            answer = await client.post("/mcp", json=body, headers=headers)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == -32600
            assert len(answer.text) < 200
