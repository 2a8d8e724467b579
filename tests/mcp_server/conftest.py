"""A core to talk to, and an agent that talks to it through MCP in each era of the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest
from mcp import Client
from mcp.types import CallToolResult, ElicitResult

from core import provisioning
from core.clock import ManualClock
from dripstone.v1 import workflow_pb2
from dripstone.v1.client import Client as CoreClient
from mcp_server.server import build_server
from tests.databases import START, Databases
from tests.mcp_server.failing import Failing, failing
from tests.running import RunningCore, running

NURTURE = """
title: Nurture for trials
steps:
  - {id: pause, kind: wait, for: 2d}
  - {id: tell, kind: webhook, event_type: nurture.told, data: {email: "{{ contact.email }}"}}
"""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Run async tests on asyncio; for a module at once, whose tests share a core."""
    return "asyncio"


@pytest.fixture(scope="module")
async def home(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory, anyio_backend: str
) -> AsyncIterator[RunningCore]:
    """Return the core of a module: to start one takes longer than most tests here."""
    folder = tmp_path_factory.mktemp("core")
    url = databases.on_sqlite(folder / "dripstone.db", "migrated")
    async with running(url, folder, ManualClock(START), requests_per_second=1_000_000) as started:
        yield started


@pytest.fixture
async def core(home: RunningCore) -> RunningCore:
    """Return the module's core with an organization of this test's own in it."""
    return await moved_in(home)


async def moved_in(home: RunningCore) -> RunningCore:
    """Return a core as a new organization sees it."""
    organization = await provisioning.create_organization(home.core.database, "Acme", "Europe/Berlin")
    return replace(home, organization=organization)


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


async def agreeing(_context: Any, _params: Any) -> ElicitResult:
    """Answer every question of a client as a person who says yes."""
    return ElicitResult(action="accept", content={"confirm": True})


@asynccontextmanager
async def connected(target: str, key: str, era: str, person: Any = None) -> AsyncIterator[Agent]:
    """Connect an agent with a key to a core, by an MCP server in memory; its client may have a `person` to ask."""
    async with (
        CoreClient(target, key) as client,
        Client(build_server(lambda _: client), mode=era, elicitation_callback=person) as told,
    ):
        yield Agent(told)


@pytest.fixture(scope="module")
async def idle(home: RunningCore) -> AsyncIterator[Agent]:
    """Return an agent before a workflow `nurture`, for all tests of a module whose calls change nothing."""
    core = await moved_in(home)
    async with core.client() as client:
        await client.workflows.CreateWorkflow(
            workflow_pb2.CreateWorkflowRequest(workflow_id="nurture", source=NURTURE, publish=True)
        )
    async with connected(core.grpc_target, core.api_key, "auto") as asked:
        yield asked


@dataclass(frozen=True, slots=True)
class Broken:
    """An agent before a core that answers with whatever error a test sets."""

    core: Failing
    agent: Agent


@pytest.fixture(scope="module")
async def broken(anyio_backend: str) -> AsyncIterator[Broken]:
    """Return an agent whose every call of the core fails."""
    async with failing() as core, connected(core.target, "dripstone_live_agent", "auto") as working:
        yield Broken(core, working)


@pytest.fixture
async def agent(core: RunningCore, era: str) -> AsyncIterator[Agent]:
    """Return an agent with the key of a service."""
    async with connected(core.grpc_target, core.api_key, era) as working:
        yield working


@pytest.fixture
async def approver(core: RunningCore, era: str) -> AsyncIterator[Agent]:
    """Return the agent of the person that decides."""
    async with connected(core.grpc_target, core.approver_api_key, era, agreeing) as deciding:
        yield deciding
