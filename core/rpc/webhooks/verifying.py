"""Handlers of WebhookService that call an endpoint at once: tests, and the proofs that it wants its messages."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import Row

from core import ids
from core.delivery.attempt import send_signed
from core.delivery.authenticated import send_as
from core.delivery.send_result import SendResult
from core.domain.errors import NotFound, invalid
from core.domain.webhooks import bodies, classify, receivers
from core.domain.webhooks.bodies import PayloadFormat
from core.domain.webhooks.classify import MEANINGS, Outcome
from core.domain.webhooks.endpoint_options import HIGHEST_RATE
from core.domain.webhooks.receivers import Outgoing
from core.domain.webhooks.states import EndpointKind
from core.rpc.admission import audit_trail
from core.rpc.call import Call, Parts
from core.rpc.convert import to_duration
from core.rpc.webhooks.endpoint_messages import message_of
from core.store.webhooks import endpoints
from dripstone.v1 import webhook_pb2 as pb

OUR_NAME = "dripstone"
"""What asks in a handshake, where the deployment has no public address."""

_FASTEST_ASKED = 6_000
"""Messages a minute that a handshake asks for."""


async def test_endpoint(request: pb.TestEndpointRequest, call: Call) -> pb.TestEndpointResponse:
    """Send one signed test event, outside any transaction, whatever the endpoint's state."""
    parts = call.parts
    row = await _get(call, request.endpoint_id)
    if row.kind == EndpointKind.PULL:
        message = "the endpoint fetches its messages: there is no URL to test"
        return pb.TestEndpointResponse(stage="url", code=classify.CODE_QUERY, message=message)
    now = parts.clock.now()
    data = {"endpoint_id": row.id, "note": "This is a test; nothing happened."}
    payload = bodies.standard("endpoint.test", now, data)
    form = PayloadFormat(row.payload_format)
    payload = bodies.in_form(form, row.org_id, "endpoint.test", now, data) or payload
    receiver = endpoints.receiver(row, parts.vault)
    result = await send_signed(parts.webhook_sender, receiver, Outgoing(ids.mint("msg", now), payload), now)
    if result.ruling.delivered and receivers.echoes(receiver, result.response_text):
        await _verified(row, call)
    return pb.TestEndpointResponse(
        ok=result.ruling.delivered,
        stage=MEANINGS[result.outcome].stage,
        code=classify.verdict_code(result.outcome),
        message=result.error or f"{MEANINGS[result.outcome].sentence} (HTTP {result.status_code})",
        status_code=result.status_code,
        duration=to_duration(result.duration.total_seconds()),
    )


async def verify_endpoint(request: pb.VerifyEndpointRequest, call: Call) -> pb.VerifyEndpointResponse:
    """Ask the receiver for a proof; nothing of this happens inside a transaction but noting that it gave one."""
    row = await _get(call, request.endpoint_id)
    if row.kind == EndpointKind.PULL:
        message = "an endpoint that fetches its messages needs no verification"
        raise invalid("endpoint_id", "ENDPOINT_PULLS", message, "Stream its messages; there is no limit to lift.")
    handshake = request.proof == pb.VERIFICATION_PROOF_HANDSHAKE
    outcome, said, rate = await (_shake_hands(row, call.parts) if handshake else _challenge(row, call.parts))
    if outcome is Outcome.DELIVERED and not await _verified(row, call, rate):
        outcome, said = Outcome.VERIFICATION_FAILED, "its URL was changed meanwhile"
    now_is = await _get(call, row.id)
    sentence = MEANINGS[outcome].sentence
    if outcome is Outcome.DELIVERED:
        sentence = "the receiver wants the messages"
    return pb.VerifyEndpointResponse(
        verified=outcome is Outcome.DELIVERED,
        code=classify.verdict_code(outcome),
        stage=MEANINGS[outcome].stage,
        message=f"{sentence}: {said}" if said else sentence,
        endpoint=message_of(now_is, call.parts.clock.now()),
    )


