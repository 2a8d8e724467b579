"""Verifiers against vectors that others published, or that `openssl` made; nothing else passes."""

from __future__ import annotations

import base64
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from core.domain.inbound.request import Arrived, joined
from core.domain.inbound.verifiers import HmacForm, Kind, Verifier, verified
from core.domain.webhooks import signing

NOW = datetime.fromtimestamp(1614265330, UTC)
SLACK_NOW = datetime.fromtimestamp(1531420618, UTC)
SLACK_BODY = (
    b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
    b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
    b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN"
    b"&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c"
)
STANDARD = {"webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek", "webhook-timestamp": "1614265330"}
V1 = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
V1A = "v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg=="
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(bytes(range(32))).decode()
PUBLIC = "whpk_1SiA4o9hyqTCpIqC5V9HUakiiaeACeqfZTInDBbOir4="
STRIPE = "347e9afe3d74ec4c5cbefd270edc9246513ae3da7b375223e302560fbd4146eb"
STRIPE_OLDER = "a2a1d18ea07d85050dbb60333c15705d4026b6825e9cfe486c172689db2e558a"
JEFE = b"what do ya want for nothing?"
"""Of RFC 4231 and RFC 2202, under the key Jefe."""


def hmac_of(header: str, algorithm: str = "sha256", encoding: str = "hex", **more: Any) -> dict[str, Any]:
    return {"hmac": HmacForm(header=header, algorithm=algorithm, encoding=encoding, **more)}


