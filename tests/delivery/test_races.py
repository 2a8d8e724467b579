"""What happens at the same moment on PostgreSQL: endpoints that go or come back while something is done with them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from core import ids
from core.domain.effects import Emit
from core.domain.errors import EndpointDeleted, NotFound
from core.rpc.webhooks import endpoints as endpoint_handlers
from core.rpc.webhooks import pulling as pull_handlers
from core.rpc.webhooks import webhooks as delivery_handlers
from core.store.webhooks import deliveries, endpoint_health, endpoints, pulling, replays
from core.store.webhooks.deliveries import Emission
from core.store.webhooks.replays import Choice
from dripstone.v1 import webhook_pb2 as pb
from tests.delivery.calling import Calls
from tests.delivery.conftest import ORG, Outbox

pytestmark = pytest.mark.anyio
URL = "https://hooks.example.com/"
_WAITING = text("SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


async def begun(outbox: Outbox, doing: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """Start something that runs until it has to wait for a row, or to its end."""
    task = asyncio.create_task(doing)
    async with asyncio.timeout(10):
        while not task.done():
            async with outbox.database.system() as tx:
                if await tx.first(_WAITING) is not None:
                    break
    return task


async def failed(outbox: Outbox, endpoint_id: str) -> Any:
    await outbox.emit()
    async with outbox.database.write(ORG) as tx:
        table = deliveries.deliveries
        await tx.run(table.update().where(table.c.endpoint_id == endpoint_id).values(state="failed", ended_at=tx.now))
    return await outbox.only()


async def test_an_endpoint_is_enabled_while_others_hold_those_before_it(postgresql_outbox: Outbox, sender: Any) -> None:
    outbox = postgresql_outbox
    first = await outbox.endpoint(URL)
    outbox.clock.advance(timedelta(seconds=1))
    second = await outbox.endpoint(URL, state="disabled")
    wanted = pb.UpdateEndpointRequest(endpoint=pb.Endpoint(id=second, state=pb.ENDPOINT_STATE_ACTIVE))
    async with outbox.database.system() as tx:
        await endpoint_health.held(tx, [(ORG, first)])
        enabling = await begun(outbox, Calls(outbox, sender)(endpoint_handlers.update_endpoint, wanted))
        await endpoint_health.held(tx, [(ORG, second)])  # a deadlock, if enabling had begun with this one
    assert (await enabling).state == pb.ENDPOINT_STATE_ACTIVE
    assert (await outbox.only()).endpoint_id == first


async def test_a_replay_leaves_nothing_due_for_an_endpoint_that_goes(postgresql_outbox: Outbox) -> None:
    outbox = postgresql_outbox
    endpoint_id = await outbox.endpoint(URL)
    await failed(outbox, endpoint_id)
    async with outbox.database.write(ORG) as tx:
        choice = Choice(endpoint_id, ("failed",), (), None, None, tx.now)
        await replays.create(tx, "rpl_1", choice, rate=10, total=1, actor="key_1")

    async def advance() -> int:
        async with outbox.database.system() as tx:
            return await replays.advance(tx, ORG, "rpl_1")

    async with outbox.database.write(ORG) as tx:
        await endpoints.get(tx, endpoint_id, lock="delete")
        advancing = await begun(outbox, advance())
        await endpoints.remove(tx, endpoint_id)
    assert await advancing == 0
    assert (await outbox.only()).state == "failed"


async def test_nothing_is_sent_again_to_an_endpoint_that_goes(postgresql_outbox: Outbox, sender: Any) -> None:
    outbox = postgresql_outbox
    endpoint_id = await outbox.endpoint(URL)
    row = await failed(outbox, endpoint_id)
    again = pb.RedeliverRequest(delivery_id=row.id)
    async with outbox.database.write(ORG) as tx:
        await endpoints.get(tx, endpoint_id, lock="delete")
        redelivering = await begun(outbox, Calls(outbox, sender)(delivery_handlers.redeliver, again))
        await endpoints.remove(tx, endpoint_id)
    with pytest.raises(EndpointDeleted):
        await redelivering
    assert (await outbox.only()).state == "failed"


async def test_messages_are_acknowledged_while_their_endpoint_goes(postgresql_outbox: Outbox, sender: Any) -> None:
    outbox = postgresql_outbox
    endpoint_id = await outbox.endpoint("", kind="pull")
    await outbox.emit()
    async with outbox.database.write(ORG) as tx:
        endpoint = await endpoints.get(tx, endpoint_id)
        assert endpoint is not None
        (one,) = await pulling.hand_out(
            tx, endpoint, limit=1, room=pulling.Room(100_000, True), lease=timedelta(seconds=30), token="lse_1"
        )
    ack = pb.MessageAck(delivery_id=one.id, lease_token="lse_1", ok=False)
    async with outbox.database.write(ORG) as tx:
        await endpoints.get(tx, endpoint_id, lock="delete")
        said = pb.AckMessagesRequest(endpoint_id=endpoint_id, acks=[ack])
        acknowledging = await begun(outbox, Calls(outbox, sender)(pull_handlers.ack_messages, said))
        await endpoints.remove(tx, endpoint_id)
    with pytest.raises(NotFound):
        await acknowledging
    await outbox.dispatcher.drain()
    assert (await outbox.only()).state == "dropped"


async def test_what_is_told_of_one_endpoint_does_not_meet_another_event_halfway(postgresql_outbox: Outbox) -> None:
    outbox = postgresql_outbox
    await outbox.endpoint(URL)
    outbox.clock.advance(timedelta(seconds=1))
    failing = await outbox.endpoint(URL)
    news = Emit(ids.mint("msg", outbox.clock.now()), "deal.lost", {"n": 2})
    async with outbox.database.system() as tx:
        await endpoint_health.held(tx, [(ORG, failing)])
        emitting = await begun(outbox, outbox.emit())
        await deliveries.emit(tx, [Emission(ORG, news)])  # a deadlock, if the other one held the first endpoint by now
    await emitting
    assert len([row for row in await outbox.rows() if row.endpoint_id == failing]) == 2
