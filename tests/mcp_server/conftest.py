"""A core to talk to, and an agent that talks to it through MCP in each era of the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from mcp import Client
from mcp.types import CallToolResult

from dripstone.v1.client import Client as CoreClient
from mcp_server.server import build_server
from tests.mcp_server import stand_in_services
from tests.mcp_server.stand_in import StandIn


@pytest.fixture
async def core(anyio_backend: str) -> AsyncIterator[StandIn]:
    """Return a running core; only its addresses and keys are used by tests of the whole story."""
    async with stand_in_services.running() as running:
        yield running


class Agent:
    """An agent with one key."""

    def __init__(self, client: Client):
        self.client = client

    async def call(self, tool: str, **arguments: Any) -> CallToolResult:
        """Call a tool and return the whole result."""
        return await self.client.call_tool(tool, arguments)

    async def ok(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must work; return what it answered."""
        result = await self.call(tool, **arguments)
        assert not result.is_error, result.content
        assert result.structured_content is not None
        return result.structured_content

    async def refused(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool that must refuse; return the error."""
        result = await self.call(tool, **arguments)
        assert result.is_error, result.structured_content
        assert result.structured_content is not None
        error: dict[str, Any] = result.structured_content["error"]
        text = result.content[0].text
        assert error["reason"] in text
        assert error["next"] in text
        return error


@pytest.fixture(params=["auto", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    """Run a test in both eras of the protocol."""
    return str(request.param)


@asynccontextmanager
async def connected(target: str, key: str, era: str) -> AsyncIterator[Agent]:
    """Connect an agent with a key to a core, by an MCP server in memory."""
    async with (
        CoreClient(target, key) as client,
        Client(build_server(lambda _: client), mode=era) as told,
    ):
        yield Agent(told)


@pytest.fixture
async def agent(core: StandIn, era: str) -> AsyncIterator[Agent]:
    """Return an agent with the ordinary key."""
    async with connected(core.grpc_target, core.api_key, era) as working:
        yield working


@pytest.fixture
async def approver(core: StandIn, era: str) -> AsyncIterator[Agent]:
    """Return the agent of the person that decides."""
    async with connected(core.grpc_target, core.approver_api_key, era) as deciding:
        yield deciding
