"""What a disabled endpoint is tried with: one signed `endpoint.test` message that no delivery is behind."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Row

from core import ids
from core.domain.webhooks import bodies
from core.store.webhooks.outbox import FIRST, ClaimedDelivery

_TYPE = "endpoint.test"
_NOTE = "This endpoint is disabled because it kept failing. A 2xx answer to this message enables it."


def probe(row: Row[Any], now: datetime) -> ClaimedDelivery:
    """Return the message that tells whether an endpoint answers again."""
    message_id = ids.mint("msg", now)
    return ClaimedDelivery(
        org_id=row.org_id,
        id=message_id,
        day=0,
        message_id=message_id,
        endpoint_id=row.id,
        event_type=_TYPE,
        enrollment_id="",
        awaited=False,
        attempt_count=0,
        attempts_before=0,
        payload=bodies.standard(_TYPE, now, {"endpoint_id": row.id, "note": _NOTE}),
        url=row.url,
        lease_token="",
        receiver=row,
        lane=FIRST,
        sequence=0,
        place=0,
        contact_id="",
        created_at=now,
        probe=True,
    )
