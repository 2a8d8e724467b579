"""The web server of a process: the gateway's application with the MCP endpoint. Loaded only where one is served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Sequence

import uvicorn
from starlette.routing import Route

from core.gateway.app import build_app
from core.rpc.methods import Method
from core.rpc.pipeline import Pipeline
from core.settings import Settings
from mcp_server.app import Endpoint

_DRAIN_SECONDS = 5


class WebServer(uvicorn.Server):
    """Uvicorn inside our own loop: signals are the bootstrap's."""

    def __init__(self, config: uvicorn.Config):
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def web_server(
    pipeline: Pipeline,
    methods: Sequence[Method],
    settings: Settings,
    *,
    mcp_target: str,
    ready: Callable[[], Awaitable[bool]],
    host: str,
    port: int,
) -> WebServer:
    """Return the server of one process; `mcp_target` is the gRPC address that its MCP endpoint calls."""
    mcp = Endpoint(mcp_target, allowed_hosts=settings.allowed_hosts)
    app = build_app(pipeline, methods, ready=ready, mounts=[Route("/mcp", mcp)], lifespans=[mcp.running])
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
            timeout_graceful_shutdown=_DRAIN_SECONDS,
            lifespan="on",
        )
    )
