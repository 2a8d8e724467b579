"""An agent in front of a whole core, for what a stand-in cannot know: compiling, simulating, watching."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp import Client

from dripstone.v1.client import Client as CoreClient
from mcp_server.callers import Callers
from mcp_server.protocol import register
from mcp_server.server import build_server, served_tools
from mcp_server.subscriptions import Subscriptions
from tests.mcp_server.conftest import Agent
from tests.running import RunningCore


@asynccontextmanager
async def agent_of(core: RunningCore, key: str = "", era: str = "auto", **more: Any) -> AsyncIterator[Agent]:
    """Connect an agent with a key to a core, by the server as it is built for stdio."""
    async with (
        CoreClient(core.grpc_target, key or core.api_key) as client,
        Client(build_server(lambda _: client), mode=era, **more) as connected,
    ):
        yield Agent(connected)


@asynccontextmanager
async def watcher_of(
    core: RunningCore, key: str = "", era: str = "auto", *, monotonic: Any = None, **more: Any
) -> AsyncIterator[Client]:
    """Connect a client whose watched resources are looked at all the time."""
    async with CoreClient(core.grpc_target, key or core.api_key) as client:
        callers = Callers(lambda _: client, **({"monotonic": monotonic} if monotonic else {}))
        server = build_server(lambda _: client, callers=callers)
        tools = {tool.name: tool for tool in served_tools()}
        register(server, callers, tools, Subscriptions(callers, look_seconds=0.01, check_seconds=0.01))
        async with Client(server, mode=era, **more) as connected:
            yield connected
