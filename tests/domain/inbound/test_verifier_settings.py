"""A verifier that could verify nothing, or everything, is refused when it is set."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from core.domain.inbound.verifier_settings import problems
from core.domain.inbound.verifiers import HmacForm, Kind, Verifier

WHSEC = "whsec_" + base64.b64encode(bytes(range(32))).decode()
FORM = HmacForm(header="X-Signature")
TIMED = replace(FORM, template="{timestamp}.{body}", timestamp_header="X-Time")

GOOD = [
    Verifier(),
    Verifier(Kind.STANDARD_WEBHOOKS, (WHSEC, WHSEC.removeprefix("whsec_"), WHSEC.rstrip("="))),
    Verifier(Kind.STANDARD_WEBHOOKS, ("whpk_" + base64.b64encode(bytes(32)).decode(),)),
    Verifier(Kind.STRIPE, ("whsec_anything",)),
    Verifier(Kind.GITHUB, ("It's a Secret to Everybody",)),
    Verifier(Kind.BASIC, ("ada:secret",)),
    Verifier(Kind.BEARER, ("token",)),
    Verifier(Kind.HMAC, ("s",), FORM),
    Verifier(Kind.HMAC, ("s",), TIMED),
    Verifier(challenge_token="meta"),
]
BAD = [
    (Verifier(Kind.NONE, ("s",)), [("verifier.kind", "REQUIRED")]),
    (Verifier(Kind.GITHUB), [("verifier.secrets", "REQUIRED")]),
    (Verifier(Kind.GITHUB, ("",)), [("verifier.secrets[0]", "REQUIRED")]),
    (Verifier(Kind.GITHUB, ("s",), FORM), [("verifier.hmac", "NOT_USED")]),
    (Verifier(Kind.STANDARD_WEBHOOKS, (WHSEC, "whsec_-_-_")), [("verifier.secrets[1]", "BAD_SECRET")]),
    (Verifier(Kind.STANDARD_WEBHOOKS, ("whsec_AAAA",)), [("verifier.secrets[0]", "BAD_SECRET")]),
    (Verifier(Kind.STANDARD_WEBHOOKS, ("whpk_" + "A" * 88,)), [("verifier.secrets[0]", "BAD_SECRET")]),
    (Verifier(Kind.BASIC, ("no-colon",)), [("verifier.secrets[0]", "BAD_SECRET")]),
    (Verifier(Kind.BEARER, ("two words",)), [("verifier.secrets[0]", "BAD_SECRET")]),
    (Verifier(Kind.HMAC, ("s",)), [("verifier.hmac.header", "REQUIRED")]),
    (
        Verifier(Kind.HMAC, ("s",), HmacForm("X Y", "md5", "base32", template="{bdy}")),
        [
            ("verifier.hmac.header", "BAD_HEADER"),
            ("verifier.hmac.algorithm", "UNKNOWN_VALUE"),
            ("verifier.hmac.encoding", "UNKNOWN_VALUE"),
            ("verifier.hmac.template", "UNKNOWN_PLACEHOLDER"),
            ("verifier.hmac.template", "BODY_NOT_SIGNED"),
        ],
    ),
    (
        Verifier(Kind.HMAC, ("s",), replace(FORM, template="{timestamp}.{body}")),
        [("verifier.hmac.timestamp_header", "REQUIRED")],
    ),
    (
        Verifier(Kind.HMAC, ("s",), replace(FORM, timestamp_header="X-Time")),
        [("verifier.hmac.timestamp_header", "TIMESTAMP_NOT_SIGNED")],
    ),
]


@pytest.mark.parametrize("verifier", GOOD, ids=lambda verifier: str(verifier.kind))
def test_what_can_verify_is_taken(verifier: Verifier) -> None:
    assert problems(verifier) == ()


@pytest.mark.parametrize(("verifier", "found"), BAD)
def test_what_cannot_is_refused_with_everything_that_is_wrong(verifier: Verifier, found: list[tuple[str, str]]) -> None:
    refused = problems(verifier)
    assert [(one.field, one.reason) for one in refused] == found
    secrets = [secret for secret in verifier.secrets if len(secret) > 1]
    assert not [one for one in refused for secret in secrets if secret in one.message + one.hint]


def test_the_nearest_name_is_told() -> None:
    form = HmacForm("X-Signature", "sha265", template="{timestmp}.{body}")
    assert [one.hint for one in problems(Verifier(Kind.HMAC, ("s",), form))] == [
        "Did you mean sha256? It is one of sha256, sha512, sha1.",
        "Did you mean timestamp? There are {body} and {timestamp}.",
    ]
