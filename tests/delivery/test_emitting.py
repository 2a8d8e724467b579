"""What an event becomes: a message, and a delivery for each endpoint that wants it, in its form and at its position."""

from __future__ import annotations

import asyncio
import json

import pytest

from core import ids
from core.domain.effects import Emit
from core.store.records.records import upsert
from core.store.webhooks import deliveries, endpoints
from core.store.webhooks.deliveries import Emission, Reach
from tests.delivery.conftest import ORG

pytestmark = pytest.mark.anyio
OTHER = "org_other"
URL = "https://hooks.example.com/"


async def messages(outbox):
    async with outbox.database.read(ORG) as tx:
        return list(await tx.all(deliveries.messages.select()))


async def emit(outbox, *emissions, org=ORG):
    async with outbox.database.write(org) as tx:
        return await deliveries.emit(tx, list(emissions))


def emission(outbox, event_type="deal.won", data=None, org=ORG, **values):
    return Emission(org, Emit(ids.mint("msg", outbox.clock.now()), event_type, data or {"n": 1}, **values), "enr_1")


async def rolled_back(outbox):
    async with outbox.database.write(ORG) as tx:
        await deliveries.emit(tx, [emission(outbox)])
        raise RuntimeError


async def test_a_filter_decides_which_events_an_endpoint_gets(outbox):
    large = await outbox.endpoint(URL, filter="event.data.amount > 100")
    every = await outbox.endpoint(URL)
    await outbox.emit(data={"amount": 5})
    await outbox.emit(data={"amount": 500})
    await outbox.emit(data={"size": 500})
    rows = await outbox.rows()
    assert [row.endpoint_id for row in rows].count(every) == 3
    assert [row.endpoint_id for row in rows].count(large) == 1


async def test_a_message_that_every_filter_refuses_is_kept_without_a_delivery(outbox):
    await outbox.endpoint(URL, filter="event.data.amount > 100")
    only = emission(outbox, data={"amount": 5})
    assert await emit(outbox, only) == {only.effect.id: Reach(0, 0)}
    assert await outbox.rows() == []
    assert [row.id for row in await messages(outbox)] == [only.effect.id]


async def test_a_filter_holds_for_an_endpoint_that_a_step_names_too(outbox):
    named = await outbox.endpoint(URL, filter="event.data.amount > 100")
    only = emission(outbox, data={"amount": 5}, endpoint_id=named, awaited=True)
    assert await emit(outbox, only) == {only.effect.id: Reach(0, 0)}


async def test_nothing_is_written_of_an_event_that_nobody_wants(outbox):
    await outbox.endpoint(URL, event_types=["deal.lost"])
    only = emission(outbox)
    assert await emit(outbox, only) == {only.effect.id: Reach(0, 0)}
    assert await messages(outbox) == []


async def test_writers_of_the_same_organizations_wait_for_nobody(postgresql_outbox):
    outbox = postgresql_outbox
    await outbox.organization(OTHER)
    for org in (ORG, OTHER):
        await outbox.endpoint(URL, org=org)
    both_wrote = asyncio.Barrier(2)

    async def write(orgs):
        async with outbox.database.system() as tx:
            for org in orgs:
                await deliveries.emit(tx, [emission(outbox, org=org)])
                await both_wrote.wait()  # never, if one of them had to wait for the other one's commit

    async with asyncio.timeout(10):
        await asyncio.gather(*(write(orgs) for orgs in ([ORG, OTHER], [OTHER, ORG])))
    assert len([*await outbox.rows(), *await outbox.rows(OTHER)]) == 4


async def test_events_are_written_while_an_endpoint_of_theirs_is_changed(postgresql_outbox):
    outbox = postgresql_outbox
    endpoint_id = await outbox.endpoint(URL)
    async with outbox.database.write(ORG) as changing:
        await endpoints.change(changing, endpoint_id, {"description": "being changed"})
        async with asyncio.timeout(10):
            await outbox.emit()
    assert len(await outbox.rows()) == 1


