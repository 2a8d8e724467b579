"""The web server of a process: the gateway's application with the MCP endpoint. Loaded only where one is served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

import grpc
import uvicorn
from starlette.routing import Route

from core.gateway.app import build_app
from core.gateway.mcp_endpoint import McpEndpoint, state_keys
from core.gateway.protected_resource import protected_resource
from core.rpc.methods import Method
from core.rpc.pipeline import Pipeline
from core.settings import Settings
from mcp_server.deployment import Deployment
from mcp_server.views import ROOT

_DRAIN_SECONDS = 5
_LOOKS_EVERY = 0.005
"""Seconds between two looks at whether the last connection has closed."""


class WebServer(uvicorn.Server):
    """Uvicorn inside our own loop: signals are the bootstrap's, and nobody waits for its next tick when it ends."""

    def __init__(self, config: uvicorn.Config, mcp: McpEndpoint):
        super().__init__(config)
        self.mcp = mcp
        self.listening = asyncio.Event()
        self._leaving = asyncio.Event()

    def leave(self) -> None:
        """Refuse new connections, finish the requests under way and end."""
        self._leaving.set()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to leave; whoever waits until it listens hears of a start that comes to nothing, too."""
        try:
            await super().serve(sockets)
        finally:
            self.listening.set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.listening.set()

    async def main_loop(self) -> None:
        """Serve until told to leave; once a second the date of the answers is set."""
        while not self._leaving.is_set():
            await self.on_tick(0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._leaving.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End: idle connections at once, the others after their answers or when the time to drain is over."""
        for listener in (*self.servers, *(sockets or ())):
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while state.connections or state.tasks:  # noqa: ASYNC110 -- uvicorn tells nobody of the last one
                    await asyncio.sleep(_LOOKS_EVERY)
        except TimeoutError:
            for task in state.tasks:
                task.cancel()
        await self.lifespan.shutdown()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def web_server(
    pipeline: Pipeline,
    methods: Sequence[Method],
    settings: Settings,
    *,
    channel: grpc.aio.Channel,
    ready: Callable[[], Awaitable[bool]],
    host: str,
    port: int,
) -> WebServer:
    """Return the server of one process; `channel` is the one that its MCP endpoint calls."""
    mcp = McpEndpoint(channel, _deployment(settings), state_keys=partial(state_keys, pipeline.parts.vault.keys))
    mounts = [Route(ROOT, mcp), Route(ROOT + "/{view:path}", mcp), *protected_resource(pipeline.parts.database, mcp)]
    app = build_app(pipeline, methods, ready=ready, mounts=mounts, lifespans=[mcp.running])
    return WebServer(
        uvicorn.Config(
            app,
            host=host,
            port=port,
            log_config=None,  # as everything else here is logged
            log_level="warning",
            access_log=False,
            server_header=False,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
            lifespan="on",
        ),
        mcp,
    )


def _deployment(settings: Settings) -> Deployment:
    return Deployment(
        allowed_hosts=settings.allowed_hosts,
        toolsets=settings.mcp_toolsets,
        read_only=settings.mcp_read_only,
        token_audiences=settings.token_audiences,
    )
