"""The story that `make interop` plays with real frameworks, in short: the SDK's client in both eras, over HTTP."""

from __future__ import annotations

from typing import Any, Literal

import httpx2
import pytest
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from core.demo.setting import prepare
from dripstone.v1 import agent_pb2, workflow_pb2
from tests.interop import page
from tests.interop.story import AGENT, APPROVER, BRIEF, EXECUTED, REQUEST, TRUST, Story, played, text_of
from tests.running import NO_ROOTS, RunningCore

pytestmark = pytest.mark.anyio

REVISIONS = {"auto": "2026-07-28", "legacy": "2025-11-25"}


@pytest.mark.one_database
@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_two_principals_play_the_story_to_its_end(core: RunningCore, mode: Literal["auto", "legacy"]) -> None:
    async with core.client() as client, core.http() as http:
        await prepare(client, "http://127.0.0.1:9/hooks")
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id=EXECUTED, source=BRIEF, publish=True)
        )
        (await http.post("/v2/event", json=REQUEST)).raise_for_status()
        (await http.post("/api/v1/policies", json={"policy": TRUST})).raise_for_status()
    story = Story()
    for who in (AGENT, APPROVER, AGENT):
        key = core.agent_key if who == AGENT else core.approver_api_key
        headers = {"Authorization": f"Bearer {key}"}
        async with (
            httpx2.AsyncClient(headers=headers, verify=NO_ROOTS) as http,
            Client(streamable_http_client(core.mcp_url, http_client=http), mode=mode) as agent,
        ):
            assert agent.protocol_version == REVISIONS[mode]

            async def call(tool: str, arguments: dict[str, Any], agent: Client = agent) -> str:
                if tool == "get-execution":
                    await core.settle()
                result = await agent.call_tool(tool, arguments)
                assert not result.is_error, result.content
                return text_of(result.content)

            await played(story, who, call)
    assert story.pending is None
    async with core.client() as client:
        request = agent_pb2.GetExecutionRequest(execution_id=story.result["execution_id"])
        execution = await client.agents.GetExecution(request)
    assert execution.state == agent_pb2.EXECUTION_STATE_SUCCEEDED


def test_the_page_tells_what_was_played_and_what_failed() -> None:
    versions = {"mcp": "2.3.0"}
    told = {"calls": 14, "protocol": "2026-07-28", "result": {}, "seconds": 1.0}
    rows = [
        page.Row("SDK", versions, "auto", "HTTP", told),
        page.Row("Other", versions, "", "stdio", {"failed": "it ended with 1"}),
    ]
    written = page.written(rows)
    assert "| SDK | mcp 2.3.0 | HTTP | auto | 2026-07-28 | 14 | complete |" in written
    assert "| Other | mcp 2.3.0 | stdio | its own | not told |  | failed |" in written
