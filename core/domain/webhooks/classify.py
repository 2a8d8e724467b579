"""What the answer to an attempt means: one Outcome for logs, API, test calls and enrollments, and what each does."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from core.domain.frozen import frozen

CONTROL_HEADER = "webhook-delivery"
"""Header with which a receiver steers: `disable` turns its endpoint off, `abort-message` ends this delivery."""

CODE_OK = 1
CODE_QUERY = 21111011
"""The endpoint's own settings are wrong: its URL, or what its token is fetched with."""
CODE_FAILED = 11110111
CODE_NOT_JSON = 11110112
CODE_NOT_VERIFIED = 11110113
CODE_FORBIDDEN = 11110114

REASON_GONE = "gone"
REASON_ASKED = "receiver_asked"


class Outcome(StrEnum):
    """How an attempt, or a message without any, ended."""

    DELIVERED = "delivered"
    HTTP_STATUS = "http_status"
    REDIRECT = "redirect"
    GONE = "gone"
    ABORTED = "aborted"
    TIMEOUT = "timeout"
    BODY_TOO_SLOW = "body_too_slow"
    CONNECT_FAILED = "connect_failed"
    CONNECTION_LOST = "connection_lost"
    TLS_FAILED = "tls_failed"
    DNS_FAILED = "dns_failed"
    DESTINATION_NOT_ALLOWED = "destination_not_allowed"
    BAD_RESPONSE = "bad_response"
    TOKEN_FAILED = "token_failed"  # noqa: S105 -- no secret
    NOT_JSON = "not_json"
    VERIFICATION_FAILED = "verification_failed"
    NO_ENDPOINT = "no_endpoint"
    ENDPOINT_DELETED = "endpoint_deleted"
    ENDPOINT_DISABLED = "endpoint_disabled"
    PAYLOAD_REFUSED = "payload_refused"
    NOT_TAKEN = "not_taken"
    KEY_MISSING = "key_missing"


@frozen
class Meaning:
    """What one outcome says and does."""

    stage: str
    """How far the attempt came, as `TestEndpoint` tells it."""
    sentence: str
    retry: bool
    disables: str = ""
    """Reason for which the endpoint is turned off; empty when it stays on."""
    code: int = CODE_FAILED
    """The number that tests and verifications answer with."""


MEANINGS: dict[Outcome, Meaning] = {
    Outcome.DELIVERED: Meaning("done", "the receiver took it", False, code=CODE_OK),
    Outcome.HTTP_STATUS: Meaning("http", "the receiver answered with a status that is not 2xx", True),
    Outcome.REDIRECT: Meaning("http", "the receiver answered with a redirect, which is never followed", True),
    Outcome.GONE: Meaning("http", "the receiver answered 410: it wants no more webhooks", False, REASON_GONE),
    Outcome.ABORTED: Meaning("http", "the receiver asked to end this delivery", False),
    Outcome.TIMEOUT: Meaning("timeout", "the receiver did not answer in time", True),
    Outcome.BODY_TOO_SLOW: Meaning("body", "the receiver did not finish its answer in time", True),
    Outcome.CONNECT_FAILED: Meaning("connect", "the receiver could not be reached", True),
    Outcome.CONNECTION_LOST: Meaning("http", "the receiver closed the connection without a full answer", True),
    Outcome.TLS_FAILED: Meaning("tls", "no trusted TLS connection could be made", True),
    Outcome.DNS_FAILED: Meaning("dns", "the host name could not be resolved", True),
    Outcome.DESTINATION_NOT_ALLOWED: Meaning("policy", "destination not allowed", True, code=CODE_FORBIDDEN),
    Outcome.BAD_RESPONSE: Meaning("http", "the receiver's answer is not valid HTTP", True),
    Outcome.TOKEN_FAILED: Meaning("http", "no access token could be fetched", True, code=CODE_QUERY),
    Outcome.NOT_JSON: Meaning("body", "the receiver's answer is not JSON", False, code=CODE_NOT_JSON),
    Outcome.VERIFICATION_FAILED: Meaning(
        "verify", "the receiver's answer does not prove that it wants messages", False, code=CODE_NOT_VERIFIED
    ),
    Outcome.NO_ENDPOINT: Meaning("url", "no endpoint that is on wants this event", False, code=CODE_QUERY),
    Outcome.ENDPOINT_DELETED: Meaning("url", "the endpoint was deleted", False, code=CODE_QUERY),
    Outcome.ENDPOINT_DISABLED: Meaning("url", "the endpoint is disabled; a replay can send it", False, code=CODE_QUERY),
    Outcome.PAYLOAD_REFUSED: Meaning(
        "url", "the event does not fit its schema or is too large", False, code=CODE_QUERY
    ),
    Outcome.NOT_TAKEN: Meaning("consumer", "the consumer said that it could not take it", True),
    Outcome.KEY_MISSING: Meaning(
        "policy", "this deployment cannot open the endpoint's secrets; no fault of its own", True
    ),
}
"""Every outcome."""


@frozen
class Ruling:
    """What follows from one attempt."""

    outcome: Outcome
    retry: bool
    disable_reason: str
    """Why to turn the endpoint off; empty to leave it on."""

    @property
    def delivered(self) -> bool:
        """Tell whether the receiver took it."""
        return self.outcome is Outcome.DELIVERED


_RULINGS = {outcome: Ruling(outcome, of.retry, of.disables) for outcome, of in MEANINGS.items()}
_ASKED = {outcome: Ruling(outcome, of.retry, REASON_ASKED) for outcome, of in MEANINGS.items()}


def of_response(status_code: int, headers: Mapping[str, str]) -> Ruling:
    """Return what follows from a complete answer; only 2xx is a success. Header names are in lower case."""
    control = headers.get(CONTROL_HEADER, "").strip().lower()
    outcome = _of_status(status_code)
    if outcome is not Outcome.DELIVERED and control == "abort-message":
        outcome = Outcome.ABORTED
    return _ASKED[outcome] if control == "disable" else _RULINGS[outcome]


def of_failure(outcome: Outcome) -> Ruling:
    """Return what follows from an attempt that brought no complete answer."""
    return _RULINGS[outcome]


def _of_status(status_code: int) -> Outcome:
    if 200 <= status_code < 300:
        return Outcome.DELIVERED
    if 300 <= status_code < 400:
        return Outcome.REDIRECT
    return Outcome.GONE if status_code == 410 else Outcome.HTTP_STATUS


def verdict_code(outcome: Outcome) -> int:
    """Return the number that `TestEndpoint` and `VerifyEndpoint` answer with."""
    return MEANINGS[outcome].code
