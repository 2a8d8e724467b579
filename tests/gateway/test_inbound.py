"""Inbound URLs from outside: who is let in, what is answered, and that nothing which is sent breaks anything."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.gateway.inbound import Inbound
from dripstone.v1 import event_pb2 as pb
from tests.databases import Databases
from tests.posting import SECRET, Poster

pytestmark = pytest.mark.anyio

CE = {"specversion": "1.0", "id": "1", "source": "/orders", "type": "order.paid"}
STRUCTURED = {"content-type": "application/cloudevents+json"}
UNKNOWN = "/in/" + "0" * 32


@pytest.fixture
def database_url(tmp_path: Path, databases: Databases) -> str:
    """Return the address of one database that a whole core starts on: tests/rpc/test_quarantine.py uses both."""
    return databases.on_sqlite(tmp_path / "dripstone.db", "migrated")


def signed(body: bytes, secret: str) -> str:
    return hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


async def test_an_unknown_token_is_answered_like_any_path_that_leads_nowhere(
    shop: Poster, http: httpx2.AsyncClient
) -> None:
    await shop.begin()
    nowhere = (await http.post("/nowhere", content=b"{}")).json()["error"]
    for path in (UNKNOWN, "/in/x", "/in/" + "é" * 32, "/in/%00", shop.path.upper(), shop.path + "0"):
        for verb in ("POST", "GET", "OPTIONS"):
            answer = await http.request(verb, path)
            told = answer.json()["error"]
            assert (answer.status_code, told["reason"]) == (404, "ROUTE_NOT_FOUND"), path
            assert (told["hint"], told["status"]) == (nowhere["hint"], nowhere["status"])


async def test_a_url_works_through_its_grace_period_and_no_longer(shop: Poster) -> None:
    source = await shop.begin()
    old = shop.path
    rotated = await shop.client.events.RotateInboundUrl(
        pb.RotateInboundUrlRequest(source_id=source.id, grace_period={"seconds": 3600})
    )
    end = shop.core.clock.now() + timedelta(hours=1)
    assert rotated.old_url_expire_time.ToJsonString() == end.isoformat().replace("+00:00", "Z")
    assert rotated.inbound_path not in ("", old)
    statuses = [(await shop.send({"type": "a"}, path=path)).status_code for path in (old, rotated.inbound_path)]
    assert statuses == [200, 200]
    shop.core.clock.advance(timedelta(hours=1))
    statuses = [(await shop.send({"type": "a"}, path=path)).status_code for path in (old, rotated.inbound_path)]
    assert statuses == [404, 200]
    at_once = await shop.client.events.RotateInboundUrl(
        pb.RotateInboundUrlRequest(source_id=source.id, grace_period={"seconds": 0})
    )
    paths = (old, rotated.inbound_path, at_once.inbound_path)
    assert [(await shop.send({"type": "a"}, path=path)).status_code for path in paths] == [404, 404, 200]


BAD_SIGNATURES: list[dict[str, str]] = [
    {},
    {"webhook-id": "m"},
    {"webhook-id": "m", "webhook-timestamp": "1", "webhook-signature": "v1,AAAA"},
    {"webhook-id": "m", "webhook-timestamp": "now", "webhook-signature": "v1,AAAA"},
    {"webhook-signature": "v1,"},
    {"authorization": "Bearer x"},
]


async def test_what_is_not_verified_is_refused_in_one_way_and_leaves_nothing(shop: Poster) -> None:
    await shop.begin()
    now = str(int(shop.core.clock.now().timestamp()))
    bad = [*BAD_SIGNATURES, {"webhook-id": "m", "webhook-timestamp": now, "webhook-signature": "v1,AAAA"}]
    answers = [await shop.post(b'{"type": "a"}', headers) for headers in bad]
    assert {answer.status_code for answer in answers} == {401}
    told = [{**answer.json()["error"], "request_id": ""} for answer in answers]
    assert told == told[:1] * len(told)
    assert told[0]["reason"] == "NOT_VERIFIED"
    assert {answer.headers["www-authenticate"] for answer in answers} == {'Signature realm="inbound"'}
    assert (await shop.send({"type": "a"}, secret="whsec_" + base64.b64encode(b"x" * 32).decode())).status_code == 401
    assert (await shop.events(), await shop.quarantined()) == ([], [])


async def test_secrets_rotate_with_overlap_and_are_never_shown(shop: Poster) -> None:
    other = "whsec_" + base64.b64encode(b"y" * 32).decode()
    await shop.begin()
    source = await shop.update(
        "verifier", verifier=pb.Verifier(kind=pb.VERIFIER_KIND_STANDARD_WEBHOOKS, secrets=[other, SECRET])
    )
    assert [(await shop.send({"type": "a"}, secret=secret)).status_code for secret in (SECRET, other)] == [200, 200]
    await shop.update("verifier", verifier=pb.Verifier(kind=pb.VERIFIER_KIND_STANDARD_WEBHOOKS, secrets=[other]))
    assert [(await shop.send({"type": "a"}, secret=secret)).status_code for secret in (SECRET, other)] == [401, 200]
    kept = await shop.update("verifier", verifier=source.verifier)
    assert [(await shop.send({"type": "a"}, secret=secret)).status_code for secret in (SECRET, other)] == [401, 200]
    for one in (source, kept, await shop.client.events.GetSource(pb.GetSourceRequest(source_id="shop"))):
        assert (list(one.verifier.secrets), one.inbound_path) == ([], "")
        assert one.verifier.kind == pb.VERIFIER_KIND_STANDARD_WEBHOOKS


@pytest.mark.parametrize(
    ("kind", "settings", "headers", "challenge"),
    [
        (pb.VERIFIER_KIND_BASIC, {"secrets": ["ada:s"]}, {"authorization": "Basic YWRhOnM="}, "Basic"),
        (pb.VERIFIER_KIND_BEARER, {"secrets": ["token"]}, {"authorization": "Bearer token"}, "Bearer"),
        (
            pb.VERIFIER_KIND_GITHUB,
            {"secrets": ["s"]},
            {"x-hub-signature-256": "sha256=" + signed(b'{"type": "a"}', "s")},
            "Signature",
        ),
        (
            pb.VERIFIER_KIND_HMAC,
            {"secrets": ["s"], "hmac": {"header": "X-Drippi-Signature", "prefix": "sha256="}},
            {"x-drippi-signature": "sha256=" + signed(b'{"type": "a"}', "s")},
            "Signature",
        ),
    ],
)
async def test_a_source_is_verified_its_own_way(
    shop: Poster, kind: Any, settings: dict[str, Any], headers: dict[str, str], challenge: str
) -> None:
    await shop.begin(verifier=pb.Verifier(kind=kind, **settings))
    assert (await shop.post(b'{"type": "a"}', headers)).json()["status"] == "accepted"
    refused = await shop.post(b'{"type": "a"}', {})
    assert (refused.status_code, refused.headers["www-authenticate"].split(" ")[0]) == (401, challenge)
    (event,) = await shop.events()
    assert "s" not in dict(event.fields)


async def test_cloudevents_come_in_in_every_mode(shop: Poster) -> None:
    await shop.begin(verifier=None)
    binary = {f"ce-{name}": value for name, value in {**CE, "id": "2"}.items()}
    structured = json.dumps({**CE, "time": "2026-03-02T08:00:00Z", "data": {"email": "ada@example.com"}}).encode()
    batch = json.dumps([{**CE, "id": "3"}, {**CE, "id": "1"}]).encode()
    answers = [
        await shop.post(structured, STRUCTURED),
        await shop.post(b'{"email": "bob@example.com"}', {"content-type": "application/json", **binary}),
        await shop.post(batch, {"content-type": "application/cloudevents-batch+json"}),
        await shop.post(b"[]", {"content-type": "application/cloudevents-batch+json"}),
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 200]
    assert [one["status"] for one in answers[2].json()["results"]] == ["accepted", "duplicate"]
    assert answers[3].json() == {"results": []}
    found = {event.message_id: event for event in await shop.events()}
    assert set(found) == {"/orders#1", "/orders#2", "/orders#3"}
    assert {event.event_name for event in found.values()} == {"order.paid"}
    assert found["/orders#1"].fields["email"] == "ada@example.com"
    assert found["/orders#1"].occur_time.ToJsonString() == "2026-03-02T08:00:00Z"
    assert found["/orders#2"].fields["email"] == "bob@example.com"


async def test_forms_come_in(shop: Poster) -> None:
    await shop.begin(verifier=None, mapping=pb.Mapping(event_type='"lead"', event_name='"form.sent"'))
    answer = await shop.post(
        b"email=ada%40example.com&first_name=Ada", {"content-type": "application/x-www-form-urlencoded"}
    )
    assert answer.json()["status"] == "accepted"
    (event,) = await shop.events()
    assert (event.event_type, dict(event.fields)) == ("lead", {"email": "ada@example.com", "first_name": "Ada"})


async def test_what_the_mapping_does_not_want_is_answered_and_forgotten(shop: Poster) -> None:
    await shop.begin(mapping=pb.Mapping(when='body.type == "a"'))
    assert (await shop.send({"type": "b"})).json() == {"status": "ignored"}
    assert (await shop.send({"type": "a"})).json()["status"] == "accepted"
    assert ([event.event_name for event in await shop.events()], await shop.quarantined()) == (["a"], [])


async def test_handshakes_are_answered(shop: Poster, http: httpx2.AsyncClient) -> None:
    await shop.begin(verifier=None)
    asked = await http.options(shop.path, headers={"WebHook-Request-Origin": "a.example"})
    assert (asked.status_code, asked.headers["webhook-allowed-origin"]) == (200, "a.example")
    assert (await http.options(shop.path)).status_code == 204

    slack = pb.Verifier(kind=pb.VERIFIER_KIND_SLACK, secrets=["s"])
    await shop.update("verifier", verifier=slack)
    body, now = b'{"type":"url_verification","challenge":"abc"}', str(int(shop.core.clock.now().timestamp()))
    headers = {
        "x-slack-request-timestamp": now,
        "x-slack-signature": f"v0={signed(b'v0:%s:' % now.encode() + body, 's')}",
    }
    answer = await shop.post(body, headers)
    assert (answer.status_code, answer.text, answer.headers["content-type"]) == (
        200,
        "abc",
        "text/plain; charset=utf-8",
    )
    assert (await shop.post(body, {})).status_code == 401

    query = {"hub.mode": "subscribe", "hub.verify_token": "meta", "hub.challenge": "77"}
    refused = await http.get(shop.path, params=query)
    assert (refused.status_code, refused.headers["allow"]) == (405, "OPTIONS, POST")
    await shop.update("verifier", verifier=pb.Verifier(kind=pb.VERIFIER_KIND_SLACK, challenge_token="meta"))
    answer = await http.get(shop.path, params=query)
    assert (answer.status_code, answer.text, answer.headers["x-content-type-options"]) == (200, "77", "nosniff")
    assert (await http.get(shop.path, params={**query, "hub.verify_token": "m"})).status_code == 401
    assert (await http.get(shop.path)).status_code == 405
    assert (await http.put(shop.path)).status_code == 405
    assert await shop.events() == []


async def test_zoom_is_answered_only_when_its_question_is_signed(shop: Poster) -> None:
    form = {
        "header": "x-zm-signature",
        "prefix": "v0=",
        "template": "v0:{timestamp}:{body}",
        "timestamp_header": "x-zm-request-timestamp",
    }
    await shop.begin(verifier=pb.Verifier(kind=pb.VERIFIER_KIND_HMAC, secrets=["z"], hmac=form, challenge_token="z"))
    body = b'{"event":"endpoint.url_validation","payload":{"plainToken":"abc"}}'
    now = str(int(shop.core.clock.now().timestamp()))
    headers = {"x-zm-request-timestamp": now, "x-zm-signature": f"v0={signed(b'v0:%s:' % now.encode() + body, 'z')}"}
    assert (await shop.post(body, headers)).json() == {"plainToken": "abc", "encryptedToken": signed(b"abc", "z")}
    assert (await shop.post(body, {})).status_code == 401


async def test_a_database_that_is_away_is_told_as_such_and_nothing_of_the_inside(
    shop: Poster, monkeypatch: pytest.MonkeyPatch
) -> None:
    await shop.begin()

    async def failing(self: Inbound, *_: Any) -> Any:
        raise RuntimeError("secret of the inside")

    monkeypatch.setattr(Inbound, "_take", failing)
    answer = await shop.send({"type": "a"})
    assert (answer.status_code, answer.json()["error"]["reason"]) == (500, "INTERNAL")
    assert "secret" not in answer.text


names = st.sampled_from(
    [
        *(
            "content-type",
            "content-encoding",
            "webhook-id",
            "webhook-timestamp",
            "webhook-signature",
            "x-hub-signature-256",
        ),
        *("stripe-signature", "x-slack-signature", "authorization", "ce-id", "ce-specversion", "ce-type", "ce-source"),
        *("x-github-event", "webhook-request-origin", "transfer", "x-shopify-hmac-sha256"),
    ]
)
texts = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40).map(str.strip) | st.sampled_from(
    [
        *("application/json", "application/x-www-form-urlencoded", "application/cloudevents+json", "text/plain"),
        *("application/cloudevents-batch+json", "gzip", "1.0", "v1,AAAA", "sha256=aa"),
    ]
)
some_bodies = st.binary(max_size=100) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "event", "data", "id", "email", "time", *CE]) | st.text(max_size=3), inner
        )
    ),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


async def test_nothing_that_is_sent_breaks_it(shop: Poster, http: httpx2.AsyncClient) -> None:
    """Every kind of verifier, any headers, any body: an answer below 500 each time, and one that is JSON or empty."""
    kinds = [
        pb.Verifier(),
        pb.Verifier(kind=pb.VERIFIER_KIND_STANDARD_WEBHOOKS, secrets=[SECRET]),
        pb.Verifier(kind=pb.VERIFIER_KIND_STRIPE, secrets=["s"], challenge_token="c"),
        pb.Verifier(kind=pb.VERIFIER_KIND_SLACK, secrets=["s"]),
        pb.Verifier(kind=pb.VERIFIER_KIND_BASIC, secrets=["a:b"]),
    ]
    paths = []
    for number, verifier in enumerate(kinds):
        await shop.begin(f"s{number}", verifier=verifier)
        paths.append(shop.path)
    loop = asyncio.get_running_loop()

    @settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
    @given(
        path=st.sampled_from([*paths, paths[0], paths[0]]),
        verb=st.sampled_from(["POST", "POST", "POST", "GET", "OPTIONS", "HEAD"]),
        headers=st.dictionaries(names, texts, max_size=5),
        query=st.dictionaries(st.sampled_from(["hub.mode", "hub.challenge", "hub.verify_token"]), texts),
        body=some_bodies,
    )
    def anything(path: str, verb: str, headers: dict[str, str], query: dict[str, str], body: bytes) -> None:
        shop.core.clock.advance(timedelta(seconds=1))
        sending = http.request(verb, path, headers=headers, params=query, content=body)
        answer = asyncio.run_coroutine_threadsafe(sending, loop).result(10)
        assert answer.status_code < 500, answer.text
        if verb == "POST":
            assert "Traceback" not in answer.text
            answer.json()

    await asyncio.to_thread(anything)
