"""A key sees the tools its scopes allow, and every call goes out under the key that it came with."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import grpc
import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ResourceTemplateReference
from starlette.applications import Starlette
from starlette.types import ASGIApp

from dripstone.v1 import enrollment_pb2, record_pb2
from dripstone.v1.client import Client as CoreClient
from mcp_server.app import build_app
from mcp_server.callers import CALLER_SECONDS, Callers
from mcp_server.deployment import Deployment
from mcp_server.server import build_server, served_tools
from tests.mcp_server.stand_in import LIMITED, SCOPES, StandIn

pytestmark = pytest.mark.anyio

ISSUER = "https://login.example.com"
BASE = "https://crm.example.com"


def within(scopes: Collection[str], *, reads: bool = False, toolsets: Collection[str] = ()) -> list[str]:
    tools = served_tools(toolsets, read_only=reads)
    return [tool.name for tool in tools if set(tool.scopes) <= set(scopes)]


@asynccontextmanager
async def web(core: StandIn, **decided: object) -> AsyncIterator[Starlette]:
    """Run the HTTP application as its host does."""
    app = build_app(core.grpc_target, Deployment(**decided))  # type: ignore[arg-type]
    async with app.router.lifespan_context(app):
        yield app


def browser(app: ASGIApp, key: str = "", host: str = "127.0.0.1:8000") -> httpx2.AsyncClient:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=f"http://{host}", headers=headers)


@asynccontextmanager
async def over_http(app: Starlette, key: str, era: str, path: str = "/mcp") -> AsyncIterator[Client]:
    async with (
        browser(app, key) as http,
        Client(streamable_http_client(f"http://127.0.0.1:8000{path}", http_client=http), mode=era) as client,
    ):
        yield client


async def test_only_tools_within_the_scopes_of_the_key_are_listed(core: StandIn, era: str) -> None:
    async with (
        CoreClient(core.grpc_target, core.reader_api_key) as client,
        Client(build_server(lambda _: client), mode=era) as agent,
    ):
        assert [tool.name for tool in (await agent.list_tools()).tools] == within(SCOPES[core.reader_api_key])
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
        for client, key in ((agent, core.api_key), (reader, core.reader_api_key)):
            assert [tool.name for tool in (await client.list_tools()).tools] == within(SCOPES[key])
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
    async with web(core, allowed_hosts=("crm.example.com",)) as app:
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


async def test_what_a_key_may_do_is_believed_for_thirty_seconds(core: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    async with CoreClient(core.grpc_target, core.api_key) as client:
        callers = Callers(lambda _: client, monotonic=lambda: now)
        for now in (0.0, CALLER_SECONDS - 1, CALLER_SECONDS + 1):  # noqa: B007  read by the clock
            await callers.caller(None)
        assert len(core.calls) == 2
        monkeypatch.setattr("mcp_server.callers.KEPT", 2)
        for once in "abc":
            await callers.caller(once)
            await callers.caller(None)
    assert len(core.calls) == 2 + 3, "a key in use is not forgotten for those that came once"


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


MODERN = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "enroll"}
LEGACY = {"mcp-protocol-version": "2025-11-25"}


@pytest.mark.parametrize("headers", [MODERN, LEGACY], ids=["modern", "legacy"])
@pytest.mark.parametrize("path", ["/mcp", "/mcp/interactive"])
async def test_over_http_a_call_beyond_the_scopes_of_the_key_is_a_403_that_names_them(
    core: StandIn, headers: dict[str, str], path: str
) -> None:
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "enroll", "arguments": {}}}
    headers = {"accept": "application/json, text/event-stream", **headers}
    async with web(core, base_url=BASE) as app, browser(app, core.reader_api_key) as http:
        answer = await http.post(path, json=call, headers=headers)
    assert answer.status_code == 403
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="dripstone", error="insufficient_scope", '
        'error_description="enroll needs the scope enrollments:write, which this API key lacks.", '
        'scope="enrollments:write", '
        f'resource_metadata="{BASE}/.well-known/oauth-protected-resource/mcp"'
    )
    assert answer.json()["id"] == 7
    assert answer.json()["error"]["data"]["error"]["reason"] == "SCOPE_MISSING"


async def test_a_client_that_cannot_ask_for_more_hears_in_words_what_it_lacks(core: StandIn, era: str) -> None:
    async with web(core) as app, over_http(app, core.reader_api_key, era) as reader:
        with pytest.raises(MCPError, match="enroll needs the scope enrollments:write"):
            await reader.call_tool("enroll", {"workflow_id": "nurture", "contacts": [{}]})


async def test_limits_of_a_key_hide_the_tools_whose_methods_they_leave_out(core: StandIn, era: str) -> None:
    async with web(core) as app, over_http(app, LIMITED, era) as limited:
        assert [tool.name for tool in (await limited.list_tools()).tools] == ["list-workflows"]
        refused = await limited.call_tool("get-record", {"record_id": "cnt_1"})
        assert refused.structured_content["error"]["reason"] == "KEY_LIMITED"
        assert not (await limited.call_tool("list-workflows", {})).is_error


@pytest.mark.parametrize(
    ("decided", "path", "shown"),
    [
        ({}, "/mcp/read-only", {"reads": True}),
        ({}, "/mcp/x/read", {"toolsets": ["read"]}),
        ({}, "/mcp/x/read,operate/read-only", {"reads": True, "toolsets": ["read", "operate"]}),
        ({}, "/mcp/interactive/x/operate/o/org_1", {"toolsets": ["operate"]}),
        ({"read_only": True}, "/mcp", {"reads": True}),
        ({"read_only": True, "toolsets": ("read",)}, "/mcp/interactive", {"reads": True, "toolsets": ["read"]}),
    ],
)
async def test_an_address_shows_what_it_says_and_never_more_than_the_deployment(
    core: StandIn, era: str, decided: dict[str, object], path: str, shown: dict[str, object]
) -> None:
    names = within(SCOPES[core.api_key], **shown)  # type: ignore[arg-type]
    async with web(core, **decided) as app, over_http(app, core.api_key, era, path) as agent:
        assert [tool.name for tool in (await agent.list_tools()).tools] == names
        reads = "read" in shown.get("toolsets", ["read"])  # type: ignore[operator]
        templates = (await agent.list_resource_templates()).resource_templates
        assert ("crm://record/{record_id}" in [one.uri_template for one in templates]) == reads
        if not reads:
            for ask in (agent.read_resource("crm://record/cnt_1"), agent.read_resource("crm://events")):
                with pytest.raises(MCPError, match="Nothing has the address"):
                    await ask
            record = ResourceTemplateReference(uri="crm://record/{record_id}")
            found = await agent.complete(record, {"name": "record_id", "value": "cnt_"})
            assert not found.completion.values
        assert ("This connection only reads" in (agent.instructions or "")) == ("enroll" not in names)
        if "enroll" not in names:
            refused = await agent.call_tool("enroll", {"workflow_id": "nurture", "contacts": [{}], "mode": "commit"})
            assert refused.structured_content["error"]["reason"] == "UNKNOWN_TOOL"
    assert not core.sent(enrollment_pb2.EnrollContactsRequest)


async def test_a_client_that_only_reads_sends_nothing_else_whoever_asks(core: StandIn) -> None:
    async with CoreClient(core.grpc_target, core.api_key) as client:
        reading = Callers(lambda _: client, read_only=True).client(None)
        assert (await reading.records.GetRecord(record_pb2.GetRecordRequest(record_id="cnt_1"))).id == "cnt_1"
        with pytest.raises(grpc.aio.AioRpcError, match="only reads"):
            await reading.records.UpdateRecord(record_pb2.UpdateRecordRequest())
    assert [type(request).__name__ for _, request in core.calls] == ["GetRecordRequest"]


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/mcp/readonly", 404, "/read-only"),
        ("/mcp/x", 404, "/x/{toolset}"),
        ("/mcp/x/admin", 404, "read, operate"),
        ("/mcp/read-only/read-only", 404, "at most once"),
        ("/mcp/o/a%22b", 404, "at most once"),
        ("/mcp/" + "x" * 500, 404, "at most once"),
        ("/mcp/o/org_2", 403, "another organization"),
    ],
)
async def test_an_address_that_is_none_or_anothers_is_refused(core: StandIn, path: str, status: int, says: str) -> None:
    async with web(core) as app, browser(app, core.api_key) as http:
        answer = await http.post(path, json={})
    assert answer.status_code == status
    assert says in answer.json()["error_description"]


def token(**claims: object) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in ({}, claims)]
    return ".".join([*parts, "signature"])


@pytest.mark.parametrize(
    ("path", "audience", "is_sent_on"),
    [
        ("/mcp", f"{BASE}/mcp", True),
        ("/mcp/read-only", ["console", f"{BASE}/mcp/"], True),
        ("/mcp/o/org_1", f"{BASE}/mcp/o/org_1", True),
        ("/mcp/o/org_1", "api://dripstone", True),
        ("/mcp", f"{BASE}/mcp/o/org_1", False),
        ("/mcp", "console", False),
        ("/mcp", [], False),
        ("/mcp", {"aud": BASE}, False),
        ("/mcp", BASE, False),
    ],
)
async def test_a_token_that_was_made_for_something_else_goes_no_further(
    core: StandIn, path: str, audience: object, is_sent_on: bool
) -> None:
    async with (
        web(core, base_url=BASE, token_audiences=("api://dripstone",)) as app,
        browser(app, token(aud=audience)) as http,
    ):
        answer = await http.post(path, json={})
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert bool(core.calls) == is_sent_on


async def test_the_resource_tells_who_issues_tokens_for_it(core: StandIn) -> None:
    async with web(core, base_url=BASE, authorization_servers=(ISSUER,)) as app, browser(app) as http:
        for path, resource in (("", "/mcp"), ("/mcp/read-only", "/mcp"), ("/mcp/o/org_1/x/read", "/mcp/o/org_1")):
            told = (await http.get(f"/.well-known/oauth-protected-resource{path}")).json()
            assert told["resource"] == BASE + resource
            assert told["authorization_servers"] == [ISSUER]
        assert (await http.get("/.well-known/oauth-protected-resource/mcp/x/admin")).status_code == 404


async def test_a_body_that_nests_too_deeply_is_malformed_and_no_fault_of_ours(core: StandIn) -> None:
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    async with web(core) as app, browser(app, LIMITED) as http:
        body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get-record", "arguments": '
        answer = await http.post("/mcp", content=body + b"[" * 50_000 + b"]" * 50_000 + b"}}", headers=headers)
    assert answer.status_code == 400
