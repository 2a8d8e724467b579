"""Signatures are checked with the public verifier package and with the vector that every client carries."""

from __future__ import annotations

import hmac
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from core.domain.webhooks import signing
from core.domain.webhooks.signing import ExtraSignature, SignatureFormat, SigningKey, VerificationFailed

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
SECRET = signing.secret_from(bytes(range(32)))
OTHER = signing.secret_from(bytes(range(32, 64)))
V1A = ExtraSignature(SignatureFormat.V1A)

secrets = st.binary(min_size=24, max_size=64).map(signing.secret_from)


def test_the_known_vector_is_reproduced():
    signature = signing.sign(
        ["MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        datetime.fromtimestamp(1614265330, UTC),
        b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_is_the_prefix_and_standard_base64():
    assert signing.secret_from(b"\xfb\xff\xbf" * 8) == "whsec_" + "+/+/" * 8


def test_several_signatures_are_separated_by_exactly_one_space():
    signature = signing.sign([SECRET, OTHER], "msg_1", NOW, b"{}")
    assert signature == " ".join(signing.sign([secret], "msg_1", NOW, b"{}") for secret in (SECRET, OTHER))
    assert signature.count(" ") == 1
    assert signature == signature.strip()


@given(secret=secrets, other=secrets, body=st.dictionaries(st.text(), st.text()))
def test_the_public_verifier_accepts_what_is_signed_with_any_valid_key(secret, other, body):
    import json

    now = datetime.now(UTC)  # the public verifier reads the machine's clock
    raw = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass").decode("utf-8", "replace").encode()
    headers = signing.headers([other, secret], "msg_1", now, raw)
    Webhook(secret).verify(raw, headers, json_parse=False)
    signing.verify(secret, headers, raw, now)


@given(body=st.binary(min_size=1), flip=st.integers(min_value=0))
def test_a_changed_body_is_refused(body, flip):
    headers = signing.headers([SECRET], "msg_1", NOW, body)
    changed = bytearray(body)
    changed[flip % len(body)] ^= 1
    with pytest.raises(VerificationFailed):
        signing.verify(SECRET, headers, bytes(changed), NOW)


@pytest.mark.parametrize("skew", [-301, 301, 86_400])
def test_an_old_or_future_timestamp_is_refused(skew):
    headers = signing.headers([SECRET], "msg_1", NOW + timedelta(seconds=skew), b"{}")
    with pytest.raises(VerificationFailed):
        signing.verify(SECRET, headers, b"{}", NOW)


@pytest.mark.parametrize("skew", [-300, 0, 300])
def test_a_timestamp_within_five_minutes_is_accepted(skew):
    headers = signing.headers([SECRET], "msg_1", NOW + timedelta(seconds=skew), b"{}")
    signing.verify(SECRET, {name.title(): value for name, value in headers.items()}, b"{}", NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-timestamp": "1772442000.5"},
        {"webhook-timestamp": "1772442000000"},
        {"webhook-timestamp": "-1"},
        {"webhook-timestamp": "\u0661"},
        {"webhook-timestamp": ""},
        {"webhook-signature": ""},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,é"},
        {"webhook-signature": "v1a,AAAA"},
    ],
)
def test_malformed_headers_are_refused(change):
    headers = {**signing.headers([SECRET], "msg_1", NOW, b"{}"), **change}
    with pytest.raises(VerificationFailed):
        signing.verify(SECRET, headers, b"{}", NOW)


def test_a_signature_of_another_version_beside_ours_is_skipped():
    headers = signing.headers([SECRET], "msg_1", NOW, b"{}")
    headers["webhook-signature"] = "v1a,AAAA " + headers["webhook-signature"]
    signing.verify(SECRET, headers, b"{}", NOW)


def test_a_wrong_secret_is_refused_by_us_and_by_the_public_verifier():
    now = datetime.now(UTC)  # the public verifier reads the machine's clock
    headers = signing.headers([SECRET], "msg_1", now, b"{}")
    with pytest.raises(VerificationFailed):
        signing.verify(OTHER, headers, b"{}", now)
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(b"{}", headers)


def test_an_expired_key_no_longer_signs():
    keys = [
        SigningKey("current"),
        SigningKey("grace", NOW + timedelta(seconds=1)),
        SigningKey("over", NOW),
    ]
    assert signing.valid_secrets(keys, NOW) == ("current", "grace")


def test_a_url_safe_secret_is_refused():
    with pytest.raises(ValueError, match="standard base64"):
        signing.sign(["whsec_" + "_-" * 22], "msg_1", NOW, b"{}")


def test_the_known_asymmetric_vector_is_verified():
    """RFC 8032, test 2: seed, public key and signature of one byte; `v1a` signs in the same way."""
    seed = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    assert signing.public_bytes(seed) == public
    assert signing.public_key(seed) == "whpk_PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="


def test_an_asymmetric_token_stands_beside_the_standard_one_and_the_public_verifier_skips_it():
    now = datetime.now(UTC)  # the public verifier reads the machine's clock
    sent = signing.headers([SECRET], "msg_1", now, b"{}", [V1A], bytes(32))
    assert re.fullmatch(r"v1,[A-Za-z0-9+/]{43}= v1a,[A-Za-z0-9+/]{86}==", sent["webhook-signature"])
    Webhook(SECRET).verify(b"{}", sent)
    signing.verify(SECRET, sent, b"{}", now)
    signing.verify(signing.public_key(bytes(32)), sent, b"{}", now)


@given(seed=st.binary(min_size=32, max_size=32), body=st.binary(), flip=st.integers(min_value=0))
def test_the_public_key_accepts_what_its_seed_signed_and_nothing_else(seed, body, flip):
    sent = signing.headers([], "msg_1", NOW, body, [V1A], seed)
    public = signing.public_key(seed)
    signing.verify(public, sent, body, NOW)
    changed = bytearray(body or b" ")
    changed[flip % len(changed)] ^= 1
    for received, data in ((sent, bytes(changed)), ({**sent, "webhook-id": "msg_2"}, body)):
        with pytest.raises(VerificationFailed):
            signing.verify(public, received, data, NOW)
    with pytest.raises(VerificationFailed):
        signing.verify(signing.public_key(bytes(reversed(seed)) if seed != seed[::-1] else b"\1" * 32), sent, body, NOW)


def test_a_hexadecimal_signature_takes_the_secret_as_text():
    """The vector of GitHub's documentation of X-Hub-Signature-256."""
    signature = signing.sha256_hex(["It's a Secret to Everybody"], b"Hello, World!")
    assert signature == "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


def test_a_hexadecimal_signature_has_room_for_the_newest_secret_only():
    assert signing.sha256_hex([SECRET, OTHER], b"{}") == signing.sha256_hex([SECRET], b"{}")


def test_a_timestamped_signature_signs_the_seconds_too_with_every_secret():
    stamped = signing.timestamped([SECRET, OTHER], NOW, b"{}")
    macs = [hmac.digest(secret.encode(), b"1772442000.{}", "sha256").hex() for secret in (SECRET, OTHER)]
    assert stamped == f"t=1772442000,v1={macs[0]},v1={macs[1]}"


def test_signatures_in_headers_of_choice_stand_where_they_were_asked_for():
    formats = [ExtraSignature(SignatureFormat.SHA256_HEX, "X-Hex"), ExtraSignature(SignatureFormat.TIMESTAMPED, "X-T")]
    sent = signing.headers([SECRET], "msg_1", NOW, b"{}", formats)
    assert sent == {
        **signing.headers([SECRET], "msg_1", NOW, b"{}"),
        "X-Hex": signing.sha256_hex([SECRET], b"{}"),
        "X-T": signing.timestamped([SECRET], NOW, b"{}"),
    }


@pytest.mark.parametrize("token", ["v1a,", "v1a,AAAA", "v1a,é", "v1a", "v1,AAAA"])
def test_a_malformed_asymmetric_token_is_refused(token):
    sent = {**signing.headers([], "msg_1", NOW, b"{}", [V1A], bytes(32)), "webhook-signature": token}
    with pytest.raises(VerificationFailed):
        signing.verify(signing.public_key(bytes(32)), sent, b"{}", NOW)
