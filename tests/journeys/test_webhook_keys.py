"""The public keys of endpoints: shown to anybody, and nothing else of them."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.gateway import webhook_keys
from core.store.webhooks import endpoints
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


async def test_who_has_the_answer_still_is_told_so_until_it_changes(core: RunningCore) -> None:
    async with core.http() as http:
        await http.post("/api/v1/webhooks", json={"url": "https://example.com/", "extraSignatures": V1A})
        first = await http.get(PATH)
        for condition in (first.headers["etag"], f'"other", W/{first.headers["etag"]}', "*"):
            again = await http.get(PATH, headers={"if-none-match": condition})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == first.headers["etag"]
            assert again.headers["cache-control"] == "public, max-age=300"
        await http.post("/api/v1/webhooks", json={"url": "https://example.com/", "extraSignatures": V1A})
        changed = await http.get(PATH, headers={"if-none-match": first.headers["etag"]})
    assert (changed.status_code, len(changed.json()["keys"])) == (200, 2)


async def test_an_answer_has_so_many_keys_and_leads_to_the_next(
    core: RunningCore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_keys, "MOST_KEYS", 2)
    async with core.http() as http:
        made = [
            (await http.post("/api/v1/webhooks", json={"url": "https://example.com/", "extraSignatures": V1A})).json()
            for _ in range(5)
        ]
        found, path = [], PATH
        while path:
            answer = await http.get(path)
            found.append([key["kid"] for key in answer.json()["keys"]])
            path = answer.links["next"]["url"] if "link" in answer.headers else ""
        assert (await http.get(PATH, params={"after": "' OR 1=1"})).json() == {"keys": []}
    ids = sorted(one["endpoint"]["id"] for one in made)
    assert found == [ids[:2], ids[2:4], ids[4:]]


async def test_nothing_is_read_but_what_is_public(core: RunningCore) -> None:
    async with core.http() as http:
        await http.post("/api/v1/webhooks", json={"url": "https://example.com/", "extraSignatures": V1A})
    async with core.core.database.system() as tx:
        (row,) = await endpoints.public_keys(tx, 10)
    assert set(row._mapping) == {"id", "public_key"}


async def test_only_reading_is_allowed(core: RunningCore) -> None:
    async with core.http() as http:
        assert (await http.post(PATH, json={})).status_code == 405
