"""One attempt: sign the stored bytes, send them, and decide what follows."""

from __future__ import annotations

from datetime import datetime

from core import ids
from core.delivery.authenticated import send_as
from core.delivery.http import WebhookSender
from core.delivery.send_result import SendResult
from core.domain.webhooks import receivers, retry
from core.domain.webhooks.receivers import Outgoing, Receiver
from core.domain.webhooks.retry import Preset
from core.domain.webhooks.states import DeliveryState
from core.store import endpoints
from core.store.outbox import ClaimedDelivery, Completion


async def send_signed(sender: WebhookSender, receiver: Receiver, outgoing: Outgoing, now: datetime) -> SendResult:
    """Send a stored payload, signed for this instant with every valid key, as its receiver wants it authenticated."""
    headers = receivers.headers(receiver, outgoing, now)
    owner = (receiver.org_id, receiver.id)
    return await send_as(sender, owner, receiver.auth, receiver.url, headers, outgoing.payload.encode(), now)


async def send_delivery(sender: WebhookSender, delivery: ClaimedDelivery, now: datetime) -> SendResult:
    """Send a delivery as its endpoint wants it."""
    outgoing = Outgoing(delivery.message_id, delivery.payload, delivery.sequence)
    return await send_signed(sender, endpoints.receiver(delivery.receiver), outgoing, now)


def completion(delivery: ClaimedDelivery, started_at: datetime, result: SendResult, now: datetime) -> Completion:
    """Return what an attempt leads to: delivered, failed for good, or due again."""
    due_at = None
    asked = retry.parse_retry_after(result.retry_after, now)
    if result.ruling.retry:
        made = delivery.attempt_count + 1 - delivery.attempts_before
        preset, own = Preset(delivery.receiver.retry_preset), endpoints.retry_delays(delivery.receiver)
        due_at = retry.next_attempt(preset, made, now, ids.jitter(), asked, own=own)
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
        retry_after=asked,
    )


def _state(result: SendResult, due_at: datetime | None) -> DeliveryState:
    if due_at is not None:
        return DeliveryState.PENDING
    return DeliveryState.DELIVERED if result.ruling.delivered else DeliveryState.FAILED
