"""Signatures of webhooks: Standard Webhooks 1.0 (`v1`, and `v1a` where asked for), and two forms that others expect.

`v1` is HMAC-SHA256 and `v1a` ed25519, both over id, timestamp and the stored body. The other forms take the secret as
the text that its owner sees. Source: https://www.standardwebhooks.com, and what the public verifier libraries accept.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from core.domain.frozen import frozen

SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix of every secret
PUBLIC_PREFIX = "whpk_"
TOLERANCE = timedelta(minutes=5)
"""How far a timestamp may be from the receiver's clock."""

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"


class SignatureFormat(StrEnum):
    """Forms of signatures beside `v1`."""

    V1A = "v1a"
    SHA256_HEX = "sha256_hex"
    TIMESTAMPED = "timestamped"


@frozen
class ExtraSignature:
    """A signature beside `v1`."""

    format: SignatureFormat
    header: str = ""
    """The header that carries it; empty for `v1a`, which stands in `webhook-signature`."""


@frozen
class SigningKey:
    """A secret and until when it signs; None means that it is the current one."""

    secret: str = field(repr=False)
    expires_at: datetime | None = None


class VerificationFailed(Exception):
    """The message does not carry a valid signature."""


def secret_from(random_bytes: bytes) -> str:
    """Return a secret as a receiver keeps it: `whsec_` and standard base64."""
    return SECRET_PREFIX + base64.b64encode(random_bytes).decode()


def valid_secrets(keys: Iterable[SigningKey], now: datetime) -> tuple[str, ...]:
    """Return the secrets that sign at this instant, in the order given."""
    return tuple(key.secret for key in keys if key.expires_at is None or key.expires_at > now)


def sign(secrets: Iterable[str], message_id: str, at: datetime, body: bytes) -> str:
    """Return the value of `webhook-signature`: one `v1,` token a secret, separated by exactly one space."""
    signed = _signed_text(message_id, str(int(at.timestamp())), body)
    return " ".join(["v1," + _mac(secret, signed) for secret in secrets])


def headers(
    secrets: Sequence[str],
    message_id: str,
    at: datetime,
    body: bytes,
    extra: Sequence[ExtraSignature] = (),
    seed: bytes = b"",
) -> dict[str, str]:
    """Return the headers that sign one attempt; `secrets` are the newest first, `seed` is for `v1a`."""
    signature = sign(secrets, message_id, at, body)
    signed = {ID_HEADER: message_id, TIMESTAMP_HEADER: str(int(at.timestamp()))}
    for one in extra:
        match one.format:
            case SignatureFormat.V1A:
                signature = f"{signature} {sign_asymmetric(seed, message_id, at, body)}".lstrip()
            case SignatureFormat.SHA256_HEX:
                signed[one.header] = sha256_hex(secrets, body)
            case SignatureFormat.TIMESTAMPED:
                signed[one.header] = timestamped(secrets, at, body)
    signed[SIGNATURE_HEADER] = signature
    return signed


def sign_asymmetric(seed: bytes, message_id: str, at: datetime, body: bytes) -> str:
    """Return the `v1a,` token that the public key of this seed verifies."""
    signed = _signed_text(message_id, str(int(at.timestamp())), body)
    return "v1a," + base64.b64encode(_private_key(seed).sign(signed)).decode()


def sha256_hex(secrets: Sequence[str], body: bytes) -> str:
    """Return `sha256=<hex>` over the body; it has room for one secret, which is the newest."""
    return "sha256=" + hmac.digest(secrets[0].encode(), body, hashlib.sha256).hex() if secrets else ""


def timestamped(secrets: Sequence[str], at: datetime, body: bytes) -> str:
    """Return `t=<seconds>,v1=<hex>` over `<seconds>.<body>`, with one `v1` a secret."""
    seconds = str(int(at.timestamp()))
    signed = seconds.encode() + b"." + body
    macs = [hmac.digest(secret.encode(), signed, hashlib.sha256).hex() for secret in secrets]
    return ",".join([f"t={seconds}", *(f"v1={mac}" for mac in macs)])


def public_bytes(seed: bytes) -> bytes:
    """Return the 32 bytes of the public key that belongs to a seed."""
    return _private_key(seed).public_key().public_bytes_raw()


def public_key(seed: bytes) -> str:
    """Return the public key of a seed as a receiver keeps it: `whpk_` and standard base64."""
    return PUBLIC_PREFIX + base64.b64encode(public_bytes(seed)).decode()


def verify(secret: str, received: Mapping[str, str], body: bytes, now: datetime) -> None:
    """Check a received message against its raw body, in constant time.

    `secret` is a shared one, or a public key (`whpk_`). Raises VerificationFailed, which does not say what was wrong.
    """
    lowered = {name.lower(): value for name, value in received.items()}
    timestamp = lowered.get(TIMESTAMP_HEADER, "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise VerificationFailed
    if abs(int(timestamp) - now.timestamp()) > TOLERANCE.total_seconds():
        raise VerificationFailed
    message_id = lowered.get(ID_HEADER, "")
    tokens = lowered.get(SIGNATURE_HEADER, "").split()
    if secret.startswith(PUBLIC_PREFIX):
        genuine = _any_asymmetric(secret, tokens, _signed_text(message_id, timestamp, body))
    else:
        genuine = _any_shared(_mac(secret, _signed_text(message_id, timestamp, body)), tokens)
    if not genuine:
        raise VerificationFailed


def _any_shared(expected: str, tokens: Iterable[str]) -> bool:
    genuine = False
    for token in tokens:
        version, _, value = token.partition(",")
        genuine |= version == "v1" and hmac.compare_digest(value.encode(), expected.encode())
    return genuine


def _any_asymmetric(key: str, tokens: Iterable[str], signed: bytes) -> bool:
    public = Ed25519PublicKey.from_public_bytes(_decoded(key.removeprefix(PUBLIC_PREFIX)))
    for token in tokens:
        version, _, value = token.partition(",")
        if version != "v1a":
            continue
        try:
            public.verify(base64.b64decode(value, validate=True), signed)
        except (InvalidSignature, ValueError):
            continue
        return True
    return False


def _signed_text(message_id: str, timestamp: str, body: bytes) -> bytes:
    return f"{message_id}.{timestamp}.".encode() + body


def _mac(secret: str, signed: bytes) -> str:
    # Binascii itself, and an algorithm by its name: what stands around them costs as much as the HMAC of a kilobyte.
    return binascii.b2a_base64(hmac.digest(_key(secret), signed, "sha256"), newline=False).decode()


@lru_cache(maxsize=1024)
def _key(secret: str) -> bytes:
    return _decoded(secret.removeprefix(SECRET_PREFIX))


@lru_cache(maxsize=256)
def _private_key(seed: bytes) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed)


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("a signing secret is whsec_ and standard base64") from error