CASES: list[tuple[str, Verifier, dict[str, str], bytes, datetime]] = [
    (
        "standard",
        Verifier(Kind.STANDARD_WEBHOOKS, (SECRET,)),
        {**STANDARD, "webhook-signature": V1},
        b'{"test": 2432232314}',
        NOW,
    ),
    (
        "standard under its older names",
        Verifier(Kind.STANDARD_WEBHOOKS, (SECRET,)),
        {name.replace("webhook", "svix"): value for name, value in {**STANDARD, "webhook-signature": V1}.items()},
        b'{"test": 2432232314}',
        NOW,
    ),
    (
        "standard, ed25519",
        Verifier(Kind.STANDARD_WEBHOOKS, (PUBLIC,)),
        {**STANDARD, "webhook-signature": V1A},
        b'{"test": 2432232314}',
        NOW,
    ),
    (
        "stripe",
        Verifier(Kind.STRIPE, ("whsec_test",)),
        {"stripe-signature": f"t=1614265330,v1={STRIPE},v0=aa"},
        b'{"id":"evt_1"}',
        NOW,
    ),
    (
        "github",
        Verifier(Kind.GITHUB, ("It's a Secret to Everybody",)),
        {"x-hub-signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
        b"Hello, World!",
        NOW,
    ),
    (
        "shopify",
        Verifier(Kind.SHOPIFY, ("shpss_x",)),
        {"x-shopify-hmac-sha256": "QtDkIkY13DEn2wNorNow01Pg7Mhl+8SmcSyF6UFzlLg="},
        b'{"id":1}',
        NOW,
    ),
    (
        "slack",
        Verifier(Kind.SLACK, ("8f742231b10e8888abcd99yyyzzz85a5",)),
        {
            "x-slack-request-timestamp": "1531420618",
            "x-slack-signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
        },
        SLACK_BODY,
        SLACK_NOW,
    ),
    (
        "hmac, sha256 in hex",
        Verifier(Kind.HMAC, ("Jefe",), **hmac_of("X-Signature")),
        {"x-signature": "5BDCC146BF60754E6A042426089575C75A003F089D2739839DEC58B964EC3843"},
        JEFE,
        NOW,
    ),
    (
        "hmac, sha512 with a prefix",
        Verifier(Kind.HMAC, ("Jefe",), **hmac_of("X-Signature", "sha512", prefix="sha512=")),
        {
            "x-signature": "sha512=164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
            "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        },
        JEFE,
        NOW,
    ),
    (
        "hmac, sha1 in base64",
        Verifier(Kind.HMAC, ("Jefe",), **hmac_of("X-Signature", "sha1", "base64")),
        {"x-signature": base64.b64encode(bytes.fromhex("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79")).decode()},
        JEFE,
        NOW,
    ),
    (
        "hmac of a template, as Zoom signs",
        Verifier(
            Kind.HMAC,
            ("zoom-secret",),
            **hmac_of(
                "x-zm-signature",
                prefix="v0=",
                template="v0:{timestamp}:{body}",
                timestamp_header="x-zm-request-timestamp",
            ),
        ),
        {
            "x-zm-request-timestamp": "1614265330",
            "x-zm-signature": "v0=6aae2d5868755f4203934841cfe7e253ce72665e28fd02aeba9dde59f91abebe",
        },
        b'{"event":"meeting.started"}',
        NOW,
    ),
    (
        "basic",
        Verifier(Kind.BASIC, ("ada:pass:word",)),
        {"authorization": "Basic " + base64.b64encode(b"ada:pass:word").decode()},
        b"{}",
        NOW,
    ),
    ("bearer", Verifier(Kind.BEARER, ("token-1",)), {"authorization": "bearer token-1"}, b"{}", NOW),
]
NAMES = [case[0] for case in CASES]
SIGNED = [case for case in CASES if case[1].kind not in (Kind.BASIC, Kind.BEARER)]
TIMED = [
    case
    for case in SIGNED
    if case[1].kind in (Kind.STANDARD_WEBHOOKS, Kind.STRIPE, Kind.SLACK) or case[1].hmac.timestamp_header
]

of_cases = pytest.mark.parametrize(("name", "verifier", "headers", "body", "now"), CASES, ids=NAMES)


@of_cases
def test_a_known_vector_passes(
    name: str, verifier: Verifier, headers: dict[str, str], body: bytes, now: datetime
) -> None:
    assert verified(verifier, Arrived(body, headers), now)


@of_cases
def test_any_of_several_secrets_passes_wherever_it_stands(
    name: str, verifier: Verifier, headers: dict[str, str], body: bytes, now: datetime
) -> None:
    other = OTHER if verifier.kind is Kind.STANDARD_WEBHOOKS else "user:other"
    for secrets in ((other, *verifier.secrets), (*verifier.secrets, other)):
        assert verified(replace(verifier, secrets=secrets), Arrived(body, headers), now)
    assert not verified(replace(verifier, secrets=(other,)), Arrived(body, headers), now)
    assert not verified(replace(verifier, secrets=()), Arrived(body, headers), now)


@of_cases
def test_without_any_one_header_nothing_passes(
    name: str, verifier: Verifier, headers: dict[str, str], body: bytes, now: datetime
) -> None:
    for missing in headers:
        left = {key: value for key, value in headers.items() if key != missing}
        assert not verified(verifier, Arrived(body, left), now)
        assert not verified(verifier, Arrived(body, {**left, missing: ""}), now)


@pytest.mark.parametrize("case", SIGNED, ids=[case[0] for case in SIGNED])
@given(data=st.data())
def test_a_changed_byte_of_the_body_passes_nowhere(case: Any, data: st.DataObject) -> None:
    _, verifier, headers, body, now = case
    at = data.draw(st.integers(0, len(body) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(body)
    changed[at] ^= 1 << bit
    assert not verified(verifier, Arrived(bytes(changed), headers), now)
    assert not verified(verifier, Arrived(body + b" ", headers), now)


@pytest.mark.parametrize("case", TIMED, ids=[case[0] for case in TIMED])
def test_a_timestamp_may_be_five_minutes_off_and_no_more(case: Any) -> None:
    _, verifier, headers, body, now = case
    for seconds, passes in ((300, True), (-300, True), (301, False), (-301, False), (86_400 * 365, False)):
        assert verified(verifier, Arrived(body, headers), now + timedelta(seconds=seconds)) is passes


@pytest.mark.parametrize("case", TIMED, ids=[case[0] for case in TIMED])
@pytest.mark.parametrize(
    "timestamp", ["", "soon", "1614265330.5", "-1614265330", "१६१४२६५३३०", "1" * 400, " 1614265330"]
)
def test_a_timestamp_that_is_none_passes_nowhere(case: Any, timestamp: str) -> None:
    _, verifier, headers, body, now = case
    changed = {
        name: value.replace("1614265330", timestamp).replace("1531420618", timestamp) for name, value in headers.items()
    }
    assert not verified(verifier, Arrived(body, changed), now)


def test_a_rotated_secret_passes_by_any_of_several_signatures() -> None:
    header = f"t=1614265330,v1={STRIPE_OLDER},v1={STRIPE}"
    for secret in ("whsec_test", "whsec_older"):
        assert verified(Verifier(Kind.STRIPE, (secret,)), Arrived(b'{"id":"evt_1"}', {"stripe-signature": header}), NOW)
    for tokens in (f"v1,AAAA {V1}", f"{V1A} {V1}", f"{V1}  v1,AAAA", f"v2,x {V1} "):
        arrived = Arrived(b'{"test": 2432232314}', {**STANDARD, "webhook-signature": tokens})
        assert verified(Verifier(Kind.STANDARD_WEBHOOKS, (SECRET,)), arrived, NOW)


def test_one_kind_of_signature_never_passes_for_the_other() -> None:
    body = b'{"test": 2432232314}'
    for secret, token in ((SECRET, V1A), (PUBLIC, V1), (SECRET, V1.replace("v1,", "v1a,")), (PUBLIC, V1A[:-4])):
        arrived = Arrived(body, {**STANDARD, "webhook-signature": token})
        assert not verified(Verifier(Kind.STANDARD_WEBHOOKS, (secret,)), arrived, NOW)


@pytest.mark.parametrize(("wrong", "genuine"), [(0, True), (3, True), (4, False)])
def test_few_signatures_of_public_keys_are_looked_at_for_each_hashes_the_whole_body(wrong: int, genuine: bool) -> None:
    made_up = [f"v1a,{base64.b64encode(bytes([number]) * 64).decode()}" for number in range(wrong)]
    short = ["v1a,AAAA"] * 9  # of another length: none at all
    headers = {**STANDARD, "webhook-signature": " ".join([*short, *made_up, *made_up, V1A])}
    arrived = Arrived(b'{"test": 2432232314}', headers)
    assert verified(Verifier(Kind.STANDARD_WEBHOOKS, (PUBLIC,)), arrived, NOW) is genuine


def test_a_public_key_is_no_secret_to_sign_with() -> None:
    """Whoever knows the public key, which is everybody, must not be able to sign."""
    body, at = b"{}", NOW
    forged = signing.headers([PUBLIC.replace("whpk_", "whsec_")], "msg_1", at, body)
    assert not verified(Verifier(Kind.STANDARD_WEBHOOKS, (PUBLIC,)), Arrived(body, forged), at)


@given(body=st.binary(max_size=500), seed=st.binary(min_size=32, max_size=32))
def test_what_is_signed_here_is_verified_here(body: bytes, seed: bytes) -> None:
    headers = signing.headers([OTHER], "msg_1", NOW, body)
    key = Ed25519PrivateKey.from_private_bytes(seed)
    public = "whpk_" + base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()
    signature = base64.b64encode(key.sign(b"msg_1.1614265330." + body)).decode()
    assert verified(Verifier(Kind.STANDARD_WEBHOOKS, (OTHER,)), Arrived(body, headers), NOW)
    both = {**headers, "webhook-signature": f"{headers['webhook-signature']} v1a,{signature}"}
    for secret in (OTHER, public):
        assert verified(Verifier(Kind.STANDARD_WEBHOOKS, (secret,)), Arrived(body, both), NOW)


@given(
    kind=st.sampled_from([kind for kind in Kind if kind]),
    names=st.lists(st.sampled_from(sorted({name for case in CASES for name in case[2]})), max_size=6),
    data=st.data(),
    body=st.binary(max_size=60),
)
def test_no_header_that_anybody_can_make_up_passes_or_breaks_anything(
    kind: Kind, names: list[str], data: st.DataObject, body: bytes
) -> None:
    values = st.text(st.characters(max_codepoint=255), max_size=80) | st.sampled_from(
        ["sha256=", "v0=", "v1,", "t=1614265330,v1=", "Basic ", "Bearer ", "1614265330", "v1a,AAAA"]
    )
    pairs = [(name, data.draw(values)) for name in names]
    secret = {Kind.STANDARD_WEBHOOKS: SECRET, Kind.BASIC: "ada:grüße"}.get(kind, "a secret nobody guesses")
    form = HmacForm("X-Signature", template="{timestamp}.{body}", timestamp_header="X-Time")
    assert not verified(Verifier(kind, (secret, PUBLIC), form), Arrived(body, joined(pairs)), NOW)


def test_without_a_verifier_whoever_knows_the_url_is_believed() -> None:
    assert verified(Verifier(), Arrived(b""), NOW)


def test_secrets_do_not_show() -> None:
    assert SECRET not in repr(Verifier(Kind.STANDARD_WEBHOOKS, (SECRET,), challenge_token=SECRET))
