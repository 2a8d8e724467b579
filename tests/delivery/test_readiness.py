"""What every claim asks first: its effort follows the endpoints that have something due, not those that there are."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from core import ids
from core.store.webhooks import delivery_readiness, endpoints
from core.store.webhooks.deliveries import deliveries
from core.store.webhooks.endpoint_health import ENDED_AT_ONCE
from core.store.webhooks.outbox import REPLAY, RETRY
from tests.delivery.conftest import ORG, SECRET, Outbox
from tests.store.effort import effort, tidy

pytestmark = pytest.mark.anyio
URL = "https://hooks.example.com/"
OTHER = "org_aside"


async def idle_endpoints(outbox: Outbox, count: int) -> None:
    async with outbox.database.write(ORG) as tx:
        like = await endpoints.create(tx, "ep_like", secret=SECRET, url=URL, event_types=["never.told"])
        row = {name: value for name, value in like._mapping.items() if name != "org_id"}
        await tx.insert(endpoints.endpoints, [{**row, "id": f"ep_idle_{number}"} for number in range(count)])


async def found(outbox: Outbox, **options: Any) -> dict[str, list[int]]:
    async with outbox.database.system() as tx:
        return {one.key[1]: one.lanes for one in (await delivery_readiness.look(tx, **options)).ready}


async def test_idle_endpoints_cost_nothing(outbox: Outbox) -> None:
    busy = {await outbox.endpoint(URL) for _ in range(10)}
    for _ in range(5):
        await outbox.emit()
    for table in ("deliveries", "endpoints"):
        await tidy(outbox.database, table)
    async with outbox.database.system() as tx:
        alone = await effort(tx, lambda: delivery_readiness.look(tx))
    await idle_endpoints(outbox, 2_000)
    for table in ("deliveries", "endpoints"):
        await tidy(outbox.database, table)
    async with outbox.database.system() as tx:
        among_idle = await effort(tx, lambda: delivery_readiness.look(tx))
    assert set(await found(outbox)) == busy
    assert among_idle <= alone * 2 + 50, (alone, among_idle)


async def test_a_backlog_is_stepped_over(outbox: Outbox) -> None:
    first = await outbox.endpoint(URL)
    await outbox.emit()
    await outbox.organization(OTHER)
    await outbox.endpoint(URL, org=OTHER)
    await outbox.emit(org=OTHER)
    await tidy(outbox.database, "deliveries")
    async with outbox.database.system() as tx:
        short = await effort(tx, lambda: delivery_readiness.look(tx))
    rows = await outbox.rows()
    async with outbox.database.write(ORG) as tx:
        like = dict(rows[0]._mapping)
        more = [{**like, "id": ids.mint("dlv", tx.now), "place": 100 + number} for number in range(3_000)]
        await tx.insert(deliveries, more)
    await tidy(outbox.database, "deliveries")
    async with outbox.database.system() as tx:
        long = await effort(tx, lambda: delivery_readiness.look(tx))
    assert len(await found(outbox)) == 2
    assert first in await found(outbox)
    assert long <= short * 2 + 50, (short, long)


async def test_lanes_and_what_is_not_due_yet_are_told_apart(outbox: Outbox) -> None:
    endpoint_id = await outbox.endpoint(URL)
    for lane, due in ((RETRY, timedelta(hours=1)), (REPLAY, timedelta(0))):
        message = await outbox.emit()
        async with outbox.database.write(ORG) as tx:
            here = deliveries.c.message_id == message
            await tx.run(deliveries.update().where(here).values(lane=lane, due_at=tx.now + due))
    assert await found(outbox) == {endpoint_id: [REPLAY]}
    await outbox.emit()
    outbox.clock.advance(timedelta(hours=2))
    assert await found(outbox) == {endpoint_id: [0, RETRY, REPLAY]}
    today = max(row.day for row in await outbox.rows())
    assert (await found(outbox, since_day=today), await found(outbox, since_day=today + 1)) == (
        {endpoint_id: [0, RETRY, REPLAY]},
        {},
    )


async def test_what_waits_for_a_deleted_endpoint_is_dropped_in_slices_whoever_goes_on(
    outbox: Outbox, receiver: Any
) -> None:
    gone, stays = await outbox.endpoint(URL, state="paused"), await outbox.endpoint(receiver.base + "/")
    count = 2 * ENDED_AT_ONCE + 7
    awaited = await outbox.emit(endpoint_id=gone, awaited=True)
    (like,) = [dict(row._mapping) for row in await outbox.rows()]
    async with outbox.database.write(ORG) as tx:
        more = [{**like, "id": ids.mint("dlv", tx.now), "awaited": False, "place": n + 2} for n in range(count - 1)]
        await tx.insert(deliveries, more)
    async with outbox.database.write(ORG) as tx:
        await endpoints.remove(tx, gone)
    assert await dropped(outbox) == 0, "the endpoint is gone at once, the rest follows"
    message = await outbox.emit(endpoint_id=stays)
    seen = []
    while not seen or seen[-1] < count:
        await outbox.dispatcher.turn()
        assert outbox.dispatcher.wake.is_set(), "there is more of it"
        seen.append(await dropped(outbox))
    assert seen == [ENDED_AT_ONCE, 2 * ENDED_AT_ONCE, count]
    await outbox.dispatcher.drain()
    assert receiver.ids() == [message], "nobody else waited for that"
    assert [(one.message_id, one.outcome) for one in outbox.finals] == [(awaited, "endpoint_deleted")]


async def dropped(outbox: Outbox) -> int:
    rows = await outbox.rows()
    return sum((row.state, row.last_outcome) == ("dropped", "endpoint_deleted") for row in rows)


async def test_a_process_that_dies_between_slices_loses_nothing(outbox: Outbox) -> None:
    endpoint_id = await outbox.endpoint(URL, state="paused")
    await outbox.emit()
    async with outbox.database.write(ORG) as tx:
        await endpoints.remove(tx, endpoint_id)
    await outbox.dispatcher.stop(0)  # nothing but the rows says that something is left to do
    async with outbox.database.system() as tx:
        assert (await delivery_readiness.look(tx)).gone == ((ORG, endpoint_id),)


async def test_what_others_hold_of_a_deleted_endpoint_is_left_for_later(postgresql_outbox: Outbox) -> None:
    outbox = postgresql_outbox
    endpoint_id = await outbox.endpoint(URL)
    held, free = await outbox.emit(), await outbox.emit()
    async with outbox.database.write(ORG) as tx:
        await endpoints.remove(tx, endpoint_id)
    async with outbox.database.write(ORG) as recording:
        await recording.all(deliveries.select().where(deliveries.c.message_id == held).with_for_update())
        await outbox.dispatcher.turn()
        states = {row.message_id: row.state for row in await outbox.rows()}
        assert states == {held: "pending", free: "dropped"}
    await outbox.dispatcher.turn()
    assert {row.state for row in await outbox.rows()} == {"dropped"}
