"""A batch of messages for two endpoints, and what must hold once it is carried out, whoever died on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from aiohttp import web
from sqlalchemy import select

from core import ids
from core.clock import ManualClock
from core.delivery.dispatcher import Dispatcher
from core.delivery.http import WebhookSender
from core.domain.effects import Emit
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.states import Ordering
from core.store.database import Database
from core.store.organizations.organizations import organizations
from core.store.transaction import Transaction
from core.store.webhooks import deliveries, endpoints
from core.store.webhooks.deliveries import Emission, FinalDelivery, delivery_attempts
from tests.receiver import Receiver

HAPPENED, TOLD = "chaos.happened", "chaos.told"
MESSAGES = 3
CONTACT = "cnt_1"
KILLS = 1

_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
A_RETRY_LATER = timedelta(seconds=7)
"""Longer than the first wait of the schedule, and far shorter than a lease."""


def dispatching(database: Database, sender: WebhookSender, clock: ManualClock, at_once: int) -> Dispatcher:
    """Return a dispatcher of this database that makes so many attempts at once."""
    return Dispatcher(database, sender, clock, on_final=_tell, concurrency=at_once)


def sending() -> WebhookSender:
    """Return a sender that may reach the receivers of tests."""
    return WebhookSender(Destinations.of(["127.0.0.0/8"]), deadline_seconds=20)


async def carry_out(dispatcher: Dispatcher, clock: ManualClock) -> None:
    """Send until time brings nothing more, and stop in order."""
    while await dispatcher.drain():
        clock.advance(A_RETRY_LATER)
    await dispatcher.stop(5)


async def _tell(tx: Transaction, finals: Sequence[FinalDelivery]) -> None:
    """Do what the engine does: follow the end of an awaited message, in the transaction that records it."""
    told = [Emit(ids.mint("msg", tx.now), TOLD, {"message": final.message_id}) for final in finals]
    await deliveries.emit(tx, [Emission(final.org_id, emit) for final, emit in zip(finals, told, strict=True)])


@dataclass(slots=True)
class Batch:
    """Messages of an organization of its own: one endpoint takes everything at once; another fails first, in order."""

    name: str
    receiver: Receiver
    messages: list[str] = field(default_factory=list)
    came: Counter[tuple[str, str]] = field(default_factory=Counter)
    """Requests that arrived, by endpoint and message."""
    accepted: list[tuple[str, str]] = field(default_factory=list)
    """Those that were answered with success."""
    bodies: dict[tuple[str, str], bytes] = field(default_factory=dict)
    endpoints: dict[str, str] = field(default_factory=dict)
    """From id to path."""
    repeated: int = 0
    """Requests that no recorded attempt accounts for: somebody died in between, and they came again."""

    async def write(self, database: Database) -> None:
        """Write the organization, its endpoints and the messages."""
        async with database.system() as tx:
            row = {"org_id": self.name, "display_name": "", "timezone": "UTC", "created_at": tx.now}
            await tx.insert(organizations, [row])
        async with database.write(self.name) as tx:
            for kind, types, ordering in (
                ("plain", [HAPPENED, TOLD], Ordering.BEST_EFFORT),
                ("ordered", [HAPPENED], Ordering.BY_CONTACT),
            ):
                path, endpoint = f"/{self.name}/{kind}", ids.mint("ep", tx.now)
                self.receiver.answers[path] = self._plain if kind == "plain" else self._failing_first
                self.endpoints[endpoint] = path
                await endpoints.create(
                    tx, endpoint, secret=_SECRET, url=self.receiver.base + path, event_types=types, ordering=ordering
                )
            self.messages = [ids.mint("msg", tx.now) for _ in range(MESSAGES)]
            emits = [Emit(one, HAPPENED, {"contact_id": CONTACT}, awaited=True) for one in self.messages]
            await deliveries.emit(tx, [Emission(self.name, emit, "enr_1") for emit in emits])

    async def _plain(self, request: web.Request) -> web.Response:
        return await self._enter(request, fails=False)

    async def _failing_first(self, request: web.Request) -> web.Response:
        return await self._enter(request, fails=not self.came[request.path, request.headers["webhook-id"]])

    async def _enter(self, request: web.Request, *, fails: bool) -> web.Response:
        key, body = (request.path, request.headers["webhook-id"]), await request.read()
        assert self.bodies.setdefault(key, body) == body, "a repetition says something else"
        self.came[key] += 1
        if fails:
            return web.Response(status=500)
        self.accepted.append(key)
        return web.Response(status=204)

    async def problems(self, database: Database, *, killed: bool, at_once: int) -> list[str]:
        """Return what is wrong, a sentence each; the endpoints go away, so that the next claim has none to look at."""
        async with database.write(self.name) as tx:
            rows = await tx.all(select(deliveries.deliveries))
            payloads = await tx.all(select(deliveries.messages.c.event_type, deliveries.messages.c.payload))
            attempts = await tx.all(select(delivery_attempts).order_by(delivery_attempts.c.number))
            for endpoint in self.endpoints:
                await endpoints.remove(tx, endpoint)
        made = {row.id: [one for one in attempts if one.delivery_id == row.id] for row in rows}
        kills = KILLS if killed else 0
        wrong = [problem for row in rows for problem in self._of(row, made[row.id], kills)]
        self.repeated = self.came.total() - len(attempts)
        if self.repeated > kills * at_once:
            wrong.append(f"{self.repeated} requests came that no attempt accounts for")
        told = Counter(row.payload.split('"message":"')[1][:30] for row in payloads if row.event_type == TOLD)
        if told != Counter(self.messages):
            wrong.append(f"the ends of {self.messages} were told as {dict(told)}")
        if len(rows) != 3 * MESSAGES:
            wrong.append(f"there are {len(rows)} deliveries")
        return wrong + self._out_of_order()

    def _of(self, row: Any, made: Sequence[Any], kills: int) -> list[str]:
        """Return what is wrong with a delivery."""
        key = (self.endpoints[row.endpoint_id], row.message_id)
        outcomes = [one.outcome for one in made]
        checks = {
            f"is {row.state}": row.state == "delivered",
            f"is still leased or due ({row.lease_token}, {row.due_at})": (row.lease_token, row.due_at) == (None, None),
            f"counts {row.attempt_count} attempts and has {[one.number for one in made]}": (
                [one.number for one in made] == list(range(1, row.attempt_count + 1))
            ),
            f"was recorded as {outcomes}": outcomes.count("delivered") == 1 and outcomes[-1] == "delivered",
            f"was accepted {self.accepted.count(key)} times": 1 <= self.accepted.count(key) <= 1 + kills,
            f"arrived {self.came[key]} times, and {len(made)} attempts are recorded": (
                0 <= self.came[key] - len(made) <= kills
            ),
        }
        return [f"{row.message_id} to {key[0]} {what}" for what, holds in checks.items() if not holds]

    def _out_of_order(self) -> list[str]:
        """Return whether the endpoint that wants order got something before what comes first was accepted."""
        first = list(dict.fromkeys(message for path, message in self.accepted if path.endswith("/ordered")))
        return [] if first == self.messages else [f"{self.messages} were accepted as {first}"]
