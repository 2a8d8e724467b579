"""The public keys of endpoints: shown to anybody, and nothing else of them."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.receiver import Receiver
from tests.running import RunningCore

pytestmark = pytest.mark.anyio
PATH = "/.well-known/webhook-keys.json"
V1A = [{"format": "SIGNATURE_FORMAT_V1A"}]


async def test_a_receiver_verifies_with_the_key_it_finds_there(core: RunningCore, receiver: Receiver) -> None:
    async with core.http() as http:
        made = await http.post("/api/v1/webhooks", json={"url": receiver.url, "extraSignatures": V1A})
        assert made.status_code == 201, made.text
        endpoint_id = made.json()["endpoint"]["id"]
        plain = (await http.post("/api/v1/webhooks", json={"url": receiver.url})).json()["endpoint"]["id"]
        body = {"type": "contact", "fields": {"email": "ada@example.com"}}
        assert (await http.post("/api/v1/crm/records", json=body)).status_code == 200
        await core.settle()
        answer = await http.get(PATH, headers={"authorization": ""})
        one = await http.get(PATH, params={"kid": endpoint_id}, headers={"authorization": ""})
        for none in (plain, "nonsense", "ep_00000000000000000000000000", "%"):
            assert (await http.get(PATH, params={"kid": none})).json() == {"keys": []}
    assert answer.headers["content-type"] == "application/jwk-set+json"
    assert "max-age" in answer.headers["cache-control"]
    assert one.json() == answer.json()
    (key,) = answer.json()["keys"]
    assert {**key, "x": ""} == {
        "kty": "OKP",
        "crv": "Ed25519",
        "alg": "EdDSA",
        "use": "sig",
        "kid": endpoint_id,
        "x": "",
    }
    (request,) = [one for one in receiver.received if "v1a," in one.headers["webhook-signature"]]
    token = request.headers["webhook-signature"].partition("v1a,")[2]
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.body
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    public.verify(base64.b64decode(token), signed)


async def test_an_endpoint_that_stops_signing_with_it_shows_its_key_no_more(core: RunningCore) -> None:
    async with core.http() as http:
        made = await http.post("/api/v1/webhooks", json={"url": "https://example.com/", "extraSignatures": V1A})
        endpoint_id = made.json()["endpoint"]["id"]
        assert len((await http.get(PATH)).json()["keys"]) == 1
        changed = await http.patch(
            f"/api/v1/webhooks/{endpoint_id}", params={"updateMask": "extra_signatures"}, json={}
        )
        assert changed.status_code == 200, changed.text
        assert (await http.get(PATH)).json() == {"keys": []}


async def test_only_reading_is_allowed(core: RunningCore) -> None:
    async with core.http() as http:
        assert (await http.post(PATH, json={})).status_code == 405
