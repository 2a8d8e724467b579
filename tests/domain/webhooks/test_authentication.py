"""How requests authenticate: what may be set, what is kept, and what is never shown."""

from __future__ import annotations

import time
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from core.domain.webhooks import authentication
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.authentication import Basic, Bearer, ClientCertificate, OAuth2
from tests.domain.webhooks.certificates import certificate_pem, diffie_hellman_key_pem, key, key_pem, rsa_key_pem

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
TOKEN_URL = "https://id.example.com/token"
WAYS = (
    Basic("user", "pass"),
    Bearer("abc.def"),
    OAuth2(TOKEN_URL, "client", "secret", "read write", "api"),
    ClientCertificate(certificate_pem("client"), key_pem("client")),
)


def problems(auth):
    _, violations = authentication.check(auth, Destinations(), NOW, "auth")
    return [(one.field, one.reason) for one in violations]


@pytest.mark.parametrize("auth", WAYS, ids=authentication.scheme)
def test_what_is_right_is_taken_stored_and_read_back(auth):
    assert problems(auth) == []
    assert authentication.from_column(authentication.column(auth)) == auth


def test_no_way_at_all_is_stored_as_nothing():
    assert authentication.column(None) == {}
    assert authentication.from_column({}) is None


@pytest.mark.parametrize(
    ("auth", "found"),
    [
        (Basic("", ""), [("auth.basic.username", "REQUIRED"), ("auth.basic.password", "REQUIRED")]),
        (Basic("a:b", "c"), [("auth.basic.username", "COLON")]),
        (Basic("a", "c\r\n"), [("auth.basic.password", "CONTROL_CHARACTER")]),
        (Bearer(""), [("auth.bearer.token", "REQUIRED")]),
        (Bearer("a\nb"), [("auth.bearer.token", "CONTROL_CHARACTER")]),
        (Bearer("Bearer abc"), [("auth.bearer.token", "TOKEN_MALFORMED")]),
        (Bearer("é"), [("auth.bearer.token", "TOKEN_MALFORMED")]),
        (
            OAuth2("http://10.0.0.1/", "", "", "a\nb", "\t"),
            [
                ("auth.oauth2.client_id", "REQUIRED"),
                ("auth.oauth2.client_secret", "REQUIRED"),
                ("auth.oauth2.scope", "CONTROL_CHARACTER"),
                ("auth.oauth2.audience", "CONTROL_CHARACTER"),
                ("auth.oauth2.token_url", "DESTINATION_NOT_ALLOWED"),
                ("auth.oauth2.token_url", "URL_NOT_HTTPS"),
            ],
        ),
        (
            ClientCertificate("", ""),
            [("auth.mtls.certificate", "CERTIFICATE_MALFORMED"), ("auth.mtls.private_key", "KEY_MALFORMED")],
        ),
        (
            ClientCertificate(certificate_pem("client"), key_pem("client", b"open sesame")),
            [("auth.mtls.private_key", "KEY_LOCKED")],
        ),
        (
            ClientCertificate(certificate_pem("client"), key_pem("another")),
            [("auth.mtls.private_key", "KEY_MISMATCH")],
        ),
        (
            ClientCertificate(certificate_pem("client", until=NOW), key_pem("client")),
            [("auth.mtls.certificate", "CERTIFICATE_EXPIRED")],
        ),
    ],
)
def test_everything_that_is_wrong_is_told_with_its_place(auth, found):
    assert problems(auth) == found
    _, violations = authentication.check(auth, Destinations(), NOW, "auth")
    assert all(one.message and one.hint for one in violations)


@pytest.mark.parametrize(
    ("pem", "reasons"),
    [
        (rsa_key_pem(9_689, 9_941), ["KEY_TOO_LARGE", "KEY_MISMATCH"]),
        (diffie_hellman_key_pem(9_689), ["KEY_MALFORMED"]),
    ],
    ids=["rsa", "diffie-hellman"],
)
def test_a_key_that_was_made_to_take_minutes_is_refused_at_once(pem, reasons):
    begun = time.process_time()
    assert [reason for _, reason in problems(ClientCertificate(certificate_pem("client"), pem))] == reasons
    assert time.process_time() - begun < 1


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("rsa", PrivateFormat.PKCS8),
        ("rsa", PrivateFormat.TraditionalOpenSSL),
        ("ed25519", PrivateFormat.PKCS8),
        ("ed448", PrivateFormat.PKCS8),
    ],
)
def test_keys_of_every_kind_are_read_in_every_form(kind, form):
    make = {"rsa": lambda: generate_private_key(65_537, 2_048), "ed25519": Ed25519PrivateKey.generate}
    made = make.get(kind, Ed448PrivateKey.generate)()
    pem = made.private_bytes(Encoding.PEM, form, NoEncryption()).decode()
    # It is read, and found to be of another certificate.
    assert problems(ClientCertificate(certificate_pem("client"), pem)) == [("auth.mtls.private_key", "KEY_MISMATCH")]


def test_a_key_on_a_curve_may_follow_its_parameters_and_be_in_the_old_form():
    old = key("client").private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    pem = f"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{old}"
    assert problems(ClientCertificate(certificate_pem("client"), pem)) == []


def test_a_token_url_is_kept_in_normal_form():
    checked, _ = authentication.check(OAuth2("HTTPS://ID.Example.com:443/token", "a", "b"), Destinations(), NOW, "auth")
    assert checked.token_url == TOKEN_URL


@pytest.mark.parametrize("auth", WAYS, ids=authentication.scheme)
def test_nothing_secret_is_shown(auth):
    secret = {"password", "token", "client_secret", "private_key"}
    shown = authentication.column(authentication.without_secret(auth))
    assert [value for name, value in shown.items() if name in secret] == [""]
    hidden = [value for name, value in authentication.column(auth).items() if name in secret]
    assert all(value not in repr(auth) for value in hidden)


@pytest.mark.parametrize("auth", WAYS, ids=authentication.scheme)
def test_what_was_read_can_be_written_back(auth):
    assert authentication.kept(authentication.without_secret(auth), auth) == auth


@pytest.mark.parametrize(
    "given",
    [
        OAuth2("https://evil.example.com/token", "client", "", "read write", "api"),
        OAuth2(TOKEN_URL, "another", "", "read write", "api"),
        OAuth2(TOKEN_URL, "client", "", "everything", "api"),
        Basic("user", ""),
        None,
    ],
)
def test_a_secret_is_not_kept_for_another_place_or_client(given):
    assert authentication.kept(given, WAYS[2]) == given


def test_a_new_secret_takes_the_place_of_the_old_one():
    assert authentication.kept(Bearer("new"), Bearer("old")) == Bearer("new")


def test_each_way_makes_its_header():
    assert authentication.authorization(Basic("Aladdin", "open sesame")) == {
        "authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    }
    assert authentication.authorization(Bearer("abc")) == {"authorization": "Bearer abc"}
    assert authentication.authorization(WAYS[2], "fetched") == {"authorization": "Bearer fetched"}
    assert authentication.authorization(WAYS[3]) == {}
    assert authentication.authorization(None) == {}


def test_only_a_certificate_discloses_nothing_to_its_endpoint():
    assert [authentication.discloses(auth) for auth in (*WAYS, None)] == [True, True, True, False, False]
