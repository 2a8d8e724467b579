"""Tests and proofs: what an endpoint is asked, what counts as an answer, and the verdicts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from datetime import timedelta

import pytest
from aiohttp import web

from core.domain.errors import Invalid
from core.domain.webhooks import signing
from core.domain.webhooks.endpoint_options import HIGHEST_RATE
from core.store.webhooks import endpoints
from dripstone.v1 import webhook_pb2 as pb
from tests.delivery.conftest import ORG
from tests.delivery.service import Service, reasons

pytestmark = [pytest.mark.anyio, pytest.mark.one_database]
CHALLENGE, HANDSHAKE = pb.VERIFICATION_PROOF_CHALLENGE, pb.VERIFICATION_PROOF_HANDSHAKE


@pytest.fixture
async def service(outbox, sender):
    return Service(outbox, sender)


async def echoing(request):
    """Answer a challenge as a receiver should."""
    data = json.loads(await request.read())["data"]
    return web.json_response({"challenge": data["challenge"]})


def saying(text, status=200, headers=None):
    async def handle(_request):
        return web.Response(status=status, text=text, headers=headers)

    return handle


@pytest.mark.parametrize("required", [True, False])
async def test_a_challenge_that_comes_back_verifies(service, outbox, receiver, required):
    receiver.answers["/"] = echoing
    created = await service.create(receiver.url, require_verification=required)
    proof = await service.verify(created.endpoint.id, CHALLENGE)
    assert (proof.verified, proof.code, proof.stage) == (True, 1, "done")
    assert proof.message == "the receiver wants the messages"
    assert proof.endpoint == await service.endpoint(created.endpoint.id)
    assert proof.endpoint.verification == pb.VERIFICATION_VERIFIED
    (request,) = receiver.received
    signing.verify(created.secret, request.headers, request.body, outbox.clock.now())
    assert request.json()["type"] == "endpoint.verification"


async def test_a_challenge_is_another_one_each_time(service, receiver):
    receiver.answers["/"] = echoing
    endpoint_id = (await service.create(receiver.url)).endpoint.id
    await service.verify(endpoint_id)
    await service.verify(endpoint_id)
    first, second = (request.json()["data"]["challenge"] for request in receiver.received)
    assert first != second
    assert len(first) >= 40


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (saying("ok"), (11110112, "body")),
        (saying(""), (11110112, "body")),
        (saying("[" * 10_000), (11110112, "body")),
        (saying("{}"), (11110113, "verify")),
        (saying("[]"), (11110113, "verify")),
        (saying('{"challenge": 7}'), (11110113, "verify")),
        (saying('{"challenge": "wrong"}'), (11110113, "verify")),
        (saying('{"challenge": "\\ud800"}'), (11110113, "verify")),
        (500, (11110111, "http")),
        (302, (11110111, "http")),
        (410, (11110111, "http")),
    ],
)
async def test_any_other_answer_verifies_nothing(service, receiver, answer, verdict):
    receiver.answers["/"] = answer
    endpoint = (await service.create(receiver.url, require_verification=True)).endpoint
    proof = await service.verify(endpoint.id, CHALLENGE)
    assert (proof.verified, proof.code, proof.stage) == (False, *verdict)
    assert proof.message
    assert proof.endpoint == endpoint


async def test_a_forbidden_address_says_so_and_no_more(service, receiver):
    endpoint = (await service.create(receiver.url, require_verification=True)).endpoint
    service.sender.refuse("127.0.0.1", int(receiver.base.rpartition(":")[2]))
    for proof in (CHALLENGE, HANDSHAKE):
        got = await service.verify(endpoint.id, proof)
        assert (got.verified, got.code, got.stage, got.message) == (
            False,
            11110114,
            "policy",
            "destination not allowed",
        )


@pytest.mark.parametrize(
    ("headers", "verified", "rate"),
    [
        ({"WebHook-Allowed-Origin": "dripstone"}, True, 0),
        ({"WebHook-Allowed-Origin": "*"}, True, 0),
        ({"WebHook-Allowed-Origin": "other.example.com, DRIPSTONE", "WebHook-Allowed-Rate": "120"}, True, 2),
        ({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "999999999"}, True, HIGHEST_RATE),
        ({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "*"}, True, 0),
        ({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "-1"}, True, 0),
        ({"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "0"}, True, 0),
        ({"WebHook-Allowed-Origin": "other.example.com"}, False, 0),
        ({}, False, 0),
    ],
)
async def test_a_handshake_is_answered_with_who_may_send_and_how_fast(service, receiver, headers, verified, rate):
    methods = []

    async def handle(request):
        methods.append(request.method)
        return web.Response(status=200, headers=headers)

    receiver.answers["/"] = handle
    endpoint = (await service.create(receiver.url, require_verification=True)).endpoint
    proof = await service.verify(endpoint.id, HANDSHAKE)
    assert (proof.verified, proof.code) == (verified, 1 if verified else 11110113)
    assert proof.endpoint.rate_per_second == rate
    (request,) = receiver.received
    assert (methods, request.headers["webhook-request-origin"], request.body) == (["OPTIONS"], "dripstone", b"")


async def test_a_handshake_never_raises_a_rate_that_the_owner_set(service, receiver):
    receiver.answers["/"] = (200, {"WebHook-Allowed-Origin": "*", "WebHook-Allowed-Rate": "600"})
    endpoint = (await service.create(receiver.url, rate_per_second=1)).endpoint
    assert (await service.verify(endpoint.id, HANDSHAKE)).endpoint.rate_per_second == 1


async def test_a_proof_of_one_url_is_none_for_another(service, receiver):
    endpoint = (await service.create(receiver.url, require_verification=True)).endpoint

    async def moving(request):
        await service.update(pb.Endpoint(id=endpoint.id, url=receiver.base + "/other"))
        return await echoing(request)

    receiver.answers["/"] = moving
    proof = await service.verify(endpoint.id)
    assert (proof.verified, proof.code, proof.endpoint.verification) == (False, 11110113, pb.VERIFICATION_UNVERIFIED)


async def test_verifying_opens_the_gate_of_the_hour(service, outbox, receiver):
    receiver.answers["/"] = echoing
    endpoint = (await service.create(receiver.url, require_verification=True)).endpoint
    gate = {"gate_until": outbox.clock.now() + timedelta(hours=1), "gate_reason": "unverified"}
    async with outbox.database.write(ORG) as tx:
        await endpoints.change(tx, endpoint.id, gate)
    await service.verify(endpoint.id)
    row = await outbox.endpoint_row(endpoint.id)
    assert (row.gate_until, row.gate_reason, row.verification) == (None, "", "verified")


async def test_the_first_answer_with_the_challenge_in_it_verifies(service, outbox, receiver):
    async def handle(request):
        return web.Response(text=f"key: {request.headers['webhook-challenge']}")

    endpoint = (await service.create(receiver.url, require_verification=True)).endpoint
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert (await service.endpoint(endpoint.id)).verification == pb.VERIFICATION_UNVERIFIED
    receiver.answers["/"] = handle
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert len(receiver.received) == 1
    await outbox.later(hours=1)
    assert (await service.endpoint(endpoint.id)).verification == pb.VERIFICATION_VERIFIED
    for _ in range(3):
        await outbox.emit()
    await outbox.dispatcher.drain()
    assert len(receiver.received) == 5
    assert "webhook-challenge" not in receiver.received[-1].headers


async def test_a_challenge_cannot_be_computed_from_what_the_owner_knows(service, outbox, receiver):
    """Else a URL that gives back a part of its own path would prove whatever its owner wrote into it."""
    created = await service.create(receiver.url, require_verification=True)
    secret, endpoint_id = created.secret, created.endpoint.id
    first = (await outbox.endpoint_row(endpoint_id)).challenge
    assert re.fullmatch("[0-9a-f]{64}", first)
    for key in (secret.encode(), base64.b64decode(secret.removeprefix("whsec_"))):
        for text in (endpoint_id, f"challenge of {endpoint_id}"):
            assert hmac.digest(key, text.encode(), hashlib.sha256).hex() != first
    await service.update(pb.Endpoint(id=endpoint_id, url=f"{receiver.base}/{first}"))
    second = (await outbox.endpoint_row(endpoint_id)).challenge
    assert second != first, "what one URL was sent is of no use at another"
    assert second not in str(await service.endpoint(endpoint_id))

    async def reflecting(request):
        return web.Response(text=request.path)

    receiver.answers[f"/{first}"] = reflecting
    await service.test(endpoint_id)
    assert (await service.endpoint(endpoint_id)).verification == pb.VERIFICATION_UNVERIFIED


async def test_an_echo_that_comes_late_proves_nothing_of_the_url_that_came_meanwhile(service, outbox, receiver):
    endpoint = (await service.create(receiver.url, require_verification=True)).endpoint

    async def moving(request):
        await service.update(pb.Endpoint(id=endpoint.id, url="https://victim.example.com/"))
        return web.Response(text=request.headers["webhook-challenge"])

    receiver.answers["/"] = moving
    await outbox.emit()
    await outbox.dispatcher.drain()
    assert len(receiver.received) == 1
    now_is = await service.endpoint(endpoint.id)
    assert (now_is.url, now_is.verification) == ("https://victim.example.com/", pb.VERIFICATION_UNVERIFIED)


async def test_who_proves_an_endpoint_unasked_has_to_prove_its_next_url_too(service, receiver):
    receiver.answers["/"] = echoing
    endpoint = (await service.create(receiver.url)).endpoint
    free = await service.update(pb.Endpoint(id=endpoint.id, url=f"{receiver.base}/other"))
    assert free.verification == pb.VERIFICATION_NOT_REQUIRED, "nobody proved anything: its URL changes freely"
    await service.update(pb.Endpoint(id=endpoint.id, url=receiver.url))
    proof = await service.verify(endpoint.id, CHALLENGE)
    assert (proof.verified, proof.endpoint.verification) == (True, pb.VERIFICATION_VERIFIED)
    moved = await service.update(pb.Endpoint(id=endpoint.id, url=f"{receiver.base}/other"))
    assert moved.verification == pb.VERIFICATION_UNVERIFIED


async def test_a_test_call_can_bring_the_proof_too(service, receiver):
    async def handle(request):
        return web.Response(text=request.headers["webhook-challenge"])

    receiver.answers["/"] = handle
    endpoint = (await service.create(receiver.url, require_verification=True)).endpoint
    assert (await service.test(endpoint.id)).code == 1
    assert (await service.endpoint(endpoint.id)).verification == pb.VERIFICATION_VERIFIED


async def test_an_endpoint_that_fetches_has_nothing_to_test_or_to_verify(service):
    endpoint = (await service.create(kind=pb.ENDPOINT_KIND_PULL)).endpoint
    tested = await service.test(endpoint.id)
    assert (tested.ok, tested.code, tested.stage) == (False, 21111011, "url")
    with pytest.raises(Invalid) as caught:
        await service.verify(endpoint.id)
    assert reasons(caught) == [("endpoint_id", "ENDPOINT_PULLS")]


async def test_a_test_call_says_that_the_settings_are_wrong_where_no_token_can_be_fetched(service, receiver):
    receiver.answers["/token"] = 403
    auth = pb.OAuth2Auth(token_url=f"{receiver.base}/token", client_id="a", client_secret="hidden")
    endpoint = (await service.create(receiver.url, auth=pb.EndpointAuth(oauth2=auth))).endpoint
    tested = await service.test(endpoint.id)
    assert (tested.ok, tested.code, tested.stage) == (False, 21111011, "http")
    assert tested.message == "no access token could be fetched: at the token URL, it answered HTTP 403"


@pytest.mark.parametrize(
    ("form", "reads"),
    [
        (pb.PAYLOAD_FORMAT_STANDARD, lambda body: body["type"]),
        (pb.PAYLOAD_FORMAT_EVENT, lambda body: body["event"]),
        (pb.PAYLOAD_FORMAT_ARRAY, lambda body: body[0]["title"]),
    ],
)
async def test_a_test_call_has_the_form_that_messages_have(service, receiver, form, reads):
    endpoint = (await service.create(receiver.url, payload_format=form)).endpoint
    await service.test(endpoint.id)
    assert reads(json.loads(receiver.received[0].body)) == "endpoint.test"
