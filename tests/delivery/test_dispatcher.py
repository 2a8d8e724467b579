"""The outbox on both databases: what is sent, when again, and what follows; time is turned by hand."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from core.delivery.attempt import BROKE
from core.domain.webhooks import signing
from core.domain.webhooks.retry import DELAYS, Preset
from core.store.webhooks import deliveries, endpoints
from core.store.webhooks.deliveries import FinalDelivery, Reach
from tests.delivery.conftest import ORG, SECRET

pytestmark = pytest.mark.anyio


async def test_a_message_arrives_signed_as_stored(outbox, receiver):
    await outbox.endpoint(receiver.base + "/")
    message_id = await outbox.emit(data={"name": "Zoë"})
    await outbox.dispatcher.drain()
    (request,) = receiver.received
    assert json.loads(request.body) == {
        "type": "deal.won",
        "timestamp": "2026-03-02T09:00:00Z",
        "data": {"name": "Zoë"},
    }
    assert request.headers["webhook-id"] == message_id
    signing.verify(SECRET, request.headers, request.body, outbox.clock.now())
    row = await outbox.only()
    assert (row.state, row.attempt_count, row.last_outcome, row.ended_at) == (
        "delivered",
        1,
        "delivered",
        outbox.clock.now(),
    )
    (attempt,) = await outbox.attempts(row.id)
    assert (attempt.number, attempt.outcome, attempt.status_code, attempt.error) == (1, "delivered", 204, "")


async def test_nothing_is_written_when_nobody_listens(outbox, receiver):
    await outbox.endpoint(receiver.base + "/", event_types=["deal.lost"])
    async with outbox.database.write(ORG) as tx:
        effect = deliveries.Emit("msg_00000000000000000000000000", "deal.won", {}, awaited=True)
        assert await deliveries.emit(tx, [deliveries.Emission(ORG, effect)]) == {effect.id: Reach(0, 0)}
    assert await outbox.rows() == []


async def test_a_message_goes_to_every_endpoint_that_wants_it_and_keeps_its_id(outbox, receiver):
    for path, wanted in (("/all", []), ("/won", ["deal.won", "deal.lost"]), ("/other", ["deal.lost"])):
        await outbox.endpoint(receiver.base + path, event_types=wanted)
    message_id = await outbox.emit()
    await outbox.dispatcher.drain()
    assert sorted(request.path for request in receiver.received) == ["/all", "/won"]
    assert {request.headers["webhook-id"] for request in receiver.received} == {message_id}


async def test_a_message_for_one_endpoint_goes_there_whatever_it_subscribes_to(outbox, receiver):
    named = await outbox.endpoint(receiver.base + "/named", event_types=["deal.lost"])
    await outbox.endpoint(receiver.base + "/all")
    await outbox.emit(endpoint_id=named)
    await outbox.dispatcher.drain()
    assert [request.path for request in receiver.received] == ["/named"]


async def test_data_that_is_refused_is_told_as_no_delivery(outbox, receiver):
    await outbox.endpoint(receiver.base + "/")
    await outbox.emit("lead.qualified", data={"score": "high"})
    await outbox.emit(data={"n": float("nan")})
    assert await outbox.rows() == []


@pytest.mark.parametrize("preset", Preset)
async def test_a_dead_receiver_is_tried_over_the_whole_schedule_at_exact_instants_under_one_id(
    outbox, receiver, preset
):
    receiver.answers["/"] = 500
    endpoint_id = await outbox.endpoint(receiver.base + "/", retry_preset=preset)
    message_id = await outbox.emit()
    await outbox.dispatcher.drain()
    instants = [outbox.clock.now()]
    for number, delay in enumerate(DELAYS[preset], start=1):
        due_at = (await outbox.only()).due_at
        assert 0.8 * delay <= due_at - instants[-1] <= 1.2 * delay, "spread by a fifth at most"
        outbox.clock.advance(due_at - outbox.clock.now() - timedelta(microseconds=1))
        await outbox.dispatcher.drain()
        assert len(receiver.received) == number, "not a microsecond early"
        await outbox.later(microseconds=1)
        assert len(receiver.received) == number + 1
        instants.append(outbox.clock.now())
    row = await outbox.only()
    assert (row.state, row.attempt_count, row.last_outcome) == ("failed", len(instants), "http_status")
    assert set(receiver.ids()) == {message_id}
    stamps = [int(request.headers["webhook-timestamp"]) for request in receiver.received]
    assert stamps == [int(at.timestamp()) for at in instants]
    assert {request.body for request in receiver.received} == {receiver.received[0].body}
    attempts = await outbox.attempts(row.id)
    assert [(one.number, one.started_at) for one in attempts] == list(enumerate(instants, start=1))
    health = await outbox.endpoint_row(endpoint_id)
    assert (health.failing_since, health.failures) == (instants[0], len(instants))
    await outbox.later(days=30)
    assert len(receiver.received) == len(instants)


async def test_running_out_of_attempts_is_told_to_the_other_endpoints(outbox, receiver):
    receiver.answers["/dead"] = 500
    dead = await outbox.endpoint(receiver.base + "/dead", retry_preset="quick", event_types=["deal.won"])
    await outbox.endpoint(receiver.base + "/alarm", event_types=["message.attempt.exhausted"])
    message_id = await outbox.emit()
    await outbox.dispatcher.drain()
    for _ in range(4):
        await outbox.later(seconds=10)
    (alarm,) = [request for request in receiver.received if request.path == "/alarm"]
    data = json.loads(alarm.body)["data"]
    assert (data["message_id"], data["endpoint_id"], data["attempt_count"]) == (message_id, dead, 5)
    assert len(receiver.ids("/dead")) == 5


async def test_retry_after_is_honoured(outbox, receiver):
    receiver.answers["/"] = (429, {"Retry-After": "3600"})
    await outbox.endpoint(receiver.base + "/")
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert (await outbox.only()).due_at == outbox.clock.now() + timedelta(hours=1)
    await outbox.later(minutes=59)
    assert len(receiver.received) == 1
    receiver.answers["/"] = 200
    await outbox.later(minutes=1)
    assert (await outbox.only()).state == "delivered"


async def test_a_recovered_endpoint_is_no_longer_failing(outbox, receiver):
    receiver.answers["/"] = 503
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert (await outbox.endpoint_row(endpoint_id)).failing_since == outbox.clock.now()
    receiver.answers["/"] = 200
    await outbox.later(seconds=10)
    assert (await outbox.endpoint_row(endpoint_id)).failing_since is None


@pytest.mark.parametrize(
    ("answer", "state", "reason", "outcome"),
    [
        (410, "failed", "gone", "gone"),
        ((200, {"webhook-delivery": "disable"}), "delivered", "receiver_asked", "delivered"),
        ((500, {"webhook-delivery": "disable"}), "skipped", "receiver_asked", "endpoint_disabled"),
    ],
)
async def test_a_receiver_can_turn_its_endpoint_off(outbox, receiver, answer, state, reason, outcome):
    receiver.answers["/"] = answer
    endpoint_id = await outbox.endpoint(receiver.base + "/", event_types=["deal.won"])
    await outbox.endpoint(receiver.base + "/alarm", event_types=["endpoint.disabled"])
    await outbox.emit()
    await outbox.dispatcher.drain()
    row = await outbox.endpoint_row(endpoint_id)
    assert (row.state, row.disabled_reason, row.rev) == ("disabled", reason, 2)
    delivery = next(row for row in await outbox.rows() if row.endpoint_id == endpoint_id)
    assert (delivery.state, delivery.last_outcome) == (state, outcome)
    (alarm,) = [request for request in receiver.received if request.path == "/alarm"]
    assert json.loads(alarm.body)["data"]["reason"] == reason
    before = len(receiver.ids("/"))
    await outbox.emit()
    await outbox.later(days=2)
    assert len(receiver.ids("/")) == before


async def test_abort_message_ends_one_delivery_and_leaves_the_endpoint_on(outbox, receiver):
    receiver.answers["/"] = (500, {"webhook-delivery": "abort-message"})
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    await outbox.emit()
    await outbox.dispatcher.drain()
    row = await outbox.only()
    assert (row.state, row.last_outcome, row.attempt_count) == ("failed", "aborted", 1)
    assert (await outbox.endpoint_row(endpoint_id)).state == "active"


async def test_deliveries_of_an_endpoint_that_is_paused_wait(outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.base + "/", state="paused")
    await outbox.emit()
    await outbox.later(days=1)
    assert (receiver.received, (await outbox.only()).state) == ([], "pending")
    async with outbox.database.write(ORG) as tx:
        await endpoints.change(tx, endpoint_id, {"state": "active"})
    await outbox.dispatcher.drain()
    assert (await outbox.only()).state == "delivered"


async def test_an_awaited_message_tells_its_final_outcome_once(outbox, receiver):
    receiver.answers["/"] = 500
    await outbox.endpoint(receiver.base + "/", retry_preset="quick")
    message_id = await outbox.emit(awaited=True)
    await outbox.dispatcher.drain()
    assert outbox.finals == []
    for _ in range(5):
        await outbox.later(seconds=10)
    assert outbox.finals == [FinalDelivery(ORG, "enr_1", message_id, False, "http_status", 500)]


async def test_an_awaited_message_is_final_when_its_last_endpoint_is(outbox, receiver):
    receiver.answers["/slow"] = 500
    await outbox.endpoint(receiver.base + "/fast")
    await outbox.endpoint(receiver.base + "/slow")
    message_id = await outbox.emit(awaited=True)
    await outbox.dispatcher.drain()
    assert outbox.finals == []
    receiver.answers["/slow"] = 202
    await outbox.later(seconds=10)
    assert outbox.finals == [FinalDelivery(ORG, "enr_1", message_id, True, "delivered", 202)]


async def test_a_message_nobody_awaits_tells_nobody(outbox, receiver):
    await outbox.endpoint(receiver.base + "/")
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert outbox.finals == []


async def test_an_endpoint_that_goes_away_drops_what_waits_and_tells_who_waited(outbox, receiver):
    receiver.answers["/"] = 500
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    message_id = await outbox.emit(awaited=True)
    await outbox.emit()
    await outbox.dispatcher.drain()
    async with outbox.database.write(ORG) as tx:
        await endpoints.remove(tx, endpoint_id)
    await outbox.dispatcher.drain()
    assert outbox.finals == [FinalDelivery(ORG, "enr_1", message_id, False, "endpoint_deleted", 0)]
    assert {(row.state, row.last_outcome) for row in await outbox.rows()} == {("dropped", "endpoint_deleted")}
    await outbox.later(days=4)
    assert len(receiver.received) == 2


async def test_both_keys_sign_while_an_old_one_is_in_its_grace_period(outbox, receiver):
    endpoint_id = await outbox.endpoint(receiver.base + "/")
    new = signing.secret_from(b"n" * 32)
    keys = [signing.SigningKey(new), signing.SigningKey(SECRET, outbox.clock.now() + timedelta(hours=1))]
    async with outbox.database.write(ORG) as tx:
        await endpoints.change(tx, endpoint_id, {"secrets": endpoints.secrets_column(keys)})
    await outbox.emit()
    await outbox.dispatcher.drain()
    await outbox.emit()
    await outbox.later(hours=1)
    first, second = receiver.received
    for secret in (new, SECRET):
        signing.verify(secret, first.headers, first.body, outbox.clock.now() - timedelta(hours=1))
    assert (first.headers["webhook-signature"].count(" "), second.headers["webhook-signature"].count(" ")) == (1, 0)


async def test_messages_of_many_organizations_are_emitted_at_once(outbox, receiver):
    for org in ("org_a", "org_b", "org_c"):
        await outbox.organization(org)
    await outbox.endpoint(receiver.base + "/a", "org_a")
    await outbox.endpoint(receiver.base + "/b", "org_b")
    async with outbox.database.system() as tx:
        emissions = [
            deliveries.Emission(org, deliveries.Emit(f"msg_0000000000000000000000000{n}", "deal.won", {"org": org}))
            for n, org in enumerate(("org_a", "org_b", "org_c"))
        ]
        counts = await deliveries.emit(tx, emissions)
    assert [one.sent for one in counts.values()] == [1, 1, 0]
    await outbox.dispatcher.drain()
    assert {(request.path, json.loads(request.body)["data"]["org"]) for request in receiver.received} == {
        ("/a", "org_a"),
        ("/b", "org_b"),
    }


async def test_an_attempt_that_breaks_is_counted_and_tried_again_on_schedule(outbox, receiver):
    endpoint = await outbox.endpoint(receiver.base + "/", retry_preset="quick", secret="whsec_no base64")
    await outbox.emit()
    await outbox.dispatcher.drain()
    row = await outbox.only()
    assert (row.state, row.attempt_count, row.last_outcome, row.lease_token) == ("pending", 1, "bad_response", None)
    assert timedelta(seconds=0.8) <= row.due_at - outbox.clock.now() <= timedelta(seconds=1.2)
    (attempt,) = await outbox.attempts(row.id)
    assert (attempt.outcome, attempt.error) == ("bad_response", BROKE)
    for _ in range(4):
        await outbox.later(minutes=1)
    assert ((await outbox.only()).state, (await outbox.only()).attempt_count) == ("failed", 5)
    assert (await outbox.endpoint_row(endpoint)).failures == 5
    assert receiver.received == []
