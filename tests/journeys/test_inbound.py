"""Our own webhooks, sent into inbound sources of our own: what left comes back, whatever the form and the signature."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from google.protobuf.json_format import MessageToDict

from dripstone.v1 import event_pb2, webhook_pb2
from tests.journeys.following import Story
from tests.posting import Poster, posting
from tests.receiver import Receiver
from tests.running import RunningCore

pytestmark = pytest.mark.anyio

TELLING = """
title: Telling
triggers:
  - event: order.placed
steps:
  - id: tell
    kind: webhook
    event_type: order.told
    data: {email: "{{ contact.email }}", note: "{{ event.fields.note }}", total: 12.5}
"""
NOTE = 'Zwölf „Stück“ \\ / <b> 🦉 \u2028 "quoted"'
V1A = webhook_pb2.ExtraSignature(format=webhook_pb2.SIGNATURE_FORMAT_V1A)
DRIPPI = webhook_pb2.ExtraSignature(format=webhook_pb2.SIGNATURE_FORMAT_SHA256_HEX, header="X-Drippi-Signature")
STRIPE = webhook_pb2.ExtraSignature(format=webhook_pb2.SIGNATURE_FORMAT_TIMESTAMPED, header="Stripe-Signature")


@pytest.fixture
async def us(core: RunningCore) -> AsyncIterator[Poster]:
    async with posting(core) as poster:
        await Story(poster.client).begin()
        yield poster


def passing_on(us: Poster, receiver: Receiver) -> None:
    """Let the receiver pass on to our inbound URL what it gets: the core does not call itself."""

    async def handler(request: web.Request) -> web.Response:
        names = [name for name in request.headers if name.lower() not in ("host", "content-length", "connection")]
        headers = {name: request.headers[name] for name in names}
        answer = await us.http.request(request.method, us.path, content=await request.read(), headers=headers)
        allowed = {name: value for name, value in answer.headers.items() if name.startswith("webhook-")}
        return web.Response(status=answer.status_code, body=answer.content, headers=allowed)

    receiver.answers["/"] = handler


def verifier(kind: str, *secrets: str, **more: Any) -> event_pb2.Verifier:
    return event_pb2.Verifier(kind=f"VERIFIER_KIND_{kind}", secrets=secrets, **more)


FORMS = [
    ("standard", "STANDARD", [], lambda made: verifier("STANDARD_WEBHOOKS", made.secret)),
    ("ed25519", "STANDARD", [V1A], lambda made: verifier("STANDARD_WEBHOOKS", made.endpoint.public_key)),
    (
        "event",
        "EVENT",
        [DRIPPI],
        lambda made: verifier("HMAC", made.secret, hmac={"header": "X-Drippi-Signature", "prefix": "sha256="}),
    ),
    ("timestamped", "STANDARD", [STRIPE], lambda made: verifier("STRIPE", made.secret)),
    ("array", "ARRAY", [], lambda made: verifier("STANDARD_WEBHOOKS", made.secret)),
]


@pytest.mark.parametrize(("name", "form", "signatures", "checks"), FORMS, ids=[form[0] for form in FORMS])
async def test_what_leaves_comes_back(
    us: Poster, receiver: Receiver, name: str, form: str, signatures: list[Any], checks: Any
) -> None:
    request = webhook_pb2.CreateEndpointRequest(
        url=receiver.url,
        event_types=["order.told"],
        payload_format=f"PAYLOAD_FORMAT_{form}",
        extra_signatures=signatures,
    )
    made = await us.client.webhooks.CreateEndpoint(request)
    mapping = event_pb2.Mapping(event_name="body.title") if form == "ARRAY" else None
    await us.begin("mirror", verifier=checks(made), mapping=mapping)
    passing_on(us, receiver)
    story = Story(us.client)
    await story.publish("telling", TELLING)
    await story.event("order.placed", "ada@example.com", note=NOTE)
    await us.core.settle()

    back = [event for event in await us.events() if event.source_id == "mirror"]
    assert [event.event_name for event in back] == ["order.told"]
    (event,) = back
    fields = MessageToDict(event.fields)
    if form == "ARRAY":
        fields = {"email": fields["email"], **{k: v for one in fields["variables"] for k, v in one.items()}}
    assert {key: fields[key] for key in ("email", "note", "total")} == {
        "email": "ada@example.com",
        "note": NOTE,
        "total": 12.5,
    }
    assert event.contact_id == next(one.contact_id for one in await us.events() if one.source_id == "app")
    (delivery,) = (await us.client.webhooks.ListDeliveries(webhook_pb2.ListDeliveriesRequest())).deliveries
    assert delivery.state == webhook_pb2.DELIVERY_STATE_DELIVERED

    await us.client.webhooks.Redeliver(webhook_pb2.RedeliverRequest(delivery_id=delivery.id))
    await us.core.settle()
    assert len(receiver.received) == 2
    again = [event for event in await us.events() if event.source_id == "mirror"]
    assert len(again) == (2 if name == "timestamped" else 1), "what Stripe sends has its id in the body, ours has not"


@pytest.mark.parametrize("proof", ["CHALLENGE", "HANDSHAKE"])
async def test_an_endpoint_of_ours_is_verified_by_a_source_of_ours(us: Poster, receiver: Receiver, proof: str) -> None:
    request = webhook_pb2.CreateEndpointRequest(url=receiver.url, require_verification=True)
    made = await us.client.webhooks.CreateEndpoint(request)
    await us.begin("mirror", verifier=verifier("STANDARD_WEBHOOKS", made.secret))
    passing_on(us, receiver)
    verified = await us.client.webhooks.VerifyEndpoint(
        webhook_pb2.VerifyEndpointRequest(endpoint_id=made.endpoint.id, proof=f"VERIFICATION_PROOF_{proof}")
    )
    assert verified.verified, verified
    assert await us.events() == []


async def test_the_first_message_verifies_an_endpoint_of_ours_by_its_echo(us: Poster, receiver: Receiver) -> None:
    request = webhook_pb2.CreateEndpointRequest(url=receiver.url, require_verification=True)
    made = await us.client.webhooks.CreateEndpoint(request)
    await us.begin("mirror", verifier=verifier("STANDARD_WEBHOOKS", made.secret))
    passing_on(us, receiver)
    test = await us.client.webhooks.TestEndpoint(webhook_pb2.TestEndpointRequest(endpoint_id=made.endpoint.id))
    assert test.ok, test
    now = await us.client.webhooks.GetEndpoint(webhook_pb2.GetEndpointRequest(endpoint_id=made.endpoint.id))
    assert now.verification == webhook_pb2.VERIFICATION_VERIFIED
    assert [event.event_name for event in await us.events()] == ["endpoint.test"]
