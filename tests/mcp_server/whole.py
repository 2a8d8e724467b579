"""Agents and watchers before a core, and somebody who must agree to what they call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

from dripstone.v1 import policy_pb2
from dripstone.v1.client import Client as CoreClient
from mcp_server.callers import Callers
from mcp_server.protocol import register
from mcp_server.server import build_server, served_tools
from mcp_server.subscriptions import Subscriptions
from tests.mcp_server.conftest import Agent
from tests.running import NO_ROOTS, RunningCore


async def guard(core: RunningCore, *methods: str, when: str = "") -> None:
    """Let somebody else approve calls of these methods."""
    policy = policy_pb2.Policy(
        id="second-pair",
        description="a person looks at it first",
        methods=methods,
        when=when,
        effect=policy_pb2.POLICY_EFFECT_NEEDS_APPROVAL,
        enabled=True,
    )
    async with core.client() as client:
        await client.approvals.PutPolicy(policy_pb2.PutPolicyRequest(policy=policy))


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


@asynccontextmanager
async def over_the_wire(core: RunningCore, era: str, path: str, key: str = "") -> AsyncIterator[Client]:
    """Connect a client to the MCP endpoint of a core by real HTTP; `path` is what comes after `/mcp`."""
    headers = {"Authorization": f"Bearer {key or core.api_key}"}
    async with (
        httpx2.AsyncClient(headers=headers, verify=NO_ROOTS) as http,
        Client(streamable_http_client(core.mcp_url + path, http_client=http), mode=era) as client,
    ):
        yield client
