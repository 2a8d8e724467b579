"""Questions that senders ask before they send: is this address yours, and do you want what comes.

A signed question (Slack, Zoom) is answered only once its signature is verified.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any

from core.domain.frozen import frozen
from core.domain.inbound.request import Arrived
from core.domain.inbound.verifiers import Kind, Verifier, same

ALLOWED_PER_MINUTE = 6_000
"""What senders are told that they may send to one address."""

VERIFICATION = "endpoint.verification"
"""Type of the message by which an endpoint of a core like this one asks."""
CHALLENGE_HEADER = "webhook-challenge"

_PRINTABLE = re.compile(r"[!-~]{1,250}")
_CHALLENGE = re.compile(r"[!-~]{1,500}")
_ECHOED = re.compile(r"[0-9a-f]{16,128}")
# Without a colon or a brace: no question about a token can be made to look like a signed message.
_PLAIN_TOKEN = re.compile(r"[A-Za-z0-9+/=_-]{1,200}")


@frozen
class Answer:
    """What is answered to a question; an empty body has no type."""

    status: int
    body: bytes = b""
    content_type: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


def asked_before_sending(arrived: Arrived) -> Answer:
    """Answer OPTIONS: CloudEvents' question whether and how fast a sender may send, or just what is possible here."""
    headers = {"Allow": "OPTIONS, POST"}
    origin = arrived.headers.get("webhook-request-origin", "").strip()
    if not _PRINTABLE.fullmatch(origin):
        return Answer(204, headers=headers)
    wanted = arrived.headers.get("webhook-request-rate", "").strip()
    rate = int(wanted) if wanted.isascii() and wanted.isdigit() and len(wanted) < 10 else ALLOWED_PER_MINUTE
    headers |= {
        "WebHook-Allowed-Origin": origin,
        "WebHook-Allowed-Rate": str(max(1, min(rate, ALLOWED_PER_MINUTE))),
    }
    return Answer(200, headers=headers)


def asks_by_get(arrived: Arrived) -> bool:
    """Tell whether a GET asks Meta's question."""
    return "hub.mode" in arrived.query or "hub.challenge" in arrived.query


def answered_by_get(verifier: Verifier, arrived: Arrived) -> Answer | None:
    """Answer Meta's question with its challenge; None when it does not know the challenge token."""
    challenge = arrived.query.get("hub.challenge", "")
    knows = same(arrived.query.get("hub.verify_token", ""), verifier.challenge_token)
    if not verifier.challenge_token or not knows or not _CHALLENGE.fullmatch(challenge):
        return None
    return Answer(200, challenge.encode(), "text/plain; charset=utf-8")


def answered_by_post(verifier: Verifier, arrived: Arrived) -> Answer | None:
    """Answer what a verified POST asks, as Slack, Zoom and endpoints of this core do; None when it asks nothing."""
    if len(arrived.body) > 10_000 or b"{" not in arrived.body[:100]:
        return None
    try:
        asked = json.loads(arrived.body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(asked, dict):
        return None
    return _slack(verifier, asked) or _zoom(verifier, asked) or _own(verifier, asked)


def _slack(verifier: Verifier, asked: Mapping[str, Any]) -> Answer | None:
    challenge = asked.get("challenge")
    if verifier.kind is not Kind.SLACK or asked.get("type") != "url_verification":
        return None
    if not isinstance(challenge, str) or not _CHALLENGE.fullmatch(challenge):
        return None
    return Answer(200, challenge.encode(), "text/plain; charset=utf-8")


def _zoom(verifier: Verifier, asked: Mapping[str, Any]) -> Answer | None:
    payload = asked.get("payload")
    if not verifier.challenge_token or asked.get("event") != "endpoint.url_validation" or not isinstance(payload, dict):
        return None
    token = payload.get("plainToken")
    if not isinstance(token, str) or not _PLAIN_TOKEN.fullmatch(token):
        return None
    mac = hmac.digest(verifier.challenge_token.encode(), token.encode(), hashlib.sha256).hex()
    return Answer(200, json.dumps({"plainToken": token, "encryptedToken": mac}).encode(), "application/json")


def _own(verifier: Verifier, asked: Mapping[str, Any]) -> Answer | None:
    data = asked.get("data")
    if verifier.kind is not Kind.STANDARD_WEBHOOKS or asked.get("type") != VERIFICATION or not isinstance(data, dict):
        return None
    challenge = data.get("challenge")
    if not isinstance(challenge, str) or not _CHALLENGE.fullmatch(challenge):
        return None
    return Answer(200, json.dumps({"challenge": challenge}).encode(), "application/json")


def echo(verifier: Verifier, arrived: Arrived) -> str:
    """Return what an endpoint of a core like this one wants to find in the answer; empty where it wants nothing."""
    given = arrived.headers.get(CHALLENGE_HEADER, "")
    return given if verifier.kind is Kind.STANDARD_WEBHOOKS and _ECHOED.fullmatch(given) else ""
