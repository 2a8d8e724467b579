"""The MCP endpoint of the gateway, which comes up when it is first asked, or once the process has time for it.

The libraries behind it are a third of all there is to load. Who asks while they are loaded waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import structlog
from starlette.types import Receive, Scope, Send

from core import loading

if TYPE_CHECKING:
    from mcp_server.app import Endpoint

_log = structlog.get_logger()


class McpEndpoint:
    """An ASGI application that serves inside `async with endpoint.running()`."""

    def __init__(self, target: str, *, allowed_hosts: Sequence[str] = ()):
        """Serve the core at `target`, under these Host headers beside loopback's."""
        self._target = target
        self._allowed_hosts = allowed_hosts
        self._wanted = asyncio.Event()
        self._ending = asyncio.Event()
        self._up: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()

    async def up(self) -> Endpoint:
        """Return the endpoint; the first who asks has it loaded."""
        self._wanted.set()
        return await asyncio.shield(self._up)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        endpoint = await self.up()
        await endpoint(scope, receive, send)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be there to be asked until the block ends."""
        # In a task of its own: what the endpoint opens must be closed by the task that opened it.
        serving = asyncio.create_task(self._serve(), name="mcp")
        try:
            yield
        finally:
            self._ending.set()
            self._wanted.set()
            await serving
            self._up.cancel()

    async def _serve(self) -> None:
        await self._wanted.wait()
        if self._ending.is_set():
            return
        try:
            endpoint = await asyncio.to_thread(_loaded, self._target, self._allowed_hosts)
            async with endpoint.running():
                self._up.set_result(endpoint)
                await self._ending.wait()
        except Exception as error:
            _log.exception("the MCP endpoint cannot be served")
            if not self._up.done():
                self._up.set_exception(error)


def _loaded(target: str, allowed_hosts: Sequence[str]) -> Endpoint:
    """Return the endpoint, with all that takes time done in this thread."""
    app, server = loading.load("mcp_server.app"), loading.load("mcp_server.server")
    server.describe_tools()
    made: Endpoint = app.Endpoint(target, allowed_hosts=allowed_hosts)
    return made
