"""The approval card: reachable from its tool, complete in itself, and never markup that others wrote."""

from __future__ import annotations

import re

import pytest
from mcp import Client
from mcp.server.apps import APP_MIME_TYPE

from dripstone.v1.client import Client as CoreClient
from mcp_server.server import build_server
from tests.mcp_server.whole import agent_of, guard
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

CARD = "ui://dripstone/approval"


async def test_the_card_belongs_to_the_list_of_approvals_whose_text_stands_alone(core: RunningCore) -> None:
    await guard(core, "EnrollmentService.EnrollContacts")
    async with agent_of(core) as agent, agent_of(core, core.approver_api_key) as person:
        enroll = {"workflow_id": "nurture", "contacts": [{"email": "ada@example.com"}], "mode": "commit"}
        wanted = await agent.refused("enroll", **enroll)
        approver = person.client
        tools = (await approver.list_tools()).tools
        assert {tool.name for tool in tools if tool.meta} == {"list-approvals"}
        assert next(tool.meta for tool in tools if tool.meta) == {"ui": {"resourceUri": CARD}}
        told = await approver.call_tool("list-approvals", {})
        for part in (wanted["approval_id"], "EnrollContacts", "subject_hash ", "asked by"):
            assert part in told.content[0].text
        (page,) = (await approver.read_resource(CARD)).contents
    assert page.mime_type == APP_MIME_TYPE
    assert page.meta == {
        "ui": {
            "csp": {"connectDomains": [], "resourceDomains": [], "frameDomains": [], "baseUriDomains": []},
            "prefersBorder": True,
        }
    }
    html = page.text
    assert len(html) < 10_000
    assert "default-src 'none'" in html
    assert not re.search(r"https?://|//[a-z]|<(script|link|img|iframe)[^>]* (src|href)=|@import|url\(", html)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", html)
    assert 'name: "decide-approval"' in html


async def test_a_server_without_the_tool_serves_no_card() -> None:
    nobody = CoreClient("127.0.0.1:1", None)
    async with Client(build_server(lambda _: nobody, toolsets=["read"])) as agent:
        assert "io.modelcontextprotocol/ui" not in (agent.server_capabilities.extensions or {})
        assert "io.modelcontextprotocol/tasks" not in (agent.server_capabilities.extensions or {})
