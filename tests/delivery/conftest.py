"""A sender that may reach receivers on the loopback address, and the few rows a delivery needs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from core import ids
from core.clock import ManualClock
from core.delivery.dispatcher import Dispatcher
from core.delivery.http import WebhookSender
from core.domain.effects import Emit
from core.domain.webhooks.addresses import Destinations
from core.store.database import Database
from core.store.organizations.organizations import organizations
from core.store.webhooks import deliveries, endpoints
from core.store.webhooks.deliveries import Emission, FinalDelivery
from tests.delivery.mailing import server, start

__all__ = ["server", "start"]

ORG = "org_main"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


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


@asynccontextmanager
async def _opened(database: Database, clock: ManualClock, sender: WebhookSender) -> AsyncIterator[Outbox]:
    finals: list[FinalDelivery] = []

    async def on_final(_tx: Any, ended: list[FinalDelivery]) -> None:
        finals.extend(ended)

    dispatcher = Dispatcher(database, sender, clock, on_final=on_final)
    opened = Outbox(database, clock, dispatcher, finals)
    await opened.organization()
    yield opened
    await dispatcher.stop(0)


@pytest.fixture
async def outbox(database: Database, clock: ManualClock, sender: WebhookSender) -> AsyncIterator[Outbox]:
    async with _opened(database, clock, sender) as opened:
        yield opened


@pytest.fixture
async def postgresql_outbox(
    postgresql_database: Database, clock: ManualClock, sender: WebhookSender
) -> AsyncIterator[Outbox]:
    """Return an outbox for what takes two writers at once."""
    async with _opened(postgresql_database, clock, sender) as opened:
        yield opened
