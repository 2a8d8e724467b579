"""Everything that sending to an endpoint needs, and what is sent to it."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime, timedelta

from core.domain.frozen import frozen
from core.domain.webhooks import signing
from core.domain.webhooks.authentication import Authentication
from core.domain.webhooks.retry import Preset
from core.domain.webhooks.signing import ExtraSignature, SigningKey
from core.domain.webhooks.states import Verification

SEQUENCE_HEADER = "webhook-sequence"
CHALLENGE_HEADER = "webhook-challenge"
"""Sent to an endpoint that is not verified yet; an answer that contains its value verifies it."""

_CHALLENGE = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
"""How a challenge looks, wherever it stands in an answer."""


@frozen
class Receiver:
    """An endpoint, as far as sending to it goes."""

    org_id: str
    id: str
    url: str
    """In normal form; empty for one that fetches."""
    keys: Sequence[SigningKey] = field(repr=False)
    """Newest first."""
    seed: bytes = field(default=b"", repr=False)
    """Of its `v1a` key; empty until it has one."""
    extra_signatures: Sequence[ExtraSignature] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    auth: Authentication | None = None
    retry_preset: Preset = Preset.STANDARD
    retry_delays: Sequence[timedelta] = ()
    """In place of the preset's; empty for those."""
    verification: Verification = Verification.NOT_REQUIRED
    challenge: str = field(default="", repr=False)
    """What is sent with messages until it comes back: known to nobody but the core and who answers at this URL."""


@frozen
class Outgoing:
    """One message as it leaves."""

    message_id: str
    payload: str
    """The stored bytes, as text."""
    sequence: int = 0
    """Position among the endpoint's messages; 0 for what has none, such as a test."""


def challenge_from(random_bytes: bytes) -> str:
    """Return 32 random bytes as a challenge; each URL gets one of its own, so that none tells of another."""
    return random_bytes.hex()


def echoes(receiver: Receiver, response: str) -> bool:
    """Tell whether an answer contains the challenge of an endpoint that is not verified yet."""
    return receiver.verification is Verification.UNVERIFIED and contains(response, receiver.challenge)


def contains(response: str, challenge: str) -> bool:
    """Tell whether an answer contains a challenge."""
    return any([hmac.compare_digest(challenge, one) for one in _CHALLENGE.findall(response)])


def headers(receiver: Receiver, outgoing: Outgoing, now: datetime) -> dict[str, str]:
    """Return the headers of one attempt, without those that authenticate; ours are never overridden."""
    secrets = signing.valid_secrets(receiver.keys, now)
    body = outgoing.payload.encode()
    ours = {
        "content-type": "application/json",
        **signing.headers(secrets, outgoing.message_id, now, body, receiver.extra_signatures, receiver.seed),
    }
    if outgoing.sequence:
        ours[SEQUENCE_HEADER] = str(outgoing.sequence)
    if receiver.verification is Verification.UNVERIFIED and receiver.challenge:
        ours[CHALLENGE_HEADER] = receiver.challenge
    return {**receiver.headers, **ours}
