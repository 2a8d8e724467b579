"""Whether a request is genuine: one function a kind, over the raw bytes, in constant time, with any of several secrets.

Each answers yes or no and never why: who forges is not told how far they came.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from core.domain.frozen import frozen
from core.domain.inbound.request import Arrived

TOLERANCE = timedelta(minutes=5)
"""How far a signed timestamp may be from our clock, either way."""

SYMMETRIC = "whsec_"
PUBLIC = "whpk_"
"""What begins the public key of an ed25519 pair, which checks `v1a` signatures."""

_MOST_SIGNATURES = 20
"""Looked at in one request: senders that rotate send two."""
_MOST_PUBLIC_SIGNATURES = 4
_PUBLIC_SIGNATURE_LENGTH = 64
"""Of `v1a`, whose check hashes the whole body for each key and signature."""
_SECONDS = re.compile(r"[0-9]{1,10}")
_MILLISECONDS = re.compile(r"[0-9]{13}")


class Kind(StrEnum):
    """How requests of a source are verified."""

    NONE = ""
    STANDARD_WEBHOOKS = "standard_webhooks"
    STRIPE = "stripe"
    GITHUB = "github"
    SHOPIFY = "shopify"
    SLACK = "slack"
    HMAC = "hmac"
    BASIC = "basic"
    BEARER = "bearer"


@frozen
class HmacForm:
    """An HMAC of any form."""

    header: str = ""
    algorithm: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""
    template: str = "{body}"
    timestamp_header: str = ""


@frozen
class Verifier:
    """How a source's requests are verified."""

    kind: Kind = Kind.NONE
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """All that are valid, newest first."""
    hmac: HmacForm = field(default_factory=HmacForm)
    challenge_token: str = field(default="", repr=False)


def verified(verifier: Verifier, arrived: Arrived, now: datetime) -> bool:
    """Tell whether a request is genuine."""
    return _CHECKS[verifier.kind](verifier, arrived, now)


def same(one: str, other: str) -> bool:
    """Compare two texts in a time that tells nothing of what they have in common."""
    return hmac.compare_digest(one.encode(errors="replace"), other.encode(errors="replace"))


def key_bytes(secret: str) -> bytes:
    """Return the bytes of a `whsec_` or `whpk_` secret.

    Raises ValueError when it is not standard base64.
    """
    text = secret.removeprefix(SYMMETRIC).removeprefix(PUBLIC)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise ValueError("not standard base64") from None


def _nothing(verifier: Verifier, arrived: Arrived, now: datetime) -> bool:
    return True


def _standard(verifier: Verifier, arrived: Arrived, now: datetime) -> bool:
    headers = arrived.headers
    family = "webhook" if "webhook-signature" in headers else "svix"  # the name that they had before
    message_id, timestamp = headers.get(f"{family}-id", ""), headers.get(f"{family}-timestamp", "")
    if not message_id or not _is_recent(timestamp, now):
        return False
    signed = _bytes(f"{message_id}.{timestamp}.") + arrived.body
    tokens = headers.get(f"{family}-signature", "").split()[:_MOST_SIGNATURES]
    given = [(version, _from_base64(value)) for version, _, value in (token.partition(",") for token in tokens)]
    symmetric = [key_bytes(secret) for secret in verifier.secrets if not secret.startswith(PUBLIC)]
    public = [key_bytes(secret) for secret in verifier.secrets if secret.startswith(PUBLIC)]
    genuine = _any_same(
        [hmac.digest(key, signed, hashlib.sha256) for key in symmetric],
        [value for version, value in given if version == "v1"],
    )
    asymmetric = [value for version, value in given if version == "v1a" and len(value) == _PUBLIC_SIGNATURE_LENGTH]
    for value in list(dict.fromkeys(asymmetric))[:_MOST_PUBLIC_SIGNATURES]:
        genuine |= _signed_by_any(public, value, signed)
    return genuine


def _signed_by_any(public: Iterable[bytes], signature: bytes, signed: bytes) -> bool:
    genuine = False
    for key in public:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, signed)
            genuine = True
        except (InvalidSignature, ValueError):
            continue
    return genuine


def _stripe(verifier: Verifier, arrived: Arrived, now: datetime) -> bool:
    pairs = [part.strip().partition("=") for part in arrived.headers.get("stripe-signature", "").split(",")]
    timestamp = next((value for name, _, value in pairs if name == "t"), "")
    if not _is_recent(timestamp, now):
        return False
    given = [_from_hex(value) for name, _, value in pairs if name == "v1"]
    return _any_same(_macs(verifier, _bytes(f"{timestamp}.") + arrived.body), given)


