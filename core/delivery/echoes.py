"""The proof that comes with a delivery: an endpoint that is not verified answers with the challenge it was sent."""

from __future__ import annotations

from collections.abc import Sequence

from core.domain.webhooks import receivers
from core.domain.webhooks.states import Verification
from core.store.transaction import Transaction
from core.store.webhooks import endpoints
from core.store.webhooks.outbox import Completion


async def note(tx: Transaction, kept: Sequence[Completion]) -> None:
    """Verify, in the transaction that records these attempts, the endpoints whose 2xx answer has their challenge."""
    proven = {
        (one.delivery.org_id, one.delivery.endpoint_id, one.delivery.receiver.challenge)
        for one in kept
        if one.ruling.delivered and one.delivery.receiver.verification == Verification.UNVERIFIED
        if receivers.contains(one.response, one.delivery.receiver.challenge)
    }
    await endpoints.verify(tx, sorted(proven))
