"""Positions of messages at their endpoint: given when they are handed over first, without gaps, in order of writing."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from core import ids
from core.domain.effects import Emit
from core.store.webhooks import deliveries, delivery_claims, endpoints
from core.store.webhooks.deliveries import Emission
from core.store.webhooks.delivery_tables import delivery_numbers
from core.store.webhooks.outbox import ClaimedDelivery
from tests.delivery.conftest import ORG, Outbox

pytestmark = pytest.mark.anyio
OTHER = "org_other"
URL = "https://hooks.example.com/"
LEASE = timedelta(seconds=45)


def emission(outbox: Outbox, event_type: str = "deal.won", org: str = ORG, n: int = 0) -> Emission:
    return Emission(org, Emit(ids.mint("msg", outbox.clock.now()), event_type, {"n": n}), "enr_1")


async def claim(outbox: Outbox, limit: int = 64, **options: Any) -> list[ClaimedDelivery]:
    async with outbox.database.system() as tx:
        token = ids.mint("lse", tx.now)
        return await delivery_claims.claim(tx, limit=limit, lease=LEASE, token=token, **options)


async def rolled_back(outbox: Outbox) -> None:
    async with outbox.database.write(ORG) as tx:
        await deliveries.emit(tx, [emission(outbox)])
        raise RuntimeError


async def test_every_endpoint_counts_by_itself_and_what_was_rolled_back_leaves_no_gap(outbox: Outbox) -> None:
    await outbox.organization(OTHER)
    first, second = await outbox.endpoint(URL), await outbox.endpoint(URL, event_types=["deal.won"])
    foreign = await outbox.endpoint(URL, org=OTHER)
    async with outbox.database.system() as tx:
        kinds = [("deal.won", ORG), ("deal.lost", ORG), ("deal.won", OTHER), ("deal.won", ORG)]
        await deliveries.emit(tx, [emission(outbox, name, org) for name, org in kinds])
    with pytest.raises(RuntimeError):
        await rolled_back(outbox)
    await outbox.emit("deal.lost")
    await outbox.emit()
    assert {row.sequence for row in await outbox.rows()} == {0}, "nothing was handed over yet"
    while await claim(outbox, limit=2):
        pass
    rows = sorted([*await outbox.rows(), *await outbox.rows(OTHER)], key=lambda row: row.place)
    numbers = {
        endpoint: [row.sequence for row in rows if row.endpoint_id == endpoint] for endpoint in (first, second, foreign)
    }
    assert numbers == {first: [1, 2, 3, 4, 5], second: [1, 2, 3], foreign: [1]}, "in the order of writing"


async def test_events_of_one_instant_are_handed_over_in_the_order_in_which_they_were_written(outbox: Outbox) -> None:
    await outbox.endpoint(URL)
    for batch in range(3):
        async with outbox.database.write(ORG) as tx:
            await deliveries.emit(tx, [emission(outbox, n=10 * batch + n) for n in range(10)])
    found: list[str] = []
    while some := await claim(outbox, limit=4):
        found += [one.payload for one in some]
    assert [json.loads(payload)["data"]["n"] for payload in found] == list(range(30))


async def test_a_number_stays_with_its_message_over_retries_and_redeliveries(outbox: Outbox, receiver: Any) -> None:
    receiver.answers["/"] = 500
    await outbox.endpoint(receiver.base + "/")
    await outbox.emit()
    await outbox.dispatcher.drain()
    receiver.answers["/"] = 204
    await outbox.emit()
    await outbox.later(hours=1)
    row = next(row for row in await outbox.rows() if row.attempt_count == 2)
    async with outbox.database.write(ORG) as tx:
        await deliveries.restart(tx, row)
    await outbox.dispatcher.drain()
    assert sorted(request.headers["webhook-sequence"] for request in receiver.received) == ["1", "1", "1", "2"]


async def test_what_is_committed_first_is_handed_over_first(postgresql_outbox: Outbox) -> None:
    outbox = postgresql_outbox
    await outbox.endpoint(URL)
    async with outbox.database.write(ORG) as slow:
        late = emission(outbox)
        await deliveries.emit(slow, [late])
        early = await outbox.emit()
        assert [(one.message_id, one.sequence) for one in await claim(outbox)] == [(early, 1)]
    assert [(one.message_id, one.sequence) for one in await claim(outbox)] == [(late.effect.id, 2)]


async def test_many_writers_and_many_processes_that_hand_over_leave_no_gap(postgresql_outbox: Outbox) -> None:
    outbox = postgresql_outbox
    by_type = {name: await outbox.endpoint(URL, event_types=[name]) for name in ("a.won", "b.won")}
    every = await outbox.endpoint(URL)

    async def write(names: list[str]) -> None:
        async with outbox.database.write(ORG) as tx:
            for name in names:
                await deliveries.emit(tx, [emission(outbox, name)])
                await asyncio.sleep(0)

    async def hand_over(number: int) -> None:
        for turn in range(12):
            await claim(outbox, limit=5, offset=number + turn)

    writers = [write(["a.won", "b.won"] if number % 2 else ["b.won", "a.won"]) for number in range(24)]
    await asyncio.gather(*writers, *(hand_over(number) for number in range(4)))
    while await claim(outbox):
        pass
    rows = await outbox.rows()
    for endpoint, count in ((by_type["a.won"], 24), (by_type["b.won"], 24), (every, 48)):
        assert sorted(row.sequence for row in rows if row.endpoint_id == endpoint) == list(range(1, count + 1))


async def test_nothing_is_counted_for_an_endpoint_that_is_gone(outbox: Outbox) -> None:
    endpoint_id = await outbox.endpoint(URL)
    await outbox.emit()
    await claim(outbox)
    async with outbox.database.write(ORG) as tx:
        assert len(await tx.all(select(delivery_numbers))) == 1
        await endpoints.remove(tx, endpoint_id)
        assert await tx.all(select(delivery_numbers)) == []
