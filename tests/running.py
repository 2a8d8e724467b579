"""A whole core in this process for tests: real servers, a hand-turned clock, loops turned by the test."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import httpx2

from core import logging_setup, provisioning
from core.bootstrap import Core
from core.clock import ManualClock
from core.provisioning import Provisioned
from core.settings import Settings
from dripstone.v1.client import Client

NO_ROOTS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that speak plain HTTP on this machine: reading root certificates takes longer than most tests' calls."""


@dataclass(frozen=True, slots=True)
class RunningCore:
    """A core with its organization; time stands still and nothing moves unless the test says so."""

    core: Core
    clock: ManualClock
    organization: Provisioned

    @property
    def grpc_target(self) -> str:
        """Where gRPC is served."""
        return self.core.grpc_target

    @property
    def http_url(self) -> str:
        """Where HTTP is served."""
        return self.core.http_url

    @property
    def mcp_url(self) -> str:
        """Where MCP is served."""
        return f"{self.core.http_url}/mcp"

    @property
    def api_key(self) -> str:
        """A service key with every scope."""
        return self.organization.api_key

    @property
    def agent_key(self) -> str:
        """An agent's key."""
        return self.organization.agent_key

    @property
    def approver_api_key(self) -> str:
        """The key of a member who decides approvals."""
        return self.organization.approver_key

    def client(self, key: str = "") -> Client:
        """Return a gRPC client, of the service unless another key is given."""
        return Client(self.grpc_target, key or self.api_key)

    def http(self, key: str = "") -> httpx2.AsyncClient:
        """Return an HTTP client, of the service unless another key is given."""
        headers = {"Authorization": f"Bearer {key or self.api_key}"}
        return httpx2.AsyncClient(base_url=self.http_url, headers=headers, timeout=10, verify=NO_ROOTS)

    async def settle(self) -> None:
        """Turn every loop until nothing is left to do at this instant."""
        core = self.core
        while True:
            handled = await core.starter.turn() + await core.matcher.turn() + await core.ticker.turn()
            handled += await core.outward.importer.turn()
            handled += await core.outward.replayer.drain() + await core.outward.syncer.drain()
            handled += await core.outward.dispatcher.drain() + await core.outward.mailer.drain()
            if not handled:
                return

    async def pass_time(self, by: timedelta) -> None:
        """Let time pass in one leap, then settle."""
        self.clock.advance(by)
        await self.core.outward.scheduler.turn()
        await self.settle()


@asynccontextmanager
async def running(
    database_url: str, data_dir: Path, clock: ManualClock, *, requests_per_second: float = 500.0, **more: Any
) -> AsyncIterator[RunningCore]:
    """Run a core on an empty database: its servers serve, its loops wait to be turned; `more` are settings of it."""
    logging_setup.configure("warning")
    settings = Settings(
        database_url=database_url,
        data_dir=data_dir,
        roles=frozenset({"grpc", "http"}),
        grpc_listen="127.0.0.1:0",
        http_listen="127.0.0.1:0",
        allowed_destinations=(ip_network("127.0.0.0/8"),),
        drain_seconds=2,
        requests_per_second=requests_per_second,
        **more,
    )
    core = await Core.open(settings, clock)
    await core.start()
    try:
        organization = await provisioning.create_organization(core.database, "Acme", "Europe/Berlin")
        yield RunningCore(core, clock, organization)
    finally:
        await core.stop()
