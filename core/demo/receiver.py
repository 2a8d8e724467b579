"""A receiver of webhooks on this machine: checks each signature as any Standard Webhooks receiver would."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any

from aiohttp import web

from core.domain.webhooks import signing


class Receiver:
    """Listens on a port of its own, verifies what arrives and hands it out."""

    def __init__(self, now: Callable[[], datetime]):
        self._now = now
        self._runner: web.AppRunner | None = None
        self._arrived: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.secret = ""
        self.url = ""

    async def start(self) -> None:
        """Listen on any free port of the loopback address."""
        app = web.Application()
        app.router.add_post("/hooks", self._receive)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/hooks"

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def next_of(self, event_type: str) -> dict[str, Any]:
        """Return the next arrival of a type; others are passed over."""
        while True:
            arrival = await self._arrived.get()
            if arrival["type"] == event_type:
                return arrival

    async def _receive(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            signing.verify(self.secret, request.headers, body, self._now())
        except signing.VerificationFailed:
            return web.Response(status=401)
        payload = await request.json()
        self._arrived.put_nowait({**payload, "id": request.headers["webhook-id"]})
        return web.Response(status=204)
