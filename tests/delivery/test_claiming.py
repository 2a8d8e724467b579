"""What is claimed: by the rules that the explanation tells, in turn, and within limits that several processes share."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import update

from core import ids
from core.delivery.dispatcher import Dispatcher
from core.domain.webhooks import gates
from core.domain.webhooks.gates import Surroundings
from core.store.webhooks import delivery_claims, endpoint_rows
from core.store.webhooks.deliveries import deliveries
from core.store.webhooks.delivery_claims import LeftOver
from core.store.webhooks.endpoints import endpoints
from core.store.webhooks.outbox import FIRST, REPLAY, RETRY, ClaimedDelivery
from tests.conftest import START
from tests.delivery.conftest import ORG, Outbox

pytestmark = pytest.mark.anyio

LEASE = timedelta(seconds=45)
NOWHERE = "http://127.0.0.1:9/"


async def change(outbox: Outbox, endpoint_id: str, **values: Any) -> None:
    async with outbox.database.system() as tx:
        await tx.run(update(endpoints).where(endpoints.c.id == endpoint_id).values(values))


async def change_deliveries(outbox: Outbox, messages: Sequence[str], **values: Any) -> None:
    async with outbox.database.system() as tx:
        await tx.run(update(deliveries).where(deliveries.c.message_id.in_(messages)).values(values))


async def claimed(outbox: Outbox, limit: int = 64, **options: Any) -> list[ClaimedDelivery]:
    async with outbox.database.system() as tx:
        token = ids.mint("lse", tx.now)
        return await delivery_claims.claim(tx, limit=limit, lease=LEASE, token=token, **options)


instants = st.sampled_from(
    [None, START - timedelta(hours=1), START, START + timedelta(milliseconds=500), START + LEASE]
)
endpoint_values = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["active", "active", "active", "paused"]),
        "verification": st.sampled_from(["not_required", "unverified", "verified"]),
        "gate_until": instants,
        "gate_reason": st.sampled_from(["", "retry_after", "our_fault", "breaker", "unverified"]),
        "failures": st.sampled_from([0, 3, 9, 10, 25]),
        "rate_per_second": st.sampled_from([0.0, 0.0, 0.5, 7.0, 200.0]),
        "pace": st.sampled_from([1.0, 1.0, 0.5, 1 / 64]),
        "rate_until": instants,
        "max_in_flight": st.sampled_from([0, 1, 2]),
        "ordering": st.sampled_from(["best_effort", "by_contact"]),
    }
)
delivery_rows = st.fixed_dictionaries(
    {
        "state": st.sampled_from(["pending", "pending", "pending", "delivered", "skipped"]),
        "due_at": instants.filter(lambda at: at is not None),
        "lane": st.sampled_from([FIRST, RETRY, REPLAY]),
        "contact_id": st.sampled_from(["", "cnt_1", "cnt_2"]),
        "place": st.just(7),
    }
)
others = st.sampled_from(["none", "waits", "under way", "over"])
other_contacts = st.sampled_from(["", "cnt_1", "cnt_2"])


@given(endpoint_row=endpoint_values, row=delivery_rows, other=others, contact=other_contacts)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=80)
async def test_what_is_claimed_is_what_every_rule_lets_through(
    outbox: Outbox, endpoint_row: dict[str, Any], row: dict[str, Any], other: str, contact: str
) -> None:
    endpoint_id = await outbox.endpoint(NOWHERE)
    (message,) = [await outbox.emit(endpoint_id=endpoint_id)]
    around = Surroundings()
    if other != "none":
        earlier = await outbox.emit(endpoint_id=endpoint_id)
        values: dict[str, Any] = {"place": 3, "contact_id": contact, "due_at": START + LEASE}
        if other == "under way":
            values |= {"lease_token": "lse_other", "lease_until": START + LEASE}
        await change_deliveries(outbox, [earlier], **values, state="delivered" if other == "over" else "pending")
        ahead = other != "over" and contact == row["contact_id"] != ""
        around = Surroundings(in_flight=int(other == "under way"), ahead=earlier if ahead else None)
    await change_deliveries(outbox, [message], **row)
    await change(outbox, endpoint_id, **endpoint_row)
    stored = await outbox.endpoint_row(endpoint_id)
    (delivery,) = [one for one in await outbox.rows() if one.message_id == message]
    failing = gates.first_failing(gates.rules(stored, delivery, START, around))
    found = [one.message_id for one in await claimed(outbox)]
    assert found == ([] if failing else [message]), failing


async def test_a_rate_is_never_exceeded_by_two_processes_and_nearly_reached(outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    await change(outbox, endpoint_id, rate_per_second=20.0)
    for _ in range(70):
        await outbox.emit()
    other = Dispatcher(outbox.database, outbox.dispatcher._attempts.sender, outbox.clock)
    for _ in range(60):
        outbox.clock.advance(timedelta(milliseconds=50))
        await asyncio.gather(outbox.dispatcher.drain(), other.drain())
    begun = [(await outbox.attempts(row.id))[0].started_at for row in await outbox.rows() if row.attempt_count]
    for first in begun:
        assert sum(first <= at < first + timedelta(seconds=1) for at in begun) <= 20
    assert len(begun) >= 50
    await other.stop(0)


async def test_no_more_than_the_slots_are_under_way_from_two_processes(outbox, receiver):
    there, most, release, full = Counter(), Counter(), asyncio.Event(), asyncio.Event()

    async def slow(_request: web.Request) -> web.Response:
        there["now"] += 1
        most["ever"] = max(most["ever"], there["now"])
        if there["now"] == 3:
            full.set()
        await release.wait()
        there["now"] -= 1
        return web.Response()

    receiver.answers["/"] = slow
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    await change(outbox, endpoint_id, max_in_flight=3)
    for _ in range(12):
        await outbox.emit()
    other = Dispatcher(outbox.database, outbox.dispatcher._attempts.sender, outbox.clock)
    for _ in range(4):
        await asyncio.gather(outbox.dispatcher.turn(), other.turn())
    await full.wait()
    release.set()
    while any(row.state == "pending" for row in await outbox.rows()):
        await asyncio.gather(outbox.dispatcher.drain(), other.drain())
    assert most["ever"] == 3
    await other.stop(0)


async def test_an_open_breaker_lets_one_attempt_through_whoever_asks_and_the_rest_uses_up_none(outbox, receiver):
    receiver.answers["/"] = 500
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    await change(outbox, endpoint_id, failures=9, failing_since=START)
    for _ in range(30):
        await outbox.emit()
    await outbox.dispatcher.drain()
    assert len(receiver.received) == 1, "it opens"
    assert (await outbox.endpoint_row(endpoint_id)).gate_until == START + timedelta(seconds=30)
    other = Dispatcher(outbox.database, outbox.dispatcher._attempts.sender, outbox.clock)
    for number, seconds in enumerate((30, 60, 120), start=1):
        outbox.clock.advance(timedelta(seconds=seconds) - timedelta(microseconds=1))
        await asyncio.gather(outbox.dispatcher.drain(), other.drain())
        assert len(receiver.received) == number
        outbox.clock.advance(timedelta(microseconds=1))
        await asyncio.gather(outbox.dispatcher.drain(), other.drain())
        assert len(receiver.received) == 1 + number
    assert sum(row.attempt_count for row in await outbox.rows()) == 4
    receiver.answers["/"] = 204
    outbox.clock.advance(timedelta(seconds=240))
    await outbox.dispatcher.drain()
    assert Counter(row.state for row in await outbox.rows())["delivered"] >= 20, "one answer lets the others go"
    row = await outbox.endpoint_row(endpoint_id)
    assert (row.failures, row.failing_since, row.gate_until) == (0, None, None)
    await other.stop(0)


async def test_an_endpoint_that_is_not_verified_gets_one_message_an_hour(outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    await change(outbox, endpoint_id, verification="unverified")
    for _ in range(3):
        await outbox.emit()
    other = Dispatcher(outbox.database, outbox.dispatcher._attempts.sender, outbox.clock)
    await asyncio.gather(outbox.dispatcher.drain(), other.drain())
    assert len(receiver.received) == 1
    await outbox.later(minutes=59)
    assert len(receiver.received) == 1
    await outbox.later(minutes=1)
    assert len(receiver.received) == 2
    await change(outbox, endpoint_id, verification="verified")
    await outbox.dispatcher.drain()
    assert len(receiver.received) == 3
    await other.stop(0)


async def test_a_pause_that_one_message_is_asked_for_holds_the_whole_endpoint(outbox, receiver):
    receiver.answers["/"] = (429, {"Retry-After": "600"})
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    await outbox.emit()
    await outbox.dispatcher.drain()
    receiver.answers["/"] = 204
    await outbox.emit()
    await outbox.later(minutes=9)
    assert len(receiver.received) == 1
    await outbox.later(minutes=1)
    assert len(receiver.received) == 3
    assert 0.5 < (await outbox.endpoint_row(endpoint_id)).pace < 0.51, "it goes on slowly"


async def test_a_pause_of_a_year_is_one_of_a_day(outbox, receiver):
    receiver.answers["/"] = (503, {"Retry-After": str(365 * 86_400)})
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert (await outbox.endpoint_row(endpoint_id)).gate_until == START + timedelta(days=1)


@pytest.mark.parametrize("lane", [RETRY, REPLAY])
async def test_neither_a_backlog_of_retries_nor_a_replay_holds_up_what_is_new(outbox, lane):
    await outbox.endpoint(NOWHERE)
    old = [await outbox.emit() for _ in range(80)]
    await change_deliveries(outbox, old, lane=lane, due_at=START - timedelta(hours=5))
    new = [await outbox.emit() for _ in range(3)]
    found = [one.message_id for one in await claimed(outbox, limit=6)]
    assert (len(set(new) & set(found)), len(set(old) & set(found))) == (2, 2), "they take turns"


async def test_lanes_take_turns_over_all_endpoints(outbox):
    for _ in range(20):
        endpoint_id = await outbox.endpoint(NOWHERE)
        retried = [await outbox.emit(endpoint_id=endpoint_id) for _ in range(2)]
        await change_deliveries(outbox, retried, lane=RETRY)
    fresh = await outbox.endpoint(NOWHERE)
    message = await outbox.emit(endpoint_id=fresh)
    for offset in range(5):
        found = await claimed(outbox, limit=2, offset=offset)
        if message in [one.message_id for one in found]:
            break
    assert offset == 0


async def test_messages_about_a_contact_are_sent_strictly_one_after_the_other(outbox, receiver):
    order: list[tuple[str, int]] = []
    failing = {("cnt_a", 2)}

    async def note(request: web.Request) -> web.Response:
        data = (await request.json())["data"]
        order.append((data["contact_id"], data["n"]))
        return web.Response(status=500 if order[-1] in failing else 200)

    receiver.answers["/"] = note
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    await change(outbox, endpoint_id, ordering="by_contact")
    for n in range(1, 6):
        for contact in ("cnt_a", "cnt_b"):
            await outbox.emit(data={"contact_id": contact, "n": n})
    await outbox.emit(data={"contact_id": "", "n": 1})
    await outbox.dispatcher.drain()
    assert [n for contact, n in order if contact == "cnt_b"] == [1, 2, 3, 4, 5]
    assert [n for contact, n in order if contact == "cnt_a"] == [1, 2], "the failed one holds up its own"
    assert ("", 1) in order
    failing.clear()
    await outbox.later(seconds=6)
    assert [n for contact, n in order if contact == "cnt_a"] == [1, 2, 2, 3, 4, 5]
    assert {row.state for row in await outbox.rows()} == {"delivered"}


async def test_who_waits_behind_a_message_of_its_contact_is_not_looked_through_again_and_again(outbox):
    endpoint_id = await outbox.endpoint(NOWHERE)
    await change(outbox, endpoint_id, ordering="by_contact")
    head = await outbox.emit(data={"contact_id": "cnt_a"})
    behind = [await outbox.emit(data={"contact_id": "cnt_a"}) for _ in range(5)]
    await change_deliveries(outbox, [head], due_at=START + timedelta(hours=5), lane=RETRY)
    assert await claimed(outbox) == []
    due = {row.due_at for row in await outbox.rows() if row.message_id in behind}
    assert due == {START + timedelta(hours=5)}


async def test_a_retry_goes_at_once_however_many_of_its_contact_wait_behind_it(outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    await change(outbox, endpoint_id, ordering="by_contact")
    for n in range(6):
        receiver.answers["/"] = 500
        for _ in range(3):
            await outbox.emit(data={"contact_id": f"cnt_{n}"})
        await outbox.dispatcher.drain()
        receiver.answers["/"] = 204
        await outbox.later(seconds=7)  # those behind it have not been tried, and are due again as well
        assert {row.state for row in await outbox.rows()} == {"delivered"}, "whichever lane comes first this time"


async def test_what_this_deployment_forbids_is_neither_counted_nor_held_against_the_endpoint(outbox, receiver):
    endpoint_id = await outbox.endpoint("http://192.168.7.7/")
    await outbox.emit()
    for _ in range(30):
        await outbox.later(minutes=5)
    row = await outbox.only()
    assert (row.state, row.last_outcome) == ("pending", "destination_not_allowed")
    assert row.attempt_count == row.attempts_before > 20, "they are told among the attempts, and use up none"
    health = await outbox.endpoint_row(endpoint_id)
    assert (health.failures, health.failing_since, health.gate_reason) == (0, None, "our_fault")
    await change(outbox, endpoint_id, url=receiver.base + "/")
    await outbox.later(minutes=5)
    assert (await outbox.only()).state == "delivered"


async def test_an_endpoint_whose_row_others_hold_is_waited_for_at_the_next_claim(postgresql_outbox):
    outbox = postgresql_outbox
    endpoint_id = await outbox.endpoint(NOWHERE)
    await change(outbox, endpoint_id, rate_per_second=100.0)
    await outbox.emit()
    left = LeftOver()
    async with outbox.database.write(ORG) as tx:
        await tx.run(update(endpoints).where(endpoints.c.id == endpoint_id).values(description="being changed"))
        assert await claimed(outbox, left=left) == []
        assert left.skipped == (ORG, endpoint_id)
        assert left.look_again_at is not None
        waiting = asyncio.create_task(claimed(outbox, left=LeftOver(insist=left.skipped)))
        async with outbox.database.callers.engine.connect() as watching:
            while not (await watching.exec_driver_sql("SELECT 1 FROM pg_locks WHERE NOT granted")).all():
                pass
    assert len(await waiting) == 1


async def test_an_endpoint_that_changes_while_it_is_compared_is_not_taken_for_what_it_was(
    postgresql_outbox, monkeypatch
):
    outbox = postgresql_outbox
    key = (ORG, await outbox.endpoint("https://one.test/"))
    fetch = endpoint_rows._fetch

    async def and_then_it_changes(*asked: Any) -> Any:
        found = await fetch(*asked)
        await change(outbox, key[1], url="https://two.test/")
        return found

    async def url() -> str:
        async with outbox.database.system() as tx:
            return str((await endpoint_rows.of(tx, [key]))[key].url)

    with monkeypatch.context() as patch:
        patch.setattr(endpoint_rows, "_fetch", and_then_it_changes)
        assert await url() == "https://two.test/"
    await change(outbox, key[1], url="https://one.test/")
    assert [await url() for _ in range(2)] == ["https://one.test/"] * 2
