"""What the suites are pointed at: the product's endpoint and the fixtures', before a whole core of their own."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from core.clock import ManualClock
from mcp_server.app import Endpoint
from mcp_server.deployment import Deployment
from tests.conformance.fixture_server import FixtureEndpoint
from tests.running import running

STATE_KEY = b"only for the conformance suite, 1"


@dataclass(frozen=True, slots=True)
class Served:
    """Where it is served, on loopback only."""

    product: str
    fixtures: str
    own: str
    """The product at its own address, which wants the key."""
    key: str
    target: str
    """The core, for a server over standard input and output."""


@asynccontextmanager
async def served() -> AsyncIterator[Served]:
    """Serve everything on a free port until the block ends."""
    with TemporaryDirectory() as folder:
        clock = ManualClock(datetime(2026, 3, 2, 9, tzinfo=UTC))
        url = f"sqlite+aiosqlite:///{folder}/dripstone.db"
        async with running(url, Path(folder), clock, requests_per_second=1e6) as core:
            app = _with_key(_app(core.grpc_target), core.api_key)
            async with listening(app) as address:
                yield Served(f"{address}/product", f"{address}/fixtures", core.mcp_url, core.api_key, core.grpc_target)


@asynccontextmanager
async def listening(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an application on a free port of loopback; return its address."""
    server = Announcing(uvicorn.Config(app, log_level="error", lifespan="on"))
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [bound])
            await server.up.wait()
            try:
                yield f"http://127.0.0.1:{bound.getsockname()[1]}"
            finally:
                server.should_exit = True


class Announcing(uvicorn.Server):
    """A server that says when it serves."""

    def __init__(self, config: uvicorn.Config):
        super().__init__(config)
        self.up = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        self.up.set()


def _app(target: str) -> Starlette:
    deployment = Deployment(state_keys=(STATE_KEY,))
    product, fixtures = Endpoint(target, deployment), FixtureEndpoint(target, deployment)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with product.running(), fixtures.running():
            yield

    routes = [
        Route(path + below, endpoint)
        for path, endpoint in (("/product", product), ("/fixtures", fixtures))
        for below in ("", "/{view:path}")
    ]
    return Starlette(routes=routes, lifespan=lifespan)


def _with_key(app: ASGIApp, key: str) -> ASGIApp:
    """Put the key on each request: the suite has no way to be told of one."""

    async def keyed(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope["headers"] = [*scope["headers"], (b"authorization", f"Bearer {key}".encode())]
        await app(scope, receive, send)

    return keyed
