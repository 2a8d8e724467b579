"""A replay goes on where it was when its process is killed: nothing is left out, and little comes twice."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from aiohttp import web

from dripstone.v1 import record_pb2, webhook_pb2
from tests.chaos.server_process import ServerProcess
from tests.receiver import Receiver

pytestmark = [pytest.mark.anyio, pytest.mark.kill9]

MESSAGES = 60 if "DRIPSTONE_KILLS" in os.environ else 30
KILLS = min(int(os.environ.get("DRIPSTONE_KILLS", "1")), 3)


class Arrivals:
    """Waits until enough has arrived."""

    def __init__(self, receiver: Receiver):
        self._more = asyncio.Event()
        receiver.answers["/"] = self

    async def __call__(self, _request: web.Request) -> web.StreamResponse:
        self._more.set()
        return web.Response(status=204)

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not enough():
                self._more.clear()
                await self._more.wait()


@pytest.mark.parametrize(
    "database_url", ["sqlite", *(["postgresql"] if "DRIPSTONE_KILLS" in os.environ else [])], indirect=True
)  # on PostgreSQL each kill costs the time of a lease
async def test_a_killed_replay_is_carried_on_to_its_end(database_url: str, tmp_path: Path, receiver: Receiver) -> None:
    arrivals = Arrivals(receiver)
    server = ServerProcess(tmp_path, database_url)
    await server.start()
    async with server.client() as client:
        made = await client.webhooks.CreateEndpoint(
            webhook_pb2.CreateEndpointRequest(url=receiver.url, event_types=["record.created"])
        )
        for number in range(MESSAGES):
            request = record_pb2.UpsertRecordRequest(type="contact")
            request.fields.update({"email": f"p{number}@example.com"})
            await client.records.UpsertRecord(request)
        await arrivals.until(lambda: len(receiver.received) >= MESSAGES)
        everybody = set(receiver.ids())
        delivered = webhook_pb2.ListDeliveriesRequest(filter="state = delivered", page_size=500)
        async with asyncio.timeout(60):
            while len((await client.webhooks.ListDeliveries(delivered)).deliveries) < MESSAGES:
                pass  # what has arrived is recorded a moment later
        receiver.received.clear()
        replay = await client.webhooks.CreateReplay(
            webhook_pb2.CreateReplayRequest(endpoint_id=made.endpoint.id, states=["delivered"], rate_per_second=20)
        )
    assert replay.total_count == MESSAGES
    for number in range(1, KILLS + 1):
        share = number * MESSAGES // (KILLS + 2)
        await arrivals.until(lambda share=share: len(receiver.received) >= share)  # type: ignore[misc]
        await server.kill()
        await server.start()
    async with asyncio.timeout(60), server.client() as client:
        while replay.state != webhook_pb2.REPLAY_STATE_COMPLETED:
            await asyncio.sleep(0.05)
            replay = await client.webhooks.GetReplay(webhook_pb2.GetReplayRequest(replay_id=replay.id))
    assert replay.done_count == MESSAGES
    await arrivals.until(lambda: set(receiver.ids()) == everybody)
    again = Counter(receiver.ids())
    # Whatever was under way at a kill is sent once more; nothing is made due twice.
    assert sum(again.values()) <= MESSAGES + KILLS * 10
    assert await server.terminate() == 0
