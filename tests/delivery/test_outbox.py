"""The outbox among several workers: leases, fairness, stopping; on both databases."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from aiohttp import web
from sqlalchemy import text

from core import ids
from core.delivery import attempt
from core.delivery.dispatcher import Dispatcher
from core.delivery.send_result import SendResult
from core.domain.webhooks import classify
from core.domain.webhooks.classify import Outcome
from core.domain.webhooks.health import Health
from core.store.webhooks import deliveries, delivery_claims, endpoint_health, endpoints
from core.store.webhooks import outbox as store
from tests.delivery.conftest import ORG
from tests.receiver import Held

pytestmark = pytest.mark.anyio


async def test_a_failing_hook_leaves_the_attempt_unrecorded_and_the_rest_recorded(
    database, clock, sender, outbox, receiver
):
    async def refuse(_tx, finals):
        raise RuntimeError("the engine is broken")

    dispatcher = Dispatcher(database, sender, clock, on_final=refuse)
    await outbox.endpoint(receiver.base + "/")
    awaited, plain = await outbox.emit(awaited=True), await outbox.emit()
    await dispatcher.drain()
    assert {row.message_id: row.state for row in await outbox.rows()} == {awaited: "pending", plain: "delivered"}
    clock.advance(timedelta(seconds=91))
    await outbox.dispatcher.drain()
    assert [final.message_id for final in outbox.finals] == [awaited]
    assert receiver.ids() == [awaited, plain, awaited] or receiver.ids() == [plain, awaited, awaited]


async def test_a_worker_that_lost_its_lease_changes_nothing(outbox, receiver):
    await outbox.endpoint(receiver.base + "/")
    await outbox.emit(awaited=True)
    held = receiver.answers["/"] = Held(status=500)
    await outbox.dispatcher.turn()
    await held.arrived.wait()
    outbox.clock.advance(timedelta(seconds=91))
    receiver.answers["/"] = 204
    other = Dispatcher(outbox.database, outbox.dispatcher._attempts.sender, outbox.clock)
    await other.drain()
    assert (await outbox.only()).state == "delivered"
    held.release.set()
    await outbox.dispatcher.drain()
    row = await outbox.only()
    assert (row.state, row.attempt_count, outbox.finals) == ("delivered", 1, [])
    assert [attempt.status_code for attempt in await outbox.attempts(row.id)] == [204]


async def test_what_is_leased_is_not_claimed_again_before_the_lease_ends(outbox):
    await outbox.endpoint("http://127.0.0.1:9/")
    await outbox.emit()

    async def claim(token):
        async with outbox.database.system() as tx:
            return await delivery_claims.claim(tx, limit=10, lease=timedelta(seconds=90), token=token)

    (first,) = await claim("lse_1")
    assert await claim("lse_2") == []
    outbox.clock.advance(timedelta(seconds=90))
    (again,) = await claim("lse_3")
    assert (again.id, again.lease_token, first.lease_token) == (first.id, "lse_3", "lse_1")
    assert again.receiver is first.receiver  # it says the same
    now, failed = outbox.clock.now(), SendResult(classify.of_failure(Outcome.TIMEOUT), timedelta())
    both = [attempt.completion(one, now, failed, now) for one in (again, first)]
    async with outbox.database.system() as tx:
        assert [one.delivery.lease_token for one in await store.complete(tx, both)] == ["lse_3"]
    assert [one.number for one in await outbox.attempts(first.id)] == [1]
    async with outbox.database.write(ORG) as tx:
        await endpoints.change(tx, again.endpoint_id, {"url": "http://127.0.0.1:9/other"})
    outbox.clock.advance(timedelta(hours=1))
    (later,) = await claim("lse_4")
    assert (later.url, later.attempt_count) == ("http://127.0.0.1:9/other", 1)


async def test_a_dead_endpoint_cannot_fill_a_claim(outbox):
    await outbox.organization("org_other")
    dead = await outbox.endpoint("http://127.0.0.1:9/dead")
    small = await outbox.endpoint("http://127.0.0.1:9/small")
    other = await outbox.endpoint("http://127.0.0.1:9/other", "org_other")
    for _ in range(50):
        await outbox.emit(endpoint_id=dead)
    await outbox.emit(endpoint_id=small)
    await outbox.emit(org="org_other", endpoint_id=other)
    async with outbox.database.system() as tx:
        claimed = await delivery_claims.claim(tx, limit=5, lease=timedelta(seconds=90), token="lse_1")
    assert {delivery.endpoint_id for delivery in claimed} == {dead, small, other}
    busy = {(ORG, dead): 4}
    async with outbox.database.system() as tx:
        assert await delivery_claims.claim(tx, limit=5, lease=timedelta(seconds=90), token="lse_1", busy=busy) == []
    async with outbox.database.system() as tx:
        await endpoint_health.note(tx, (ORG, dead), Health(failing_since=tx.now, failures=1))
        await tx.run(text("UPDATE deliveries SET lease_token = NULL, due_at = created_at"))
        claimed = await delivery_claims.claim(tx, limit=64, lease=timedelta(seconds=90), token="lse_2")
    assert sorted(delivery.endpoint_id for delivery in claimed) == sorted([dead, small, other])


async def test_when_more_endpoints_are_ready_than_fit_all_get_their_turn(outbox):
    for number in range(9):
        await outbox.endpoint(f"http://127.0.0.1:9/{number}")
    for _ in range(30):
        await outbox.emit()
    served = set()
    for turn in range(5):
        async with outbox.database.system() as tx:
            claimed = await delivery_claims.claim(
                tx, limit=2, lease=timedelta(seconds=90), token=f"lse_{turn}", offset=turn * 2
            )
        served |= {delivery.endpoint_id for delivery in claimed}
    assert len(served) == 9


async def test_a_slow_endpoint_holds_up_nobody_else(outbox, receiver):
    held = receiver.answers["/slow"] = Held()
    slow = await outbox.endpoint(receiver.base + "/slow")
    await outbox.endpoint(receiver.base + "/fast", event_types=["deal.won"])
    for _ in range(10):
        await outbox.emit("deal.lost", endpoint_id=slow)
    for _ in range(20):
        await outbox.emit(endpoint_id=None)
    while len(receiver.ids("/fast")) < 20:
        outbox.dispatcher.wake.clear()
        if await outbox.dispatcher.turn() == 0:
            await outbox.dispatcher.wake.wait()
    await held.arrived.wait()
    assert 4 <= len(receiver.ids("/slow")) <= 16
    held.release.set()
    await outbox.dispatcher.drain()
    assert {row.state for row in await outbox.rows()} == {"delivered"}


async def test_stopping_records_what_ends_in_time_and_gives_the_rest_back(outbox, receiver):
    held = receiver.answers["/stuck"] = Held()
    stuck_id = await outbox.endpoint(receiver.base + "/stuck")
    await outbox.endpoint(receiver.base + "/quick")
    await outbox.emit()
    await outbox.dispatcher.turn()
    await held.arrived.wait()
    await outbox.dispatcher.stop(0.2)
    held.release.set()
    rows = {row.endpoint_id == stuck_id: row for row in await outbox.rows()}
    assert (rows[False].state, rows[True].state) == ("delivered", "pending")
    assert (rows[True].lease_token, rows[True].due_at, rows[True].attempt_count) == (None, outbox.clock.now(), 0)
    assert await outbox.dispatcher.turn() == 0


async def test_a_dispatcher_that_died_gives_its_leases_back_at_the_next_start(outbox, receiver):
    await outbox.endpoint(receiver.base + "/")
    await outbox.emit()
    async with outbox.database.system() as tx:
        await delivery_claims.claim(tx, limit=10, lease=timedelta(seconds=90), token="lse_dead")
    assert await outbox.dispatcher.drain() == 0
    assert await outbox.dispatcher.recover() == 1
    await outbox.dispatcher.drain()
    assert (await outbox.only()).state == "delivered"


async def test_two_dispatchers_at_once_send_everything_and_nothing_twice(outbox, receiver):
    for path in ("/a", "/b", "/c"):
        await outbox.endpoint(receiver.base + path)
    messages = [await outbox.emit() for _ in range(40)]
    other = Dispatcher(outbox.database, outbox.dispatcher._attempts.sender, outbox.clock)
    await asyncio.gather(outbox.dispatcher.drain(), other.drain())
    assert {row.state for row in await outbox.rows()} == {"delivered"}
    for path in ("/a", "/b", "/c"):
        assert sorted(receiver.ids(path)) == sorted(messages)


async def test_of_two_endpoints_that_end_at_once_in_two_workers_one_tells_the_outcome(outbox, receiver):
    both, arrived = asyncio.Event(), []

    async def together(_request):
        arrived.append(1)
        if len(arrived) == 2:
            both.set()
        await both.wait()
        return web.Response(status=200)

    receiver.answers |= {"/a": together, "/b": together}
    for path in ("/a", "/b"):
        await outbox.endpoint(receiver.base + path)

    async def on_final(_tx, ended):
        outbox.finals.extend(ended)

    sender = outbox.dispatcher._attempts.sender
    other = Dispatcher(outbox.database, sender, outbox.clock, on_final=on_final, concurrency=1)
    first = Dispatcher(outbox.database, sender, outbox.clock, on_final=on_final, concurrency=1)
    for _ in range(10):
        arrived.clear()
        both.clear()
        outbox.finals.clear()
        message_id = await outbox.emit(awaited=True)
        while not both.is_set():  # each has one place, and they may reach for the same delivery first
            await asyncio.gather(first.turn(), other.turn())
        await asyncio.gather(first.drain(), other.drain())
        assert [final.message_id for final in outbox.finals] == [message_id]


async def test_what_was_parked_for_weeks_is_found(outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.base + "/", state="paused")
    old = await outbox.emit()
    await outbox.later(days=40)
    async with outbox.database.write(ORG) as tx:
        await endpoints.change(tx, endpoint_id, {"state": "active"})
    await outbox.dispatcher.drain()
    assert receiver.ids() == [old]


async def test_an_endpoint_deleted_while_an_event_is_emitted_leaves_no_delivery_waiting(postgresql_outbox):
    endpoint_id = await postgresql_outbox.endpoint("http://127.0.0.1:9/")
    effect = deliveries.Emit(ids.mint("msg", postgresql_outbox.clock.now()), "deal.won", {}, awaited=True)

    async def delete():
        async with postgresql_outbox.database.write(ORG) as tx:
            await endpoints.get(tx, endpoint_id, lock="delete")
            await endpoints.remove(tx, endpoint_id)

    async with postgresql_outbox.database.write(ORG) as tx:
        await deliveries.emit(tx, [deliveries.Emission(ORG, effect, "enr_1")])
        deleting = asyncio.create_task(delete())
        async with postgresql_outbox.database.system() as other:
            while not await other.all(text("SELECT 1 FROM pg_locks WHERE NOT granted")):
                pass
    await deleting
    await postgresql_outbox.dispatcher.drain()
    assert [final.message_id for final in postgresql_outbox.finals] == [effect.id]
    assert (await postgresql_outbox.only()).state == "dropped"
