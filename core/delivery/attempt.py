"""One attempt: sign the stored bytes, send them, and decide what follows."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Row

from core import ids
from core.delivery.authenticated import send_as
from core.delivery.http import WebhookSender
from core.delivery.send_result import SendResult
from core.domain.errors import MasterKeyMissing
from core.domain.webhooks import classify, receivers, retry
from core.domain.webhooks.classify import Outcome
from core.domain.webhooks.receivers import Outgoing, Receiver
from core.domain.webhooks.retry import Preset
from core.domain.webhooks.states import DeliveryState
from core.store.systems.vault import UNSEALED, Vault
from core.store.webhooks import endpoints
from core.store.webhooks.outbox import ClaimedDelivery, Completion, EndpointKey

BROKE = "the attempt broke off for a reason of the sender's own"

_MOST_KNOWN = 1024
_log = structlog.get_logger()


async def send_signed(sender: WebhookSender, receiver: Receiver, outgoing: Outgoing, now: datetime) -> SendResult:
    """Send a stored payload, signed for this instant with every valid key, as its receiver wants it authenticated."""
    headers = receivers.headers(receiver, outgoing, now)
    owner = (receiver.org_id, receiver.id)
    return await send_as(sender, owner, receiver.auth, receiver.url, headers, outgoing.payload.encode(), now)


@dataclass(slots=True)
class Attempts:
    """Sends deliveries as their endpoints want them; what a row says is read once for as long as it says the same."""

    sender: WebhookSender
    vault: Vault = UNSEALED
    _known: dict[EndpointKey, tuple[Row[Any], Receiver]] = field(default_factory=dict)

    async def send(self, delivery: ClaimedDelivery, now: datetime) -> SendResult:
        """Send a delivery; raises nothing but cancellation.

        What breaks here is an attempt like any other: else its lease would run out and the same be tried for ever.
        """
        outgoing = Outgoing(delivery.message_id, delivery.payload, delivery.sequence)
        try:
            return await send_signed(self.sender, self._receiver(delivery), outgoing, now)
        except MasterKeyMissing as missing:
            _log.error("secrets of an endpoint cannot be opened", endpoint=delivery.endpoint_id)
            return SendResult(classify.of_failure(Outcome.KEY_MISSING), timedelta(), error=missing.message)
        except Exception:
            _log.exception("an attempt broke", delivery=delivery.id, endpoint=delivery.endpoint_id)
            return SendResult(classify.of_failure(Outcome.BAD_RESPONSE), timedelta(), error=BROKE)

    def _receiver(self, delivery: ClaimedDelivery) -> Receiver:
        row = delivery.receiver
        known = self._known.get(delivery.endpoint_key)
        if known is not None and (known[0] is row or known[0] == row):
            return known[1]
        if len(self._known) >= _MOST_KNOWN:
            self._known.clear()
        receiver = endpoints.receiver(row, self.vault)
        self._known[delivery.endpoint_key] = (row, receiver)
        return receiver


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
