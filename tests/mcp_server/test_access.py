"""A key sees the tools its scopes allow, and every call goes out under the key that it came with."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Collection

import grpc
import pytest
from mcp import MCPError
from mcp.types import ResourceTemplateReference

from core.domain.control.scopes import ALL_SCOPES
from dripstone.v1 import audit_pb2, record_pb2, workflow_pb2
from dripstone.v1.client import Client as CoreClient
from mcp_server.callers import CALLER_SECONDS, Callers
from mcp_server.server import build_server, served_tools
from tests.mcp_server.by_http import LEGACY, READS, browser, contact, key_of, over_http, web
from tests.mcp_server.conftest import NURTURE, moved_in
from tests.mcp_server.whole import agent_of
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

ISSUER = "https://login.example.com"
BASE = "https://crm.example.com"


def within(scopes: Collection[str], *, reads: bool = False, toolsets: Collection[str] = ()) -> list[str]:
    tools = served_tools(toolsets, read_only=reads)
    return [tool.name for tool in tools if set(tool.scopes) <= set(scopes)]


@pytest.fixture
async def reader(core: RunningCore) -> str:
    """Return a key that only reads."""
    return await key_of(core, *READS)


async def test_only_tools_within_the_scopes_of_the_key_are_listed(core: RunningCore, reader: str, era: str) -> None:
    async with agent_of(core, reader, era) as reading:
        agent = reading.client
        assert [tool.name for tool in (await agent.list_tools()).tools] == within(READS)
        refused = await agent.call_tool("enroll", {"workflow_id": "nurture", "contacts": [{}]})
    assert refused.structured_content["error"] == {
        "reason": "SCOPE_MISSING",
        "message": "enroll needs the scope enrollments:write, which this API key lacks.",
        "hint": "Only an admin of the organization can grant it.",
        "next": "Stop and tell the person: ask for an API key with enrollments:write.",
    }


async def test_over_http_each_call_carries_its_own_key(core: RunningCore, home: RunningCore, era: str) -> None:
    elsewhere = await moved_in(home)
    reader = await key_of(elsewhere, *READS)
    ours, theirs = await contact(core, "ada"), await contact(elsewhere, "bo")
    async with (
        web(core) as app,
        over_http(app, core.api_key, era) as agent,
        over_http(app, reader, era) as reading,
    ):
        assert agent.protocol_version == {"auto": "2026-07-28", "legacy": "2025-11-25"}[era]
        for client, scopes, own, other in ((agent, ALL_SCOPES, ours, theirs), (reading, READS, theirs, ours)):
            assert [tool.name for tool in (await client.list_tools()).tools] == within(scopes)
            answer = await client.call_tool("get-record", {"record_id": own})
            assert answer.structured_content["record_id"] == own
            assert (await client.call_tool("get-record", {"record_id": other})).is_error


async def test_http_without_a_valid_key_is_challenged(core: RunningCore) -> None:
    async with web(core) as app:
        async with browser(app) as nobody:
            answer = await nobody.post("/mcp", json={})
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, 'Bearer realm="dripstone"')
        async with browser(app, "dripstone_live_wrong") as stranger:
            answer = await stranger.post("/mcp", json={})
            assert answer.status_code == 401
            assert 'error="invalid_token"' in answer.headers["www-authenticate"]
            assert (await stranger.get("/mcp")).status_code == 401


async def test_only_a_session_is_listened_to_or_ended_so_that_sessions_bound_the_streams(core: RunningCore) -> None:
    headers = {"accept": "text/event-stream"}
    async with web(core) as app, browser(app, core.agent_key) as client:
        for path, allowed in (("/mcp", "POST, OPTIONS"), ("/mcp/interactive", "POST, GET, DELETE, OPTIONS")):
            for method in ("GET", "DELETE", "PUT"):
                answer = await client.request(method, path, headers=headers)
                assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        answer = await client.get("/mcp", headers={**headers, "mcp-session-id": "x"})
        assert (answer.status_code, answer.json()["error"]) == (405, "method_not_allowed")
        answer = await client.get("/mcp/interactive", headers={**headers, "mcp-session-id": "x"})
        assert answer.status_code == 404


ALLOWED_ORIGINS = ("https://crm.example.com", "http://localhost:5173", "http://[::1]:5173")
FOREIGN_ORIGINS = (
    *("https://evil.example.com", "https://crm.example.com.evil.example", "https://evil@crm.example.com", "null"),
    *("file://localhost", "https://crm.example.com:x", "https://crm.example.com/path"),
)


async def test_a_page_may_call_where_its_host_is_allowed_and_is_told_so_before_and_after(core: RunningCore) -> None:
    async with web(core, allowed_hosts=("crm.example.com",)) as app, browser(app) as page:
        for origin in (*ALLOWED_ORIGINS, *FOREIGN_ORIGINS):
            ask = {"origin": origin, "access-control-request-method": "POST"}
            before = await page.options("/mcp/read-only", headers=ask)
            after = await page.post("/mcp", json={}, headers={"origin": origin})
            assert (before.status_code, after.status_code) == (204, 401)
            told = [answer.headers.get("access-control-allow-origin", "") for answer in (before, after)]
            assert told == [origin if origin in ALLOWED_ORIGINS else ""] * 2
            sent = set(before.headers.get("access-control-allow-headers", "").split(", "))
            assert ({"authorization", "mcp-method"} <= sent) is (origin in ALLOWED_ORIGINS)
        assert (
            "www-authenticate"
            in (await page.post("/mcp", json={}, headers={"origin": ALLOWED_ORIGINS[0]})).headers[
                "access-control-expose-headers"
            ]
        )


async def test_a_web_page_elsewhere_cannot_reach_a_server_on_this_machine(core: RunningCore) -> None:
    async with web(core, allowed_hosts=("crm.example.com",)) as app:
        for host, status in (("evil.example.com", 421), ("crm.example.com", 400), ("localhost:9", 400)):
            async with browser(app, core.api_key, host) as client:
                headers = {"mcp-protocol-version": "2026-07-28", "accept": "application/json, text/event-stream"}
                assert (await client.post("/mcp", json={}, headers=headers)).status_code == status


async def test_a_bad_key_over_stdio_is_said_in_words(core: RunningCore, era: str) -> None:
    async with agent_of(core, "dripstone_live_wrong", era) as agent:
        with pytest.raises(MCPError, match="API key of this connection is not valid"):
            await agent.client.list_tools()
        assert (await agent.refused("list-workflows"))["reason"] == "UNAUTHENTICATED"


async def test_what_a_key_may_do_is_believed_for_thirty_seconds(
    core: RunningCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    async with CoreClient(core.grpc_target, core.api_key) as client:
        callers = Callers(client.with_key, monotonic=lambda: now)
        first = await callers.caller(core.agent_key)
        now = CALLER_SECONDS - 1
        assert await callers.caller(core.agent_key) is first
        now = CALLER_SECONDS + 1
        second = await callers.caller(core.agent_key)
        assert (second, second is first) == (first, False)
        monkeypatch.setattr("mcp_server.callers.KEPT", 2)
        for once in (core.api_key, core.approver_api_key, await key_of(core, *READS)):
            await callers.caller(once)
            assert await callers.caller(core.agent_key) is second, "a key in use outlives those that came once"


def test_a_toolset_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="no such toolset: admin"):
        build_server(lambda _: CoreClient("127.0.0.1:1", None), toolsets=["admin"])


async def test_a_malformed_request_is_answered_in_one_line(core: RunningCore) -> None:
    headers = {"accept": "application/json, text/event-stream"}
    async with web(core) as app, browser(app, core.api_key) as client:
        for body in ({}, {"jsonrpc": "2.0", "id": 1, "method": 5}, []):
            answer = await client.post("/mcp", json=body, headers=headers)
            assert answer.status_code == 400
            assert answer.json()["error"]["code"] == -32600
            assert len(answer.text) < 200


MODERN = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "enroll"}


@pytest.mark.parametrize("headers", [MODERN, LEGACY], ids=["modern", "legacy"])
@pytest.mark.parametrize("path", ["/mcp", "/mcp/interactive"])
async def test_over_http_a_call_beyond_the_scopes_of_the_key_is_a_403_that_names_them(
    core: RunningCore, reader: str, headers: dict[str, str], path: str
) -> None:
    call = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "enroll", "arguments": {}}}
    headers = {"accept": "application/json, text/event-stream", **headers}
    async with web(core, base_url=BASE) as app, browser(app, reader) as http:
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


async def test_a_client_that_cannot_ask_for_more_hears_in_words_what_it_lacks(
    core: RunningCore, reader: str, era: str
) -> None:
    async with web(core) as app, over_http(app, reader, era) as reading:
        with pytest.raises(MCPError, match="enroll needs the scope enrollments:write"):
            await reading.call_tool("enroll", {"workflow_id": "nurture", "contacts": [{}]})


async def test_limits_of_a_key_hide_the_tools_whose_methods_they_leave_out(core: RunningCore, era: str) -> None:
    key = await key_of(core, *READS, methods=["WorkflowService.ListWorkflows"])
    async with web(core) as app, over_http(app, key, era) as limited:
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
    core: RunningCore, era: str, decided: dict[str, object], path: str, shown: dict[str, object]
) -> None:
    path, ada = path.replace("org_1", core.organization.org_id), await contact(core, "ada")
    names = within(ALL_SCOPES, **shown)  # type: ignore[arg-type]
    async with web(core, **decided) as app, over_http(app, core.api_key, era, path) as agent:
        assert [tool.name for tool in (await agent.list_tools()).tools] == names
        reads = "read" in shown.get("toolsets", ["read"])  # type: ignore[operator]
        templates = (await agent.list_resource_templates()).resource_templates
        assert ("crm://record/{record_id}" in [one.uri_template for one in templates]) == reads
        record = ResourceTemplateReference(uri="crm://record/{record_id}")
        found = await agent.complete(record, {"name": "record_id", "value": "ada"})
        assert found.completion.values == ([ada] if reads else [])
        if not reads:
            for ask in (agent.read_resource(f"crm://record/{ada}"), agent.read_resource("crm://events")):
                with pytest.raises(MCPError, match="Nothing has the address"):
                    await ask
        assert ("This connection only reads" in (agent.instructions or "")) == ("enroll" not in names)
        if "enroll" not in names:
            refused = await agent.call_tool("enroll", {"workflow_id": "nurture", "contacts": [{}], "mode": "commit"})
            assert refused.structured_content["error"]["reason"] == "UNKNOWN_TOOL"


ANSWERS = [
    (
        "/mcp/x/operate",
        "enroll",
        {"workflow_id": "x", "contacts": [{"email": "a@example.com"}]},
        "needs the toolset read",
    ),
    ("/mcp/x/operate", "qualify-lead", {}, "needs the toolset read"),
    ("/mcp/x/operate", "get-record", {"record_id": "cnt_1"}, "do not try another tool"),
    ("/mcp/read-only", "find-records", {"type": "lead", "email": "nobody@example.com"}, "changes something"),
    ("/mcp/read-only", "list-workflows", {}, "changes something"),
    ("/mcp/read-only", "enroll", {"workflow_id": "x", "contacts": []}, "do not try another tool"),
    ("/mcp/read-only", "create-record", {"email": "a@example.com"}, "find-records"),
]


async def test_what_is_to_be_done_next_names_no_tool_that_is_not_there(core: RunningCore) -> None:
    async with web(core) as app:
        for path, tool, arguments, why in ANSWERS:
            async with over_http(app, core.api_key, "auto", path) as agent:
                result = await agent.call_tool(tool, arguments)
                told = (result.structured_content.get("error") or result.structured_content)["next"]
                assert why in told, (path, tool)
                absent = {one.name for one in served_tools()} - {one.name for one in (await agent.list_tools()).tools}
                assert not absent.intersection(re.findall(r"[a-z-]+", told)), told
                assert result.content[0].text.endswith(f"next: {told}")


async def test_a_handle_that_the_key_cannot_use_is_told_with_what_it_lacks(core: RunningCore) -> None:
    ada = await contact(core, "ada")
    async with core.client() as boss:
        await boss.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="nurture", source=NURTURE, publish=True)
        )
    async with agent_of(core, await key_of(core, "enrollments:write")) as narrow:
        made = await narrow.call("enroll", workflow_id="nurture", contacts=[{"contact_id": ada}], mode="commit")
    assert made.structured_content is not None
    undo, text = made.structured_content["undo"], made.content[0].text
    assert f"undo: {undo}; taking it back needs the scope records:write, which this API key lacks" in text
    assert "undo-changes" not in text
    assert made.structured_content["next"] == (
        "Tell the person: the next call needs the scope enrollments:read, which this API key lacks."
    )


async def test_a_client_that_only_reads_sends_nothing_else_whoever_asks(core: RunningCore) -> None:
    ada = await contact(core, "ada")
    async with CoreClient(core.grpc_target, core.api_key) as client:
        reading = Callers(lambda _: client, read_only=True).client(None)
        assert (await reading.records.GetRecord(record_pb2.GetRecordRequest(record_id=ada))).id == ada
        with pytest.raises(grpc.aio.AioRpcError, match="only reads"):
            await reading.records.UpdateRecord(record_pb2.UpdateRecordRequest(record_id=ada, fields={"job_title": "X"}))
        entries = (await client.audit.ListAuditEntries(audit_pb2.ListAuditEntriesRequest())).entries
    assert "RecordService.UpdateRecord" not in {entry.method for entry in entries}


@pytest.mark.parametrize(
    ("path", "status", "says"),
    [
        ("/mcp/readonly", 404, "/read-only"),
        ("/mcp/x", 404, "/x/{toolset}"),
        ("/mcp/x/admin", 404, "read, operate"),
        ("/mcp/read-only/read-only", 404, "at most once"),
        ("/mcp/o/a%22b", 404, "at most once"),
        ("/mcp/" + "x" * 500, 404, "at most once"),
        ("/mcp/o/org_another", 403, "another organization"),
    ],
)
async def test_an_address_that_is_none_or_anothers_is_refused(
    core: RunningCore, path: str, status: int, says: str
) -> None:
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
    core: RunningCore, path: str, audience: object, is_sent_on: bool
) -> None:
    async with (
        web(core, base_url=BASE, token_audiences=("api://dripstone",)) as app,
        browser(app, token(aud=audience)) as http,
    ):
        answer = await http.post(path, json={})
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert (answer.json()["error_description"] == "The token was not made for this server.") != is_sent_on


async def test_the_resource_tells_who_issues_tokens_for_it(core: RunningCore) -> None:
    async with web(core, base_url=BASE, authorization_servers=(ISSUER,)) as app, browser(app) as http:
        for path, resource in (("", "/mcp"), ("/mcp/read-only", "/mcp"), ("/mcp/o/org_1/x/read", "/mcp/o/org_1")):
            told = (await http.get(f"/.well-known/oauth-protected-resource{path}")).json()
            assert told["resource"] == BASE + resource
            assert told["authorization_servers"] == [ISSUER]
        assert (await http.get("/.well-known/oauth-protected-resource/mcp/x/admin")).status_code == 404


async def test_a_body_that_nests_too_deeply_is_malformed_and_no_fault_of_ours(core: RunningCore) -> None:
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    async with web(core) as app, browser(app, core.agent_key) as http:
        body = b'{"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "get-record", "arguments": '
        answer = await http.post("/mcp", content=body + b"[" * 50_000 + b"]" * 50_000 + b"}}", headers=headers)
    assert answer.status_code == 400
