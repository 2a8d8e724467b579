"""Standard Webhooks 1.0 signatures: `v1`, HMAC-SHA256 over id, timestamp and the stored body.

Source: https://www.standardwebhooks.com, and what the public verifier libraries accept.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix of every secret
TOLERANCE = timedelta(minutes=5)
"""How far a timestamp may be from the receiver's clock."""

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A secret and until when it signs; None means that it is the current one."""

    secret: str
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
    return " ".join("v1," + _mac(secret, message_id, str(int(at.timestamp())), body) for secret in secrets)


def headers(secrets: Iterable[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers that sign one attempt."""
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: str(int(at.timestamp())),
        SIGNATURE_HEADER: sign(secrets, message_id, at, body),
    }


def verify(secret: str, received: Mapping[str, str], body: bytes, now: datetime) -> None:
    """Check a received message against its raw body, in constant time.

    Raises VerificationFailed, which does not say what was wrong.
    """
    lowered = {name.lower(): value for name, value in received.items()}
    timestamp = lowered.get(TIMESTAMP_HEADER, "")
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        raise VerificationFailed
    if abs(int(timestamp) - now.timestamp()) > TOLERANCE.total_seconds():
        raise VerificationFailed
    expected = _mac(secret, lowered.get(ID_HEADER, ""), timestamp, body).encode()
    genuine = False
    for token in lowered.get(SIGNATURE_HEADER, "").split():
        version, _, value = token.partition(",")
        genuine |= version == "v1" and hmac.compare_digest(value.encode(), expected)
    if not genuine:
        raise VerificationFailed


def _mac(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()


def _key(secret: str) -> bytes:
    text = secret.removeprefix(SECRET_PREFIX)
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as error:
        raise ValueError("a signing secret is whsec_ and standard base64") from error
