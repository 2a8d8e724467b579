"""One attempt: sign the stored bytes, send them, and decide what follows."""

from __future__ import annotations

from datetime import datetime

from core import ids
from core.delivery.http import SendResult, WebhookSender
from core.domain.webhooks import retry, signing
from core.domain.webhooks.states import DeliveryState
from core.store.outbox import ClaimedDelivery, Completion


async def send_signed(
    sender: WebhookSender, url: str, keys: tuple[signing.SigningKey, ...], message_id: str, payload: str, now: datetime
) -> SendResult:
    """Send a stored payload, signed for this instant with every valid key."""
    body = payload.encode()
    headers = signing.headers(signing.valid_secrets(keys, now), message_id, now, body)
    return await sender.send(url, {"content-type": "application/json", **headers}, body)


def completion(delivery: ClaimedDelivery, started_at: datetime, result: SendResult, now: datetime) -> Completion:
    """Return what an attempt leads to: delivered, failed for good, or due again."""
    due_at = None
    if result.ruling.retry:
        made = delivery.attempt_count + 1 - delivery.attempts_before
        asked = retry.parse_retry_after(result.retry_after, now)
        due_at = retry.next_attempt(delivery.retry_preset, made, now, ids.jitter(), asked)
    return Completion(
        delivery=delivery,
        started_at=started_at,
        duration=result.duration,
        ruling=result.ruling,
        status_code=result.status_code,
        response=result.response_text,
        error=result.error,
        state=_state(result, due_at),
        due_at=due_at,
    )


def _state(result: SendResult, due_at: datetime | None) -> DeliveryState:
    if due_at is not None:
        return DeliveryState.PENDING
    return DeliveryState.DELIVERED if result.ruling.delivered else DeliveryState.FAILED
