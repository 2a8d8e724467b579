"""Consumers of pull endpoints, as tests are them: they stream, acknowledge, and turn the clock by hand."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from datetime import timedelta
from typing import Any

from core.rpc.webhooks import pulling as handlers
from dripstone.v1 import webhook_pb2 as pb
from tests.delivery.calling import Calls
from tests.delivery.conftest import ORG


class Pulling:
    """What a test does as consumers of a pull endpoint."""

    def __init__(self, outbox: Any, calls: Calls, opened: AsyncExitStack):
        self.outbox = outbox
        self.calls = calls
        self._opened = opened
        self.waits = asyncio.Event()
        wait = outbox.clock.wait

        async def waiting(event: asyncio.Event, seconds: float) -> None:
            self.waits.set()
            await wait(event, seconds)

        outbox.clock.wait = waiting

    async def endpoint(self, **values: Any) -> str:
        return await self.outbox.endpoint("", kind="pull", **values)

    async def stream(self, endpoint_id: str, org: str = ORG, **values: Any) -> Any:
        request = pb.StreamMessagesRequest(endpoint_id=endpoint_id, **values)
        return await self._opened.enter_async_context(
            aclosing(handlers.stream_messages(request, self.calls.call(org)))  # type: ignore[type-var]
        )

    async def ack(self, endpoint_id: str, *messages: Any, ok: bool = True, error: str = "") -> pb.AckMessagesResponse:
        acks = [
            pb.MessageAck(delivery_id=one.delivery_id, lease_token=one.lease_token, ok=ok, error=error)
            for one in messages
        ]
        return await self.calls(handlers.ack_messages, pb.AckMessagesRequest(endpoint_id=endpoint_id, acks=acks))

    async def emit(self, count: int = 1, **values: Any) -> list[str]:
        made = []
        for _ in range(count):
            self.outbox.clock.advance(timedelta(milliseconds=2))
            made.append(await self.outbox.emit(**values))
        return made

    async def leased(self) -> int:
        return sum(row.lease_token is not None for row in await self.outbox.rows())

    async def idle(self) -> None:
        """Return once a consumer has looked, found nothing and waits."""
        async with asyncio.timeout(10):
            await self.waits.wait()
        self.waits.clear()

    def later(self, **by: float) -> None:
        """Let time pass and have every consumer look again, as it does by itself each second."""
        self.outbox.clock.advance(timedelta(**by))
        self.waits.clear()  # it may have looked twice before
        self.outbox.database.wakeups.signal({"pull"})


async def take(stream: Any, count: int = 1) -> list[Any]:
    """Return the next messages of a stream."""
    async with asyncio.timeout(10):
        return [await anext(stream) for _ in range(count)]
