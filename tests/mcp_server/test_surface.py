"""The surface is a contract with every agent: any change shows in the two JSON files, within a token budget.

After an intended change: DRIPSTONE_WRITE_SURFACE=1 pytest tests/mcp_server/test_surface.py
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pool

from dripstone.v1 import options_pb2
from dripstone.v1.client import Client as CoreClient
from mcp_server.instructions import instructions
from mcp_server.prompts import PROMPTS
from mcp_server.resources import DOCUMENTS, KINDS
from mcp_server.server import build_server, served_tools
from mcp_server.tools import TOOLSETS

pytestmark = pytest.mark.anyio

SURFACE = Path(__file__).with_name("tool_surface.json")
BESIDE = Path(__file__).with_name("surface_beside_tools.json")
LISTING_TOKENS, RESULT_TOKENS, INSTRUCTION_TOKENS = 6_000, 1_500, 300


def tokens(value: Any) -> float:
    """Return about how many tokens a value costs: characters divided by four."""
    return len(value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))) / 4


async def listing() -> list[dict[str, Any]]:
    server = build_server(lambda _: CoreClient("127.0.0.1:1", None))
    return [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in await server.list_tools()]


def beside_tools() -> dict[str, Any]:
    """Return what else agents are told of: instructions, prompts, resources and their templates."""
    return {
        "instructions": instructions(served_tools()),
        "prompts": [asdict(one) for one in PROMPTS],
        "resources": [
            {"uri": one.uri, "title": one.title, "description": one.description, "methods": one.methods}
            for one in DOCUMENTS
        ],
        "templates": [
            {"uri": one.template, "title": one.title, "description": one.description, "methods": one.methods}
            for one in KINDS
        ],
    }


async def test_the_surface_is_the_one_agents_know() -> None:
    for path, found in ((SURFACE, await listing()), (BESIDE, beside_tools())):
        told = json.dumps(found, indent=1) + "\n"
        if os.environ.get("DRIPSTONE_WRITE_SURFACE"):
            path.write_text(told)
        assert json.loads(told) == json.loads(path.read_text())


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
