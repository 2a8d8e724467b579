"""The headers of an attempt, and the challenge that an endpoint answers with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from core.domain.webhooks import receivers, signing
from core.domain.webhooks.receivers import Outgoing, Receiver
from core.domain.webhooks.signing import ExtraSignature, SignatureFormat, SigningKey
from core.domain.webhooks.states import Verification

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SECRET = signing.secret_from(bytes(range(32)))
OTHER = signing.secret_from(bytes(range(32, 64)))
SEED = bytes(range(100, 132))
PLAIN = Receiver("org_1", "ep_1", "https://hooks.example.com/", (SigningKey(SECRET),))
CHALLENGE = receivers.challenge_from(bytes(range(32)))
OTHER_CHALLENGE = receivers.challenge_from(bytes(range(32, 64)))
MESSAGE = Outgoing("msg_1", '{"a":"é"}', 7)


def test_a_plain_endpoint_gets_the_standard_headers_and_its_sequence():
    assert receivers.headers(PLAIN, MESSAGE, NOW) == {
        "content-type": "application/json",
        "webhook-id": "msg_1",
        "webhook-timestamp": "1772442000",
        "webhook-signature": signing.sign([SECRET], "msg_1", NOW, '{"a":"é"}'.encode()),
        "webhook-sequence": "7",
    }


def test_what_has_no_position_says_none():
    assert "webhook-sequence" not in receivers.headers(PLAIN, replace(MESSAGE, sequence=0), NOW)


def test_headers_of_its_own_are_sent_and_never_override_ours():
    receiver = replace(PLAIN, headers={"X-Team": "sales", "webhook-id": "forged"})
    sent = receivers.headers(receiver, MESSAGE, NOW)
    assert (sent["X-Team"], sent["webhook-id"]) == ("sales", "msg_1")


def test_every_signature_asked_for_is_there():
    formats = (
        ExtraSignature(SignatureFormat.V1A),
        ExtraSignature(SignatureFormat.SHA256_HEX, "X-Drippi-Signature"),
        ExtraSignature(SignatureFormat.TIMESTAMPED, "X-Stamped"),
    )
    keys = (SigningKey(SECRET), SigningKey(OTHER, NOW + timedelta(hours=1)))
    sent = receivers.headers(replace(PLAIN, keys=keys, seed=SEED, extra_signatures=formats), MESSAGE, NOW)
    body = MESSAGE.payload.encode()
    assert [token.partition(",")[0] for token in sent["webhook-signature"].split(" ")] == ["v1", "v1", "v1a"]
    for key in (SECRET, OTHER, signing.public_key(SEED)):
        signing.verify(key, sent, body, NOW)
    assert sent["X-Drippi-Signature"] == signing.sha256_hex([SECRET], body)
    assert sent["X-Stamped"] == signing.timestamped([SECRET, OTHER], NOW, body)


def test_only_an_endpoint_that_is_not_verified_is_sent_a_challenge():
    unverified = replace(PLAIN, verification=Verification.UNVERIFIED, challenge=CHALLENGE)
    assert receivers.headers(unverified, MESSAGE, NOW)["webhook-challenge"] == CHALLENGE
    for state in (Verification.NOT_REQUIRED, Verification.VERIFIED):
        other = replace(unverified, verification=state)
        assert "webhook-challenge" not in receivers.headers(other, MESSAGE, NOW)
        assert not receivers.echoes(other, CHALLENGE)


@pytest.mark.parametrize(
    ("answer", "echoed"),
    [
        (CHALLENGE, True),
        (f'{{"key": "{CHALLENGE}"}}', True),
        (f"{OTHER_CHALLENGE} {CHALLENGE}", True),
        (f"<b>{CHALLENGE}</b>", True),
        (OTHER_CHALLENGE, False),
        (CHALLENGE[:-1], False),
        ("{}", False),
        ("", False),
    ],
)
def test_an_answer_with_the_challenge_in_it_is_the_proof(answer, echoed):
    assert receivers.echoes(replace(PLAIN, verification=Verification.UNVERIFIED, challenge=CHALLENGE), answer) == echoed


def test_what_has_no_challenge_yet_is_proved_by_nothing():
    receiver = replace(PLAIN, verification=Verification.UNVERIFIED)
    assert "webhook-challenge" not in receivers.headers(receiver, MESSAGE, NOW)
    assert not receivers.echoes(receiver, CHALLENGE)
    assert not receivers.echoes(receiver, "")


def test_nothing_secret_is_in_what_is_logged():
    assert SECRET not in repr(PLAIN)
    assert repr(SEED) not in repr(replace(PLAIN, seed=SEED))
    assert CHALLENGE not in repr(replace(PLAIN, challenge=CHALLENGE))
