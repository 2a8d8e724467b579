"""Where webhooks arrive in tests: a server on the loopback address that remembers what came and answers as told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass
class Received:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, Any]:
        """Return the body, which is a JSON object."""
        return dict(json.loads(self.body))


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """An HTTP server that remembers what it got and answers as told."""

    base: str = ""
    received: list[Received] = field(default_factory=list)
    answers: dict[str, int | tuple[int, dict[str, str]] | Handler] = field(default_factory=dict)
    """Path to a status, a (status, headers) pair, or a handler; 204 where nothing is told."""
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """An address of it that a webhook may go to."""
        return self.base + "/"

    async def start(self) -> None:
        """Listen on any free port."""
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, shutdown_timeout=0, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop listening; what came is kept."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.path, headers, body))
        answer = self.answers.get(request.path, 204)
        if callable(answer):
            return await answer(request)
        status, extra = answer if isinstance(answer, tuple) else (answer, {})
        return web.Response(status=status, headers=extra)

    def ids(self, path: str = "/") -> list[str]:
        """Return the ids of the messages that came to a path, in order."""
        return [request.headers["webhook-id"] for request in self.received if request.path == path]


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver()
    await receiver.start()
    yield receiver
    await receiver.stop()


@dataclass
class Held:
    """An answer that is given only when the test releases it."""

    status: int = 200
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, _request: web.Request) -> web.StreamResponse:
        """Say that the request arrived, then wait."""
        self.arrived.set()
        await self.release.wait()
        return web.Response(status=self.status)
