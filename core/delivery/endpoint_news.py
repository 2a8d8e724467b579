"""The events about delivery itself: an endpoint that keeps failing, is turned off or on, or lost a message for good."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Row

from core import ids
from core.domain.effects import Emit
from core.domain.webhooks import breaker, disabling
from core.domain.webhooks.event_types import OPERATIONAL
from core.domain.webhooks.health import Health
from core.store.transaction import Transaction
from core.store.webhooks.deliveries import Emission
from core.store.webhooks.outbox import ClaimedDelivery, Completion


def is_news(delivery: ClaimedDelivery) -> bool:
    """Tell whether a delivery carries such an event itself: its own failures are not reported again."""
    return delivery.event_type in OPERATIONAL


def has_recovered(before: Health, now: Health) -> bool:
    """Tell whether an endpoint answers again whose failing somebody may have heard of, or whose breaker was open."""
    told = before.warned_percent > 0 or breaker.is_open(before.failures)
    return told and now.failing_since is None


def failing(tx: Transaction, completion: Completion, health: Health, percent: int) -> Emission:
    """Return the warning about an endpoint that comes closer to being turned off."""
    assert health.failing_since is not None
    until = disabling.disable_at(health.failing_since).isoformat()
    data = {**_of(completion, health), "progress_percent": percent, "disable_at": until}
    return _about(tx, completion.delivery.receiver, "endpoint.failing", data)


def disabled(tx: Transaction, completion: Completion, health: Health, reason: str, skipped: int) -> Emission:
    """Return the news that an endpoint was turned off, and how many deliveries were skipped in that moment."""
    data = {**_of(completion, health), "reason": reason, "skipped": skipped}
    return _about(tx, completion.delivery.receiver, "endpoint.disabled", data)


def recovered(tx: Transaction, completion: Completion, before: Health) -> Emission:
    """Return the news that a failing endpoint answers again."""
    return _about(tx, completion.delivery.receiver, "endpoint.recovered", _of(completion, before))


def enabled(tx: Transaction, row: Row[Any], reason: str = "it answered a probe") -> Emission:
    """Return the news that a disabled endpoint is sent to again."""
    return _about(tx, row, "endpoint.enabled", {"endpoint_id": row.id, "url": row.url, "reason": reason})


def exhausted(tx: Transaction, completion: Completion) -> Emission:
    """Return the news that a delivery ran out of attempts."""
    delivery = completion.delivery
    data = {
        "message_id": delivery.message_id,
        "delivery_id": delivery.id,
        "endpoint_id": delivery.endpoint_id,
        "event_type": delivery.event_type,
        "attempt_count": delivery.attempt_count + 1,
        "last_outcome": completion.ruling.outcome.value,
        "status_code": completion.status_code,
        "enrollment_id": delivery.enrollment_id,
    }
    return _about(tx, delivery.receiver, "message.attempt.exhausted", data)


def _of(completion: Completion, health: Health) -> dict[str, object]:
    delivery = completion.delivery
    data: dict[str, object] = {
        "endpoint_id": delivery.endpoint_id,
        "url": delivery.url,
        "delivery_id": delivery.id,
        "last_outcome": completion.ruling.outcome.value,
        "failures": health.failures,
    }
    if health.failing_since is not None:
        data["failing_since"] = health.failing_since.isoformat()
    return data


def _about(tx: Transaction, row: Row[Any], event_type: str, data: Mapping[str, object]) -> Emission:
    """Return an event that the endpoint it is about is not told."""
    return Emission(row.org_id, Emit(ids.mint("msg", tx.now), event_type, data), except_endpoint_id=row.id)