def _github(verifier: Verifier, arrived: Arrived, now: datetime) -> bool:
    scheme, _, value = arrived.headers.get("x-hub-signature-256", "").partition("=")
    return scheme == "sha256" and _any_same(_macs(verifier, arrived.body), [_from_hex(value)])


def _shopify(verifier: Verifier, arrived: Arrived, now: datetime) -> bool:
    return _any_same(_macs(verifier, arrived.body), [_from_base64(arrived.headers.get("x-shopify-hmac-sha256", ""))])


def _slack(verifier: Verifier, arrived: Arrived, now: datetime) -> bool:
    timestamp = arrived.headers.get("x-slack-request-timestamp", "")
    version, _, value = arrived.headers.get("x-slack-signature", "").partition("=")
    if version != "v0" or not _is_recent(timestamp, now):
        return False
    return _any_same(_macs(verifier, _bytes(f"v0:{timestamp}:") + arrived.body), [_from_hex(value)])


def _hmac(verifier: Verifier, arrived: Arrived, now: datetime) -> bool:
    form = verifier.hmac
    timestamp = arrived.headers.get(form.timestamp_header.lower(), "") if form.timestamp_header else ""
    if form.timestamp_header and not _is_recent(timestamp, now, milliseconds=True):
        return False
    decode = _from_hex if form.encoding == "hex" else _from_base64
    header = arrived.headers.get(form.header.lower(), "")
    tokens = [header, *header.split()[:_MOST_SIGNATURES]]
    given = [decode(token.removeprefix(form.prefix)) for token in tokens if token.startswith(form.prefix)]
    pieces = re.split(r"(\{body\}|\{timestamp\})", form.template)
    known = {"{body}": arrived.body, "{timestamp}": _bytes(timestamp)}
    signed = b"".join(known.get(piece, piece.encode()) for piece in pieces)
    return _any_same(_macs(verifier, signed, form.algorithm), given)


def _basic(verifier: Verifier, arrived: Arrived, now: datetime) -> bool:
    given = _from_base64(_credentials(arrived, "basic"))
    return _any_same([secret.encode() for secret in verifier.secrets], [given])


def _bearer(verifier: Verifier, arrived: Arrived, now: datetime) -> bool:
    given = _bytes(_credentials(arrived, "bearer"))
    return _any_same([secret.encode() for secret in verifier.secrets], [given])


def _credentials(arrived: Arrived, scheme: str) -> str:
    given, _, value = arrived.headers.get("authorization", "").partition(" ")
    return value.strip() if given.lower() == scheme else ""


def _macs(verifier: Verifier, signed: bytes, algorithm: str = "sha256") -> list[bytes]:
    return [hmac.digest(secret.encode(), signed, algorithm) for secret in verifier.secrets]


def _any_same(expected: Iterable[bytes], given: Iterable[bytes]) -> bool:
    """Compare each with each, however early one fits: how long it takes does not tell which."""
    tried = [value for value in given if value]
    genuine = False
    for mine in expected:
        for theirs in tried:
            genuine |= bool(mine) and hmac.compare_digest(mine, theirs)
    return genuine


def _is_recent(timestamp: str, now: datetime, *, milliseconds: bool = False) -> bool:
    if _SECONDS.fullmatch(timestamp):
        seconds = float(timestamp)
    elif milliseconds and _MILLISECONDS.fullmatch(timestamp):
        seconds = int(timestamp) / 1000
    else:
        return False
    return abs(seconds - now.timestamp()) <= TOLERANCE.total_seconds()


def _bytes(text: str) -> bytes:
    """Return the bytes of a header's value, which HTTP reads as Latin-1."""
    return text.encode("latin-1", errors="replace")


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


_CHECKS: Mapping[Kind, Callable[[Verifier, Arrived, datetime], bool]] = {
    Kind.NONE: _nothing,
    Kind.STANDARD_WEBHOOKS: _standard,
    Kind.STRIPE: _stripe,
    Kind.GITHUB: _github,
    Kind.SHOPIFY: _shopify,
    Kind.SLACK: _slack,
    Kind.HMAC: _hmac,
    Kind.BASIC: _basic,
    Kind.BEARER: _bearer,
}
