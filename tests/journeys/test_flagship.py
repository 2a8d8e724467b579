"""The flagship story through the MCP server of a real core: both eras of the protocol, HTTP and stdio."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Literal

import httpx2
import pytest
from mcp import Client as McpClient
from mcp import MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from core.demo.setting import SOURCE, WORKFLOW, prepare
from tests.chaos.server_process import ServerProcess
from tests.mcp_server.conftest import agreeing
from tests.receiver import Receiver
from tests.running import NO_ROOTS, RunningCore

pytestmark = [pytest.mark.anyio, pytest.mark.both_databases]

Mode = Literal["auto", "legacy"]
BODY = {
    "event_type": "lead",
    "event_name": "demo.requested",
    "source_id": SOURCE,
    "fields": {"email": "jane@example.com", "job_title": "Head of Revenue", "employees": 120, "country": "DE"},
}


@asynccontextmanager
async def _over_http(url: str, key: str, mode: Mode, person: Any = None) -> AsyncIterator[McpClient]:
    async with AsyncExitStack() as stack:
        headers = {"Authorization": f"Bearer {key}"}
        http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers, timeout=20, verify=NO_ROOTS))
        transport = streamable_http_client(url, http_client=http)
        yield await stack.enter_async_context(McpClient(transport, mode=mode, elicitation_callback=person))


async def _ok(client: McpClient, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert isinstance(result.structured_content, dict)
    return result.structured_content


async def _refused(client: McpClient, tool: str, **arguments: Any) -> dict[str, Any]:
    try:
        result = await client.call_tool(tool, arguments)
    except MCPError as error:  # for want of a scope: over HTTP that is a 403
        return dict(error.error.data["error"])
    assert result.is_error
    assert isinstance(result.structured_content, dict)
    return dict(result.structured_content["error"])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_story_from_a_posted_lead_to_a_signed_webhook(
    core: RunningCore, receiver: Receiver, mode: Mode
) -> None:
    async with core.client() as client:
        await prepare(client, receiver.url)
    async with core.http() as http:
        answer = await http.post("/v2/event", json=BODY)
    assert (answer.status_code, answer.json()) == (200, {"data": "ok"})
    async with (
        _over_http(core.mcp_url, core.agent_key, mode) as agent,
        _over_http(f"{core.mcp_url}/interactive", core.approver_api_key, mode, agreeing) as person,
    ):
        plan = await _ok(agent, "qualify-lead", email="jane@example.com")
        assert sum(one["points"] for one in plan["contributions"]) == plan["score"] == 85
        assert (plan["tier"], plan["decision"]) == ("A", "needs_approval")
        again = await _ok(agent, "qualify-lead", email="jane@example.com")
        assert again["score"] == plan["score"]

        waiting = await _ok(agent, "qualify-lead", plan_id=plan["plan_id"], mode="commit", idempotency_key="q1")
        assert (waiting["decision"], waiting["applied"]) == ("needs_approval", False)
        lead = await _ok(agent, "get-record", record_id=plan["lead_id"])
        assert "score" not in json.dumps(lead["fields"])

        pending = await _ok(person, "list-approvals", state="pending")
        (approval,) = pending["approvals"]
        decision = {
            "approval_id": approval["approval_id"],
            "subject_hash": approval["subject_hash"],
            "decision": "approve",
            "mode": "commit",
        }
        assert (await _refused(agent, "decide-approval", **decision, idempotency_key="no"))["reason"] == "SCOPE_MISSING"
        await _ok(person, "decide-approval", **decision, idempotency_key="a1")

        done = await _ok(agent, "qualify-lead", plan_id=plan["plan_id"], mode="commit", idempotency_key="q2")
        assert done["applied"]
        lead = await _ok(agent, "get-record", record_id=plan["lead_id"])
        assert (lead["fields"]["score"], lead["fields"]["tier"], lead["fields"]["status"]) == (85, "A", "qualified")
        assert lead["fields"]["owner_id"] == plan["owner"]["member_id"]

        contacts = [{"email": "jane@example.com"}]
        preview = await _ok(agent, "enroll", workflow_id=WORKFLOW, contacts=contacts)
        assert preview["enrolled_count"] == 1
        first = await _ok(agent, "enroll", workflow_id=WORKFLOW, contacts=contacts, mode="commit", idempotency_key="e1")
        replay = await _ok(
            agent, "enroll", workflow_id=WORKFLOW, contacts=contacts, mode="commit", idempotency_key="e1"
        )
        assert (first["replayed"], replay["replayed"]) == (False, True)
        assert first["enrolled"] == replay["enrolled"]
        other = await _refused(
            agent,
            "enroll",
            workflow_id=WORKFLOW,
            contacts=[{"email": "kim@example.com"}],
            mode="commit",
            idempotency_key="e1",
        )
        assert other["reason"] == "IDEMPOTENCY_CONFLICT"

        await core.settle()
        told = await _ok(agent, "get-enrollment", enrollment_id=first["enrolled"][0]["enrollment_id"])
        assert told["state"] == "exited"
        assert told["trace"]
    bodies = [request.json() for request in receiver.received]
    (hot,) = [body for body in bodies if body["type"] == "nurture.hot_lead"]
    assert hot["data"]["email"] == "jane@example.com"
    assert hot["data"]["score"] == 85
    assert {body["type"] for body in bodies} == {"nurture.hot_lead", "lead.qualified", "enrollment.created"}


async def test_an_agent_over_stdio_reaches_the_running_core_it_finds(
    tmp_path: Path, postgresql_server: str, anyio_backend: str
) -> None:
    server = ServerProcess(tmp_path, f"sqlite:///{tmp_path / 'dripstone.db'}")
    await server.start()
    async with _stdio(tmp_path, "auto") as agent:
        assert "qualify-lead" in {tool.name for tool in (await agent.list_tools()).tools}
        made = await _ok(agent, "list-workflows")
        assert made["workflows"] == []
    assert await server.terminate() == 0


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_an_agent_over_stdio_gets_a_core_of_its_own_when_none_runs(
    tmp_path: Path, mode: Mode, anyio_backend: str
) -> None:
    async with _stdio(tmp_path, mode) as agent:
        refused = await _refused(agent, "get-record", record_id="cnt_nobody")
        assert refused["reason"] == "NOT_FOUND"


@asynccontextmanager
async def _stdio(data_dir: Path, mode: Mode) -> AsyncIterator[McpClient]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for name in ("DRIPSTONE_TARGET", "DRIPSTONE_API_KEY"):
        environment.pop(name, None)
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "core", "mcp", "--data-dir", str(data_dir)], env=environment
    )
    async with McpClient(parameters, mode=mode) as client:
        yield client
