"""Receivers on loopback, a sender that may reach them, and the few rows a delivery needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from core import ids
from core.clock import ManualClock
from core.delivery.dispatcher import Dispatcher
from core.delivery.http import WebhookSender
from core.domain.effects import Emit
from core.domain.webhooks.addresses import Destinations
from core.store import deliveries, endpoints
from core.store.database import Database
from core.store.deliveries import Emission, FinalDelivery
from core.store.organizations import organizations

ORG = "org_main"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@dataclass
class Received:
    """One request that arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class Receiver:
    """An HTTP server that remembers what it got and answers as told."""

    base: str = ""
    received: list[Received] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    """Path to a status, a (status, headers) pair, or a handler; 204 where nothing is told."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.received.append(Received(request.path, headers, body))
        answer = self.answers.get(request.path, 204)
        if callable(answer):
            return await answer(request)
        status, extra = answer if isinstance(answer, tuple) else (answer, {})
        return web.Response(status=status, headers=extra)

    def ids(self, path: str = "/") -> list[str]:
        return [request.headers["webhook-id"] for request in self.received if request.path == path]


@pytest.fixture
async def receiver(anyio_backend: str) -> AsyncIterator[Receiver]:
    served = Receiver()
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", served.handle)
    runner = web.AppRunner(application, shutdown_timeout=0, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    served.base = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield served
    await runner.cleanup()


@pytest.fixture
async def sender(anyio_backend: str) -> AsyncIterator[WebhookSender]:
    opened = WebhookSender(Destinations.of(["127.0.0.0/8"]), deadline_seconds=5)
    yield opened
    await opened.close()


@dataclass
class Outbox:
    """What a test does to the outbox, and sees of it."""

    database: Database
    clock: ManualClock
    dispatcher: Dispatcher
    finals: list[FinalDelivery]

    async def organization(self, org: str = ORG) -> None:
        row = {"org_id": org, "display_name": org, "timezone": "UTC", "created_at": self.clock.now()}
        async with self.database.system() as tx:
            await tx.insert(organizations, [row], on_conflict="ignore")

    async def endpoint(self, url: str, org: str = ORG, **values: Any) -> str:
        endpoint_id = ids.mint("ep", self.clock.now())
        columns = {"description": "", "event_types": [], "retry_preset": "standard", "secret": SECRET}
        change = {name: values.pop(name) for name in ("state",) if name in values}
        async with self.database.write(org) as tx:
            await endpoints.create(tx, endpoint_id, url=url, **(columns | values))
            if change:
                await endpoints.change(tx, endpoint_id, change)
        return endpoint_id

    async def emit(self, event_type: str = "deal.won", org: str = ORG, **values: Any) -> str:
        message_id = ids.mint("msg", self.clock.now())
        effect = Emit(message_id, event_type, values.pop("data", {"n": 1}), **values)
        async with self.database.write(org) as tx:
            await deliveries.emit(tx, [Emission(org, effect, "enr_1")])
        return message_id

    async def rows(self, org: str = ORG) -> list[Any]:
        async with self.database.read(org) as tx:
            table = deliveries.deliveries
            return list(await tx.all(table.select().order_by(table.c.id)))

    async def only(self, org: str = ORG) -> Any:
        (row,) = await self.rows(org)
        return row

    async def attempts(self, delivery_id: str, org: str = ORG) -> list[Any]:
        async with self.database.read(org) as tx:
            return list(await deliveries.attempts_of(tx, delivery_id))

    async def endpoint_row(self, endpoint_id: str, org: str = ORG) -> Any:
        async with self.database.read(org) as tx:
            return await endpoints.get(tx, endpoint_id)

    async def later(self, **by: float) -> None:
        self.clock.advance(timedelta(**by))
        await self.dispatcher.drain()


@pytest.fixture
async def outbox(database: Database, clock: ManualClock, sender: WebhookSender) -> AsyncIterator[Outbox]:
    finals: list[FinalDelivery] = []

    async def on_final(_tx: Any, ended: list[FinalDelivery]) -> None:
        finals.extend(ended)

    dispatcher = Dispatcher(database, sender, clock, on_final=on_final)
    opened = Outbox(database, clock, dispatcher, finals)
    await opened.organization()
    yield opened
    await dispatcher.stop(0)