_Proof = tuple[Outcome, str, float]
"""How asking went, what there is to add, and the messages a second that the receiver allows; 0 for any number."""


async def _challenge(row: Row[Any], parts: Parts) -> _Proof:
    """Send a random text, signed, and expect it back."""
    now = parts.clock.now()
    secret = base64.urlsafe_b64encode(ids.new_secret_bytes()).decode().rstrip("=")
    data = {"endpoint_id": row.id, "challenge": secret}
    payload = bodies.standard("endpoint.verification", now, data)
    outgoing = Outgoing(ids.mint("msg", now), payload)
    result = await send_signed(parts.webhook_sender, endpoints.receiver(row, parts.vault), outgoing, now)
    if not result.ruling.delivered:
        return _not_there(result)
    try:
        answer = json.loads(result.response_text)
    except (ValueError, RecursionError):
        return Outcome.NOT_JSON, 'answer {"challenge": …} with the challenge in data', 0
    given = answer.get("challenge") if isinstance(answer, dict) else None
    if isinstance(given, str) and hmac.compare_digest(given.encode(errors="replace"), secret.encode()):
        return Outcome.DELIVERED, "", 0
    return Outcome.VERIFICATION_FAILED, "challenge is missing in it, or another one", 0


async def _shake_hands(row: Row[Any], parts: Parts) -> _Proof:
    """Ask as CloudEvents' HTTP webhooks do (its section 4): with OPTIONS, under our name."""
    now = parts.clock.now()
    receiver = endpoints.receiver(row, parts.vault)
    name = urlsplit(parts.settings.public_url).hostname or OUR_NAME
    asking = {
        **receiver.headers,
        "webhook-request-origin": name,
        "webhook-request-rate": str(_FASTEST_ASKED),
    }
    owner = (receiver.org_id, receiver.id)
    result = await send_as(parts.webhook_sender, owner, receiver.auth, receiver.url, asking, b"", now, method="OPTIONS")
    if not result.ruling.delivered:
        return _not_there(result)
    allowed = [one.strip().lower() for one in result.headers.get("webhook-allowed-origin", "").split(",")]
    if "*" not in allowed and name not in allowed:
        return Outcome.VERIFICATION_FAILED, f"WebHook-Allowed-Origin names neither {name} nor *", 0
    return Outcome.DELIVERED, "", _per_second(result.headers.get("webhook-allowed-rate", ""))


def _not_there(result: SendResult) -> _Proof:
    sentence = MEANINGS[result.outcome].sentence
    return result.outcome, result.error.removeprefix(sentence).strip(" :()"), 0


def _per_second(per_minute: str) -> float:
    text = per_minute.strip()
    if text.isascii() and text.isdigit() and int(text[:9]) > 0:
        return min(int(text[:9]) / 60, HIGHEST_RATE)
    return 0


async def _verified(row: Row[Any], call: Call, rate: float = 0) -> bool:
    """Note the proof; tell whether the endpoint still is where the proof came from."""
    async with call.parts.database.write(row.org_id) as tx:
        now_is = await endpoints.get(tx, row.id, lock="change")
        if now_is is None or (now_is.url, now_is.challenge) != (row.url, row.challenge):
            return False
        if rate and not 0 < now_is.rate_per_second <= rate:
            await endpoints.change(tx, row.id, {"rate_per_second": rate})
        await endpoints.verify(tx, [(row.org_id, row.id, row.challenge)])
        summary = "verify endpoint: it gave its proof"
        await audit_trail.note(tx, call, method="WebhookService.VerifyEndpoint", subject_id=row.id, summary=summary)
    return True


async def _get(call: Call, endpoint_id: str) -> Row[Any]:
    async with call.parts.database.read(call.caller.org_id) as tx:
        row = await endpoints.get(tx, endpoint_id)
    if row is None:
        raise NotFound(kind="endpoint", id=endpoint_id)
    return row
