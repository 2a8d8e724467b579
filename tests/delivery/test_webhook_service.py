"""Endpoints and deliveries through their handlers, against both databases and a real receiver."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from google.protobuf.duration_pb2 import Duration

from core.domain.enrollment import DeliveryEnded
from core.domain.errors import (
    DeliveryUnderWay,
    EndpointDeleted,
    EndpointNotActive,
    EtagMismatch,
    Invalid,
    NotFound,
    PayloadNotKept,
    TooManyEndpoints,
)
from core.domain.webhooks import signing
from core.rpc.webhooks import endpoints, webhooks
from core.store.webhooks import deliveries, delivery_claims
from core.store.webhooks.outbox import FIRST, REPLAY
from dripstone.v1 import webhook_pb2 as pb
from tests.delivery.conftest import ORG
from tests.delivery.service import Service, reasons

pytestmark = pytest.mark.anyio
OTHER_ORG = "org_other"


@pytest.fixture
async def service(outbox, sender):
    await outbox.organization(OTHER_ORG)
    return Service(outbox, sender)


async def test_a_new_endpoint_shows_its_secret_once_and_signs_with_it(service, outbox, receiver):
    created = await service.create(receiver.base, description="CRM", event_types=["deal.won", "deal.won"])
    endpoint = created.endpoint
    assert (endpoint.url, list(endpoint.event_types), endpoint.etag) == (receiver.base + "/", ["deal.won"], '"1"')
    assert (endpoint.state, endpoint.retry_preset) == (pb.ENDPOINT_STATE_ACTIVE, pb.RETRY_PRESET_STANDARD)
    assert await service.endpoint(endpoint.id) == endpoint
    assert list((await service(endpoints.list_endpoints, pb.ListEndpointsRequest())).endpoints) == [endpoint]
    await outbox.emit()
    await outbox.dispatcher.drain()
    (request,) = receiver.received
    signing.verify(created.secret, request.headers, request.body, outbox.clock.now())


async def test_bad_input_is_refused_with_its_place_and_the_nearest_name(service):
    with pytest.raises(Invalid) as caught:
        await service.create("https://example.com/", event_types=["deal.won", "Lead.Qualified"])
    assert reasons(caught) == [("event_types[1]", "EVENT_TYPE_MALFORMED")]
    assert caught.value.violations[0].hint == "Did you mean lead.qualified?"
    with pytest.raises(Invalid) as caught:
        await service.create("http://10.0.0.1/")
    assert reasons(caught) == [("url", "DESTINATION_NOT_ALLOWED"), ("url", "URL_NOT_HTTPS")]


async def test_an_organization_has_a_limited_number_of_endpoints(service, receiver, monkeypatch):
    monkeypatch.setattr(endpoints, "MAX_ENDPOINTS", 1)
    await service.create(receiver.base)
    with pytest.raises(TooManyEndpoints):
        await service.create(receiver.base)


async def test_the_limit_holds_for_calls_at_the_same_moment_too(service, receiver, monkeypatch):
    monkeypatch.setattr(endpoints, "MAX_ENDPOINTS", 3)
    await service.create(receiver.base)
    done = await asyncio.gather(*(service.create(receiver.base) for _ in range(6)), return_exceptions=True)
    assert sum(isinstance(one, TooManyEndpoints) for one in done) == 4
    assert len((await service(endpoints.list_endpoints, pb.ListEndpointsRequest())).endpoints) == 3


async def test_another_organization_sees_nothing(service, outbox, receiver):
    endpoint = (await service.create(receiver.base)).endpoint
    await outbox.emit()
    delivery = await outbox.only()
    for handler, request in (
        (endpoints.get_endpoint, pb.GetEndpointRequest(endpoint_id=endpoint.id)),
        (endpoints.update_endpoint, pb.UpdateEndpointRequest(endpoint=pb.Endpoint(id=endpoint.id, description="x"))),
        (endpoints.delete_endpoint, pb.DeleteEndpointRequest(endpoint_id=endpoint.id)),
        (endpoints.rotate_secret, pb.RotateSecretRequest(endpoint_id=endpoint.id)),
        (webhooks.get_delivery, pb.GetDeliveryRequest(delivery_id=delivery.id)),
        (webhooks.redeliver, pb.RedeliverRequest(delivery_id=delivery.id)),
    ):
        with pytest.raises(NotFound):
            await service(handler, request, OTHER_ORG)
    for outside in (service.test, service.verify):
        with pytest.raises(NotFound):
            await outside(endpoint.id, org=OTHER_ORG)
    assert not (await service(endpoints.list_endpoints, pb.ListEndpointsRequest(), OTHER_ORG)).endpoints
    assert not (await service(webhooks.list_deliveries, pb.ListDeliveriesRequest(), OTHER_ORG)).deliveries


async def test_an_update_changes_what_the_mask_names(service, receiver):
    endpoint = (await service.create(receiver.base, description="old", event_types=["deal.won"])).endpoint
    changed = await service.update(pb.Endpoint(id=endpoint.id, url="https://example.com"), "event_types", "description")
    assert (changed.url, changed.description, list(changed.event_types)) == (endpoint.url, "", [])
    changed = await service.update(pb.Endpoint(id=endpoint.id, url="https://example.com"))
    assert (changed.url, changed.etag) == ("https://example.com/", '"3"')


async def test_a_lost_update_is_refused(service, receiver):
    endpoint = (await service.create(receiver.base)).endpoint
    await service.update(pb.Endpoint(id=endpoint.id, description="first", etag=endpoint.etag))
    with pytest.raises(EtagMismatch):
        await service.update(pb.Endpoint(id=endpoint.id, description="second", etag=endpoint.etag))


@pytest.mark.parametrize(
    ("change", "paths", "place"),
    [
        ({"description": "x"}, ["descripton"], ("update_mask.paths[0]", "UNKNOWN_FIELD")),
        ({}, ["url", "disabled_reason"], ("update_mask.paths[1]", "UNKNOWN_FIELD")),
        ({"url": "https://localhost/"}, [], ("endpoint.url", "DESTINATION_NOT_ALLOWED")),
        ({}, ["url"], ("endpoint.url", "URL_MALFORMED")),
        ({"event_types": ["NO"]}, [], ("endpoint.event_types[0]", "EVENT_TYPE_MALFORMED")),
        ({"state": pb.ENDPOINT_STATE_DISABLED}, [], ("endpoint.state", "STATE_NOT_SETTABLE")),
        ({}, ["state"], ("endpoint.state", "STATE_NOT_SETTABLE")),
    ],
)
async def test_a_bad_update_changes_nothing(service, receiver, change, paths, place):
    endpoint = (await service.create(receiver.base)).endpoint
    with pytest.raises(Invalid) as caught:
        await service.update(pb.Endpoint(id=endpoint.id, **change), *paths)
    assert reasons(caught) == [place]
    assert await service.endpoint(endpoint.id) == endpoint


async def test_a_misspelt_mask_names_the_nearest_field(service, receiver):
    endpoint = (await service.create(receiver.base)).endpoint
    with pytest.raises(Invalid) as caught:
        await service.update(pb.Endpoint(id=endpoint.id), "event_type")
    assert caught.value.violations[0].hint.startswith("Did you mean event_types?")


async def test_what_comes_while_an_endpoint_is_disabled_is_skipped_and_can_be_sent_again(service, outbox, receiver):
    endpoint = (await service.create(receiver.base)).endpoint
    receiver.answers["/"] = 410
    await outbox.emit()
    await outbox.dispatcher.drain()
    disabled = await service.endpoint(endpoint.id)
    assert (disabled.state, disabled.disabled_reason) == (pb.ENDPOINT_STATE_DISABLED, "gone")
    receiver.answers["/"] = 200
    meanwhile = await outbox.emit()
    await outbox.dispatcher.drain()
    enabled = await service.update(pb.Endpoint(id=endpoint.id, state=pb.ENDPOINT_STATE_ACTIVE))
    assert (enabled.state, enabled.disabled_reason) == (pb.ENDPOINT_STATE_ACTIVE, "")
    await outbox.dispatcher.drain()
    (skipped,) = await service.deliveries(filter='state = "skipped"')
    assert (skipped.message_id, skipped.last_outcome, skipped.sequence) == (meanwhile, "endpoint_disabled", 0)
    await service.redeliver(skipped.id)
    await outbox.dispatcher.drain()
    assert receiver.ids()[1:] == [meanwhile]
    assert [request.headers["webhook-sequence"] for request in receiver.received] == ["1", "2"]


async def test_deleting_an_endpoint_drops_what_waits_and_tells_the_enrollment(service, outbox, receiver):
    endpoint = (await service.create(receiver.base)).endpoint
    message_id = await outbox.emit(awaited=True)
    await service(endpoints.delete_endpoint, pb.DeleteEndpointRequest(endpoint_id=endpoint.id))
    await outbox.dispatcher.drain()
    assert [(one.org_id, one.enrollment_id, one.stimulus) for one in outbox.finals] == [
        (ORG, "enr_1", DeliveryEnded(message_id, False, "endpoint_deleted"))
    ]
    (delivery,) = await service.deliveries(endpoint_id=endpoint.id)
    assert (delivery.state, delivery.last_outcome) == (pb.DELIVERY_STATE_DROPPED, "endpoint_deleted")
    with pytest.raises(EndpointDeleted):
        await service.redeliver(delivery.id)
    with pytest.raises(NotFound):
        await service(endpoints.delete_endpoint, pb.DeleteEndpointRequest(endpoint_id=endpoint.id))


async def test_a_rotated_secret_and_the_old_one_both_sign_until_the_grace_period_ends(service, outbox, receiver):
    created = await service.create(receiver.base)
    endpoint_id = created.endpoint.id
    rotated = await service(endpoints.rotate_secret, pb.RotateSecretRequest(endpoint_id=endpoint_id))
    assert rotated.old_secret_expire_time.ToDatetime(outbox.clock.now().tzinfo) == outbox.clock.now() + timedelta(
        days=1
    )
    await outbox.emit()
    await outbox.dispatcher.drain()
    for secret in (created.secret, rotated.secret):
        signing.verify(secret, receiver.received[0].headers, receiver.received[0].body, outbox.clock.now())
    revoking = pb.RotateSecretRequest(endpoint_id=endpoint_id, grace_period=Duration(seconds=0))
    newest = await service(endpoints.rotate_secret, revoking)
    await outbox.emit()
    await outbox.dispatcher.drain()
    signing.verify(newest.secret, receiver.received[1].headers, receiver.received[1].body, outbox.clock.now())
    assert " " not in receiver.received[1].headers["webhook-signature"]


async def test_at_most_ten_old_secrets_sign(service, outbox, receiver):
    endpoint_id = (await service.create(receiver.base)).endpoint.id
    for _ in range(12):
        await service(endpoints.rotate_secret, pb.RotateSecretRequest(endpoint_id=endpoint_id))
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert len(receiver.received[0].headers["webhook-signature"].split(" ")) == 11


@pytest.mark.parametrize("seconds", [-1, 7 * 86_400 + 1])
async def test_a_grace_period_out_of_range_is_refused(service, receiver, seconds):
    endpoint_id = (await service.create(receiver.base)).endpoint.id
    request = pb.RotateSecretRequest(endpoint_id=endpoint_id, grace_period=Duration(seconds=seconds))
    with pytest.raises(Invalid) as caught:
        await service(endpoints.rotate_secret, request)
    assert reasons(caught) == [("grace_period", "OUT_OF_RANGE")]


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (204, (True, "done", 1, 204, "the receiver took it (HTTP 204)")),
        (500, (False, "http", 11110111, 500, "the receiver answered with a status that is not 2xx (HTTP 500)")),
        (410, (False, "http", 11110111, 410, "the receiver answered 410: it wants no more webhooks")),
    ],
)
async def test_a_test_call_gives_a_typed_verdict_and_leaves_no_trace(service, outbox, receiver, answer, verdict):
    created = await service.create(receiver.base)
    receiver.answers["/"] = answer
    got = await service.test(created.endpoint.id)
    assert (got.ok, got.stage, got.code, got.status_code, got.message) == verdict
    (request,) = receiver.received
    signing.verify(created.secret, request.headers, request.body, outbox.clock.now())
    assert b'"type":"endpoint.test"' in request.body
    assert not await service.deliveries()
    after = await service.endpoint(created.endpoint.id)
    assert after == created.endpoint


async def test_a_test_call_to_a_forbidden_address_says_so_and_no_more(service, receiver):
    endpoint_id = (await service.create(receiver.base)).endpoint.id
    service.sender.refuse("127.0.0.1", int(receiver.base.rpartition(":")[2]))
    got = await service.test(endpoint_id)
    assert (got.ok, got.stage, got.code, got.message) == (False, "policy", 11110114, "destination not allowed")


async def test_a_delivery_shows_its_payload_and_every_attempt(service, outbox, receiver):
    receiver.answers["/"] = 503
    await service.create(receiver.base)
    message_id = await outbox.emit()
    await outbox.dispatcher.drain()
    (listed,) = await service.deliveries()
    assert (listed.payload, list(listed.attempts)) == ("", [])
    whole = await service.delivery(listed.id)
    assert whole.payload == receiver.received[0].body.decode()
    assert (whole.message_id, whole.enrollment_id, whole.state) == (message_id, "enr_1", pb.DELIVERY_STATE_PENDING)
    assert whole.next_attempt_time.ToDatetime(outbox.clock.now().tzinfo) > outbox.clock.now()
    (attempt,) = whole.attempts
    assert (attempt.number, attempt.outcome, attempt.status_code) == (1, "http_status", 503)
    assert attempt.duration.ToTimedelta() > timedelta(0)


@pytest.mark.parametrize(
    "name", ["dlv_", "nonsense", "dlv_zzzzzzzzzzzzzzzzzzzzzzzzzz", "dlv_00000000000000000000000000"]
)
async def test_an_unknown_delivery_is_not_found(service, name):
    with pytest.raises(NotFound):
        await service.delivery(name)


async def test_deliveries_are_listed_in_pages_newest_first_and_filtered(service, outbox, receiver):
    await service.create(receiver.base)
    for event_type in ("deal.won", "deal.lost", "deal.won"):
        outbox.clock.advance(timedelta(milliseconds=1))
        await outbox.emit(event_type)
    first = await service(webhooks.list_deliveries, pb.ListDeliveriesRequest(page_size=2))
    rest = await service(
        webhooks.list_deliveries, pb.ListDeliveriesRequest(page_size=2, page_token=first.next_page_token)
    )
    found = [delivery.event_type for delivery in (*first.deliveries, *rest.deliveries)]
    assert (found, rest.next_page_token) == (["deal.won", "deal.lost", "deal.won"], "")
    assert len(await service.deliveries(filter='event_type = "deal.won" AND state = "pending"')) == 2
    assert len(await service.deliveries(filter='enrollment_id = "enr_2"')) == 0


async def test_a_failed_delivery_is_sent_again_under_its_id_with_a_fresh_schedule(service, outbox, receiver):
    receiver.answers["/"] = 500
    await service.create(receiver.base, retry_preset=pb.RETRY_PRESET_QUICK)
    message_id = await outbox.emit(awaited=True)
    await outbox.dispatcher.drain()
    for _ in range(4):
        await outbox.later(seconds=10)
    row = await outbox.only()
    assert (row.state, len(outbox.finals)) == ("failed", 1)
    again = await service.redeliver(row.id)
    assert (again.state, again.attempt_count, len(again.attempts)) == (pb.DELIVERY_STATE_PENDING, 5, 5)
    await outbox.dispatcher.drain()
    for _ in range(4):
        await outbox.later(seconds=10)
    row = await outbox.only()
    assert (row.state, row.attempt_count, len(outbox.finals)) == ("failed", 10, 1)
    assert set(receiver.ids()) == {message_id}


async def test_a_waiting_delivery_is_brought_forward_and_still_awaited(service, outbox, receiver):
    receiver.answers["/"] = 500
    await service.create(receiver.base)
    await outbox.emit(awaited=True)
    await outbox.dispatcher.drain()
    receiver.answers["/"] = 200
    await service.redeliver((await outbox.only()).id)
    await outbox.dispatcher.drain()
    assert [final.delivered for final in outbox.finals] == [True]


async def test_what_cannot_be_sent_again_now_is_refused_with_a_way_out(service, outbox, receiver):
    endpoint_id = (await service.create(receiver.base)).endpoint.id
    await outbox.emit()
    row = await outbox.only()
    await service.update(pb.Endpoint(id=endpoint_id, state=pb.ENDPOINT_STATE_PAUSED))
    with pytest.raises(EndpointNotActive) as caught:
        await service.redeliver(row.id)
    assert "UpdateEndpoint" in caught.value.way_out
    await service.update(pb.Endpoint(id=endpoint_id, state=pb.ENDPOINT_STATE_ACTIVE))
    async with outbox.database.system() as tx:
        await delivery_claims.claim(tx, limit=1, lease=timedelta(seconds=90), token="lse_1")
    with pytest.raises(DeliveryUnderWay):
        await service.redeliver(row.id)


async def test_what_is_no_longer_kept_cannot_be_sent_again_and_stays_as_it_was(service, outbox, receiver):
    await service.create(receiver.base)
    await outbox.emit()
    await outbox.dispatcher.drain()
    async with outbox.database.write(ORG) as tx:
        await tx.run(deliveries.messages.delete())
    row = await outbox.only()
    with pytest.raises(PayloadNotKept):
        await service.redeliver(row.id)
    assert await outbox.only() == row


async def test_a_body_of_the_endpoints_own_is_sent_again_without_the_messages(service, outbox, receiver):
    await outbox.endpoint(receiver.base + "/", payload_format="event")
    await outbox.emit()
    await outbox.dispatcher.drain()
    async with outbox.database.write(ORG) as tx:
        await tx.run(deliveries.messages.delete())
    await service.redeliver((await outbox.only()).id)
    await outbox.dispatcher.drain()
    first, again = receiver.received
    assert first.body == again.body


async def test_what_a_replay_made_due_is_a_first_attempt_again_once_somebody_sends_it(service, outbox):
    await outbox.endpoint("https://hooks.example.com/")
    await outbox.emit()
    row = await outbox.only()
    async with outbox.database.write(ORG) as tx:
        await tx.run(deliveries.deliveries.update().values(state="failed", lane=REPLAY, replay_id="rpl_1"))
    await service.redeliver(row.id)
    row = await outbox.only()
    assert (row.state, row.lane, row.replay_id) == ("pending", FIRST, None)