async def test_a_delivery_says_which_contact_it_is_about_where_that_orders_it(outbox):
    await outbox.endpoint(URL)
    ordered = await outbox.endpoint(URL, ordering="by_contact")
    about = await outbox.emit(data={"contact_id": "cnt_1"})
    other = await outbox.emit(data={"n": 1})
    found = {(row.message_id, row.endpoint_id == ordered): row.contact_id for row in await outbox.rows()}
    assert found == {(about, True): "cnt_1", (about, False): "", (other, True): "", (other, False): ""}


async def test_what_is_meant_for_a_disabled_endpoint_is_skipped_and_not_counted(outbox):
    off = await outbox.endpoint(URL, state="disabled")
    only = emission(outbox, awaited=True)
    assert await emit(outbox, only) == {only.effect.id: Reach(0, 1)}
    row = await outbox.only()
    assert (row.endpoint_id, row.state, row.due_at, row.ended_at) == (off, "skipped", None, outbox.clock.now())
    assert (row.last_outcome, row.sequence) == ("endpoint_disabled", 0)


async def test_a_paused_endpoint_keeps_what_is_meant_for_it(outbox):
    await outbox.endpoint(URL, state="paused")
    only = emission(outbox)
    assert await emit(outbox, only) == {only.effect.id: Reach(1, 0)}
    assert (await outbox.only()).state == "pending"


async def test_an_endpoint_that_fetches_gets_deliveries_too(outbox):
    await outbox.endpoint("", kind="pull")
    await outbox.emit()
    assert (await outbox.only()).state == "pending"


async def test_an_awaited_message_to_one_disabled_endpoint_of_two_ends_with_the_other(outbox, receiver):
    await outbox.endpoint(URL, state="disabled")
    await outbox.endpoint(receiver.url)
    await outbox.emit(awaited=True)
    await outbox.dispatcher.drain()
    (final,) = outbox.finals
    assert (final.delivered, final.outcome, final.status_code) == (False, "endpoint_disabled", 204)


async def test_each_endpoint_gets_the_form_it_asked_for_and_the_message_keeps_its_own(outbox, receiver):
    async with outbox.database.write(ORG) as tx:
        fields = {"email": "ada@example.com", "phone": "+380631234567"}
        contact = (await upsert(tx, "contact", fields, actor="test", cause="test")).record
    for form in ("standard", "event", "array"):
        await outbox.endpoint(f"{receiver.base}/{form}", payload_format=form)
    await outbox.emit("nurture.hot", data={"contact_id": contact.id, "plan": "pro", "workflow_id": "wfl_1"})
    await outbox.dispatcher.drain()
    bodies = {request.path: json.loads(request.body) for request in receiver.received}
    data = {"contact_id": contact.id, "plan": "pro", "workflow_id": "wfl_1"}
    assert bodies == {
        "/standard": {"type": "nurture.hot", "timestamp": "2026-03-02T09:00:00Z", "data": data},
        "/event": {"event": "nurture.hot", "user_id": ORG, "created_at": "2026-03-02T09:00:00Z", "data": data},
        "/array": [
            {
                "automation_id": "wfl_1",
                "title": "nurture.hot",
                "execution_date": "2026-03-02 09:00:00",
                "email": "ada@example.com",
                "phone": "+380631234567",
                "variables": [{"contact_id": contact.id}, {"plan": "pro"}, {"workflow_id": "wfl_1"}],
            }
        ],
    }
    (message,) = await messages(outbox)
    assert json.loads(message.payload) == bodies["/standard"]
    assert sorted(row.payload is None for row in await outbox.rows()) == [False, False, True]


async def test_an_event_that_does_not_fit_its_type_is_refused_and_the_others_go_out(outbox):
    await outbox.endpoint(URL)
    good, bad = emission(outbox), emission(outbox, "lead.qualified", {"score": "high"})
    assert await emit(outbox, bad, good) == {bad.effect.id: Reach(0, 0), good.effect.id: Reach(1, 0)}
    assert [row.message_id for row in await outbox.rows()] == [good.effect.id]
