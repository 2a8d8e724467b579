"""The tool surface is a contract with every agent: any change shows in tool_surface.json, within a token budget.

After an intended change: DRIPSTONE_WRITE_SURFACE=1 pytest tests/mcp_server/test_surface.py
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool

from dripstone.v1 import options_pb2
from dripstone.v1.client import Client as CoreClient
from mcp_server.instructions import instructions
from mcp_server.server import build_server, served_tools
from mcp_server.tools import TOOLSETS
from tests.mcp_server.conftest import Agent
from tests.mcp_server.stand_in import StandIn

pytestmark = pytest.mark.anyio

SURFACE = Path(__file__).with_name("tool_surface.json")
LISTING_TOKENS, RESULT_TOKENS, INSTRUCTION_TOKENS = 6_000, 1_500, 300


def tokens(value: Any) -> float:
    """Return about how many tokens a value costs: characters divided by four."""
    return len(value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))) / 4


async def listing() -> list[dict[str, Any]]:
    server = build_server(lambda _: CoreClient("127.0.0.1:1", None))
    return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in await server.list_tools()]


async def test_the_tool_surface_is_the_one_agents_know() -> None:
    found = await listing()
    if os.environ.get("DRIPSTONE_WRITE_SURFACE"):
        SURFACE.write_text(json.dumps(found, indent=1) + "\n")
    assert found == json.loads(SURFACE.read_text())


async def test_listings_and_instructions_keep_their_token_budget() -> None:
    assert tokens({"tools": await listing()}) <= LISTING_TOKENS
    assert tokens(instructions(served_tools())) <= INSTRUCTION_TOKENS


@pytest.mark.parametrize("toolsets", [["read"], ["operate"], ["author"], ["approve"], ["read", "approve"]])
def test_instructions_name_only_tools_that_are_there(toolsets: list[str]) -> None:
    for read_only in (False, True):
        tools = served_tools(toolsets, read_only=read_only)
        absent = {tool.name for tool in served_tools() if tool not in tools}
        named = set(re.findall(r"[a-z]+(?:-[a-z]+)+", instructions(tools)))
        assert not named & absent
        assert ("only reads" in instructions(tools)) == all(tool.annotations.read_only_hint for tool in tools)


async def test_every_tool_says_all_it_must() -> None:
    for tool in await listing():
        assert tool["title"]
        assert len(tool["description"]) <= 400
        assert tool["annotations"].keys() == {"readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint"}
        assert tool["inputSchema"]["additionalProperties"] is False
        assert "next" in tool["outputSchema"]["properties"]
        if not tool["annotations"]["readOnlyHint"]:
            properties = tool["inputSchema"]["properties"]
            assert properties["mode"]["default"] == "preview"
            assert "idempotency_key" in properties


def test_the_four_tools_the_product_exists_for_keep_their_names() -> None:
    assert [tool.name for toolset in TOOLSETS if toolset.name == "operate" for tool in toolset.tools][:4] == [
        "qualify-lead",
        "enroll",
        "update-record",
        "execute-workflow",
    ]


def is_a_look(said: Any) -> bool:
    access, scope = said[options_pb2.access], said[options_pb2.scope]
    return access == options_pb2.ACCESS_READ or (access == options_pb2.ACCESS_OUTSIDE and scope.endswith(":read"))


def test_a_read_only_tool_calls_no_method_that_writes() -> None:
    pool = descriptor_pool.Default()
    for tool in (tool for toolset in TOOLSETS for tool in toolset.tools):
        methods = [pool.FindMethodByName(f"dripstone.v1.{method}") for method in tool.methods]
        looks = all(is_a_look(method.GetOptions().Extensions) for method in methods)
        assert looks == tool.annotations.read_only_hint, tool.name
        assert tool.scopes or tool.methods == ("AuditService.GetCall",), tool.name


CALLS: list[tuple[str, dict[str, Any]]] = [
    ("find-records", {}),
    ("get-record", {"record_id": "cnt_1", "history": 20}),
    ("list-workflows", {}),
    ("get-workflow", {"workflow_id": "nurture"}),
    ("get-enrollment", {"enrollment_id": "enr_1"}),
    ("get-execution", {"execution_id": "exe_1"}),
    ("qualify-lead", {"lead_id": "lead_1"}),
    ("enroll", {"workflow_id": "nurture", "contacts": [{"email": f"gone{n}@example.com"} for n in range(200)]}),
    ("update-record", {"record_id": "cnt_1", "fields": {"tier": "A"}}),
    ("execute-workflow", {"workflow_id": "nurture", "input": {"email": "a@example.com"}}),
    ("list-approvals", {}),
]


@pytest.mark.parametrize(("tool", "arguments"), CALLS, ids=[tool for tool, _ in CALLS])
async def test_default_results_keep_their_token_budget(
    agent: Agent, core: StandIn, tool: str, arguments: dict[str, Any]
) -> None:
    core.needs_approval = True
    core.fields = {f"custom_{n}": "x" * 900 for n in range(30)} | {"email": "a@example.com"}
    result = await agent.call(tool, **arguments)
    assert not result.is_error, result.content
    assert tokens(result.content[0].text) <= RESULT_TOKENS
    assert tokens(result.structured_content) <= RESULT_TOKENS
