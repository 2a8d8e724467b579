"""A stand-in of a system that carries direct messages: a real HTTP server with accounts, limits and replies.

It does what such systems document: it knows its people, sends a repeated request under one key once, answers 429 with
Retry-After when it is asked too often, and tells of replies by webhooks signed as Standard Webhooks.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import httpx2
from aiohttp import web
from standardwebhooks import Webhook

from core.clock import ManualClock

TOKEN = "dm-account-token"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Sent:
    """A message that it took."""

    id: str
    handle: str
    text: str
    at: datetime


@dataclass
class Account:
    """An account of the system, and everything that happened to it."""

    clock: ManualClock
    people: set[str] = field(default_factory=set)
    per_minute: int = 1_000
    replies_to: str = ""
    """Where webhooks of replies go."""
    sent: list[Sent] = field(default_factory=list)
    requests: list[web.BaseRequest] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    """Statuses of the requests that it did not take."""
    base: str = ""
    hold: asyncio.Event | None = None
    """While it is there and not set, every answer waits."""
    at_once: int = 0
    most_at_once: int = 0
    two: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once two requests are there at the same time."""
    broken: int = 0
    """How many of the next requests it fails."""
    loses: int = 0
    """How many of the next messages it takes, but its answer gets lost."""
    _by_key: dict[str, Sent] = field(default_factory=dict)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Take a message, or say why not."""
        self.requests.append(request)
        body = await request.read()
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        if self.at_once == 2:
            self.two.set()
        try:
            if self.hold is not None:
                await self.hold.wait()
            return self._answer(request, body)
        finally:
            self.at_once -= 1

    def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return self._refuse(401, "unauthorized", "the token is not valid")
        if self.broken:
            self.broken -= 1
            return self._refuse(500, "internal", "try again")
        key = request.headers.get("idempotency-key", "")
        if key in self._by_key:
            return web.json_response({"id": self._by_key[key].id, "status": "sent"})
        now = self.clock.now()
        if len([one for one in self.sent if now - one.at < timedelta(minutes=1)]) >= self.per_minute:
            return self._refuse(429, "too_many_requests", "slow down", {"Retry-After": "30"})
        handle = request.match_info["handle"]
        if handle not in self.people:
            return self._refuse(404, "no_such_user", f"there is no {handle}")
        sent = Sent(f"dm_{len(self.sent) + 1}", handle, json.loads(body)["text"], now)
        self.sent.append(sent)
        self._by_key[key] = sent
        if self.loses:
            self.loses -= 1
            return self._refuse(502, "bad_gateway", "lost")
        return web.json_response({"id": sent.id, "status": "sent"}, status=201)

    def _refuse(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> web.StreamResponse:
        self.refused.append(status)
        return web.json_response({"error": {"code": code, "message": message}}, status=status, headers=headers)

    async def reply(self, handle: str, text: str) -> int:
        """Let somebody answer the last message to them; return what the webhook's receiver said."""
        last = next(one for one in reversed(self.sent) if one.handle == handle)
        number = len(self._by_key) + len(text)
        event = {"type": "dm.received", "data": {"from": handle, "text": text, "in_reply_to": last.id}}
        body, message_id = json.dumps(event), f"in_{number}_{handle}"
        signature = Webhook(SECRET).sign(message_id, self.clock.now(), body)
        headers = {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(self.clock.now().timestamp())),
            "webhook-signature": signature,
            "content-type": "application/json",
        }
        async with httpx2.AsyncClient() as http:
            return (await http.post(self.replies_to, content=body, headers=headers)).status_code


@asynccontextmanager
async def direct_messages(clock: ManualClock) -> AsyncIterator[Account]:
    """Run the system with one account."""
    account = Account(clock)
    application = web.Application()
    application.router.add_post("/v1/people/{handle}/messages", account.take)
    runner = web.AppRunner(application, shutdown_timeout=0, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    account.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield account
    if account.hold is not None:
        account.hold.set()
    await runner.cleanup()
