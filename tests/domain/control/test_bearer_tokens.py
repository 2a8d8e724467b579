"""Tokens of identity providers: what proves one, and everything that does not."""

from __future__ import annotations

import base64
import contextlib
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from core.domain.control import bearer_tokens
from core.domain.control.bearer_tokens import ALGORITHMS, BadToken
from tests.identity_provider import AUDIENCE, claims, new_key, public_jwk, public_pem

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
ISSUER = "https://login.example.com/acme"


@cache
def key_of(algorithm: str) -> Any:
    return new_key(algorithm)


def signed(algorithm: str = "ES256", header: dict[str, Any] | None = None, **other: Any) -> str:
    return jwt.encode(claims(ISSUER, NOW, **other), key_of(algorithm), algorithm, {"kid": "k", **(header or {})})


def proved(token: str, *, algorithm: str = "ES256", audience: str = AUDIENCE, now: datetime = NOW) -> datetime:
    claimed = bearer_tokens.read(token)
    keys = bearer_tokens.keys_in({"keys": [public_jwk(algorithm, key_of(algorithm), "k")]})
    key = bearer_tokens.fitting(claimed, keys)
    if key is None:
        raise BadToken("no such key")
    return bearer_tokens.prove(claimed, key, issuer=ISSUER, audience=audience, now=now)


def part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_signed_token_of_each_algorithm_is_good_until_it_ends(algorithm: str) -> None:
    assert proved(signed(algorithm), algorithm=algorithm) == NOW + timedelta(minutes=10)


def test_clocks_may_differ_by_a_minute() -> None:
    seconds = int(NOW.timestamp())
    for fine in ({"exp": seconds - 59}, {"nbf": seconds + 60}, {"iat": seconds + 60}, {"aud": ["other", AUDIENCE]}):
        proved(signed(**fine))


@pytest.mark.parametrize(
    "wrong",
    [
        {"exp": int(NOW.timestamp()) - 60},
        {"exp": None},
        {"exp": "soon"},
        {"exp": True},
        {"exp": 1e300},
        {"exp": -1},
        {"nbf": int(NOW.timestamp()) + 61},
        {"iat": int(NOW.timestamp()) + 61},
        {"aud": "other"},
        {"aud": AUDIENCE.upper()},
        {"aud": AUDIENCE[:-1]},
        {"aud": [AUDIENCE + "-2"]},
        {"aud": []},
        {"aud": None},
        {"aud": [AUDIENCE, 1]},
        {"iss": ISSUER + "/"},
        {"iss": None},
        {"header": {"crit": ["exp"], "exp": 1}},
        {"header": {"typ": "secevent+jwt"}},
        {"header": {"kid": "another"}},
    ],
    ids=str,
)
def test_whatever_is_wrong_makes_it_no_token(wrong: dict[str, Any]) -> None:
    header = wrong.get("header")
    wrong = {name: value for name, value in wrong.items() if name != "header"}
    if "crit" in (header or {}) or wrong.get("aud") == [AUDIENCE, 1] or wrong.get("exp") in ("soon", True):
        said = {"alg": "ES256", "kid": "k", **(header or {})}
        body = {**claims(ISSUER, NOW), **wrong}
        token = jwt.PyJWS().encode(json.dumps(body).encode(), key_of("ES256"), "ES256", said)
    else:
        token = signed(header=header, **wrong)
    with pytest.raises(BadToken):
        proved(token)


def test_no_algorithm_and_a_shared_secret_are_not_taken() -> None:
    none = f"{part({'alg': 'none'})}.{part(claims(ISSUER, NOW))}."
    with pytest.raises(BadToken, match="algorithm"):
        proved(none)
    body = f"{part({'alg': 'HS256', 'kid': 'k'})}.{part(claims(ISSUER, NOW))}"
    # The public key as the secret of an HMAC: a verifier that believes the header would take it.
    hmac = jwt.get_algorithm_by_name("HS256")
    signature = hmac.sign(body.encode(), public_pem(key_of("RS256")))
    with pytest.raises(BadToken, match="algorithm"):
        proved(f"{body}.{base64.urlsafe_b64encode(signature).decode().rstrip('=')}", algorithm="RS256")


def test_the_key_says_the_algorithm_not_the_token() -> None:
    claimed = bearer_tokens.read(signed("ES256"))
    keys = bearer_tokens.keys_in({"keys": [public_jwk("RS256", key_of("RS256"), "k")]})
    assert bearer_tokens.fitting(claimed, keys) is None
    with pytest.raises(BadToken, match="signature"):
        bearer_tokens.prove(claimed, keys[0], issuer=ISSUER, audience=AUDIENCE, now=NOW)


def test_a_changed_token_is_none() -> None:
    head, body, signature = signed().split(".")
    said = json.loads(base64.urlsafe_b64decode(body + "=="))
    with pytest.raises(BadToken, match="signature"):
        proved(f"{head}.{part({**said, 'email': 'admin@example.com'})}.{signature}")


def test_keys_of_no_use_stay_out() -> None:
    small = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    other_curve = public_jwk("ES256", ec.generate_private_key(ec.SECP384R1()), "k")
    good = public_jwk("ES256", key_of("ES256"), "k")
    useless = [
        public_jwk("RS256", small, "k"),
        other_curve,
        {**good, "use": "enc"},
        {**good, "alg": "ES512"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"},
        {**good, "x": "!"},
        {"kid": "k"},
        "k",
    ]
    assert bearer_tokens.keys_in({"keys": useless}) == ()
    assert len(bearer_tokens.keys_in({"keys": [*useless, good]})) == 1
    for nothing in ([], {"keys": {}}, None, {"keys": None}):
        with pytest.raises(BadToken):
            bearer_tokens.keys_in(nothing)


def test_a_token_that_names_no_key_is_taken_only_where_one_alone_fits() -> None:
    claimed = bearer_tokens.read(signed(header={"kid": ""}))
    one = public_jwk("ES256", key_of("ES256"), "a")
    two = public_jwk("ES256", new_key("ES256"), "b")
    assert bearer_tokens.fitting(claimed, bearer_tokens.keys_in({"keys": [one]})) is not None
    assert bearer_tokens.fitting(claimed, bearer_tokens.keys_in({"keys": [one, two]})) is None


def test_the_e_mail_is_vouched_for_unless_the_claim_was_chosen() -> None:
    assert bearer_tokens.email_of({"email": "Ada@Example.com", "email_verified": True}, "") == "ada@example.com"
    assert bearer_tokens.email_of({"email": "a@b.example", "email_verified": "true"}, "email") == "a@b.example"
    assert bearer_tokens.email_of({"upn": "ada@example.com"}, "upn") == "ada@example.com"
    for unsure in ({}, {"email": "a@b.example"}, {"email": "a@b.example", "email_verified": False}, {"email": 1}):
        with pytest.raises(BadToken):
            bearer_tokens.email_of(unsure, "")


@given(
    st.text(max_size=60)
    | st.tuples(st.binary(max_size=20), st.binary(max_size=20)).map(
        lambda parts: ".".join(base64.urlsafe_b64encode(one).decode() for one in (*parts, b"s"))
    )
)
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(BadToken):
        bearer_tokens.read(text)
