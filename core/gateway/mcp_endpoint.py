"""The MCP endpoint of the gateway, which comes up when it is first asked, or once the process has time for it.

The libraries behind it are a third of all there is to load. Who asks while they are loaded waits.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from starlette.types import Receive, Scope, Send

from core import loading
from core.store.systems.master_keys import MasterKeys, NoMasterKeys
from mcp_server.deployment import Deployment

if TYPE_CHECKING:
    import grpc

    from mcp_server.app import Endpoint

_log = structlog.get_logger()
_PURPOSE = b"dripstone: state of MCP calls between rounds"


class McpEndpoint:
    """An ASGI application that serves inside `async with endpoint.running()`."""

    base_url: str
    """Under which clients reach this process; known once it listens, and told before anybody can ask."""

    def __init__(
        self,
        target: str | grpc.aio.Channel,
        deployment: Deployment | None = None,
        *,
        state_keys: Callable[[], Sequence[bytes]] = tuple,
    ):
        """Serve the core behind a channel or at an address.

        `state_keys` is asked when the endpoint comes up, and may read files.
        """
        self.base_url = ""
        self._target = target
        self._deployment = deployment or Deployment()
        self._state_keys = state_keys
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
        """Serve once somebody asks; what fails is told to who waits, and tried anew for who asks next."""
        while not self._ending.is_set():
            await self._wanted.wait()
            if self._ending.is_set():
                return
            try:
                endpoint = await asyncio.to_thread(self._loaded)
                async with endpoint.running():
                    self._up.set_result(endpoint)
                    await self._ending.wait()
            except Exception as error:
                _log.exception("the MCP endpoint cannot be served")
                failed, self._up = self._up, asyncio.get_running_loop().create_future()
                self._wanted.clear()
                if not failed.done():
                    failed.set_exception(error)
                    failed.exception()  # logged above, should nobody wait any more

    def _loaded(self) -> Endpoint:
        """Return the endpoint, with all that takes time done in this thread."""
        app, server = loading.load("mcp_server.app"), loading.load("mcp_server.server")
        server.describe_tools()
        decided = replace(self._deployment, base_url=self.base_url, state_keys=tuple(self._state_keys()))
        made: Endpoint = app.Endpoint(self._target, decided)
        return made


def state_keys(masters: MasterKeys | None) -> tuple[bytes, ...]:
    """Return the keys under which any process of this deployment continues a call that another began.

    They follow from the master keys. Where there are none, none are made for it: a single process does without.
    """
    if masters is None or not (masters.are_given or masters.file.exists()):
        return ()
    try:
        return tuple(hmac.digest(master.secret, _PURPOSE, "sha256") for master in masters.all())
    except NoMasterKeys:
        return ()
