"""Questions before sending are answered as the specifications say, and nothing else is answered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.domain.inbound import handshakes
from core.domain.inbound.handshakes import Answer
from core.domain.inbound.request import Arrived
from core.domain.inbound.verifiers import Kind, Verifier

META = Verifier(challenge_token="meta-token")
ZOOM = Verifier(Kind.HMAC, ("zoom-secret",), challenge_token="zoom-secret")
SLACK = Verifier(Kind.SLACK, ("s",))
PLAIN = "text/plain; charset=utf-8"


def options(**headers: str) -> Answer:
    return handshakes.asked_before_sending(Arrived(b"", {name.replace("_", "-"): v for name, v in headers.items()}))


def post(verifier: Verifier, asked: Any) -> Answer | None:
    return handshakes.answered_by_post(verifier, Arrived(json.dumps(asked).encode()))


def get(verifier: Verifier, token: str, challenge: str) -> Answer | None:
    query = {"hub.mode": "subscribe", "hub.verify_token": token, "hub.challenge": challenge}
    assert handshakes.asks_by_get(Arrived(b"", {}, query))
    return handshakes.answered_by_get(verifier, Arrived(b"", {}, query))


def test_cloudevents_ask_by_options() -> None:
    answer = options(webhook_request_origin="eventemitter.example.com", webhook_request_rate="120")
    assert (answer.status, dict(answer.headers)) == (
        200,
        {
            "Allow": "OPTIONS, POST",
            "WebHook-Allowed-Origin": "eventemitter.example.com",
            "WebHook-Allowed-Rate": "120",
        },
    )


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [("", "6000"), ("*", "6000"), ("99999", "6000"), ("0", "1"), ("-5", "6000"), ("9" * 50, "6000"), ("٣", "6000")],
)
def test_the_rate_is_ours_at_most(asked: str, allowed: str) -> None:
    answer = options(webhook_request_origin="a.example", webhook_request_rate=asked)
    assert answer.headers["WebHook-Allowed-Rate"] == allowed


@pytest.mark.parametrize("origin", ["", "  ", "a b", "a\r\nSet-Cookie: x", "\xe9", "x" * 300])
def test_options_without_an_origin_say_only_what_is_possible(origin: str) -> None:
    assert options(webhook_request_origin=origin) == Answer(204, headers={"Allow": "OPTIONS, POST"})


def test_slack_asks_by_post() -> None:
    asked = {
        "token": "x",
        "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P",
        "type": "url_verification",
    }
    assert post(SLACK, asked) == Answer(200, asked["challenge"].encode(), PLAIN)
    assert post(Verifier(Kind.GITHUB, ("s",)), asked) is None
    for wrong in ("", 5, "<script>\n", "x" * 501):
        assert post(SLACK, {**asked, "challenge": wrong}) is None


def test_meta_asks_by_get() -> None:
    assert get(META, "meta-token", "1158201444") == Answer(200, b"1158201444", PLAIN)
    assert get(META, "meta-toke", "1158201444") is None
    assert get(META, "", "1158201444") is None
    assert get(Verifier(), "", "1158201444") is None
    assert get(META, "meta-token", "") is None
    assert get(META, "meta-tok\xe9n", "1") is None


def test_zoom_asks_by_post() -> None:
    asked = {"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}, "event_ts": 1}
    answer = post(ZOOM, asked)
    assert answer is not None
    assert json.loads(answer.body) == {
        "plainToken": "qgg8vlvZRS6UYooatFL8Aw",
        "encryptedToken": "b17f0320a1322a509340a1a835b3d9edbc491f0b0790ed2d20d0604d39dfe922",  # by openssl
    }
    assert post(Verifier(), asked) is None


@pytest.mark.parametrize("token", ['v0:1614265330:{"event":"x"}', "", "a b", 7, None, "x" * 201])
def test_zoom_s_question_cannot_be_made_to_sign_a_message(token: Any) -> None:
    assert post(ZOOM, {"event": "endpoint.url_validation", "payload": {"plainToken": token}}) is None


@given(
    body=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["type", "event", "challenge", "payload", "plainToken"]) | st.text(max_size=5),
                inner | st.sampled_from(["url_verification", "endpoint.url_validation"]),
                max_size=4,
            )
        ),
        max_leaves=10,
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_is_posted_is_no_error(body: bytes) -> None:
    for verifier in (SLACK, ZOOM, META):
        answer = handshakes.answered_by_post(verifier, Arrived(body))
        assert answer is None or answer.status == 200


def test_a_body_nested_beyond_reason_is_no_error() -> None:
    assert handshakes.answered_by_post(ZOOM, Arrived(b'{"a":' + b"[" * 9_000)) is None


def test_an_endpoint_of_a_core_like_this_one_is_told_its_challenge() -> None:
    signed = Verifier(Kind.STANDARD_WEBHOOKS, ("s",))
    asked = {"type": "endpoint.verification", "timestamp": "x", "data": {"endpoint_id": "ep_1", "challenge": "a-B_c"}}
    assert post(signed, asked) == Answer(200, b'{"challenge": "a-B_c"}', "application/json")
    assert post(Verifier(), asked) is None
    assert post(signed, {**asked, "data": {"challenge": 5}}) is None
    for sent, echoed in (("ab" * 32, "ab" * 32), ("<b>", ""), ("", "")):
        assert handshakes.echo(signed, Arrived(b"", {"webhook-challenge": sent})) == echoed
    assert handshakes.echo(Verifier(), Arrived(b"", {"webhook-challenge": "ab" * 32})) == ""
