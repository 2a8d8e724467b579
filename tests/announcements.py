"""What an organization tells its endpoints, read from the rows that a delivery would send."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select

from core.store.database import Database
from core.store.webhooks import deliveries, endpoints


async def listen(database: Database, org_id: str) -> None:
    """Give an organization an endpoint for every type of event."""
    async with database.write(org_id) as tx:
        await endpoints.create(
            tx,
            "ep_1",
            url="https://example.com/",
            description="",
            event_types=[],
            retry_preset="standard",
            secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        )


async def announced(database: Database, org_id: str) -> list[dict[str, Any]]:
    """Return the body of every message, oldest first."""
    async with database.read(org_id) as tx:
        rows = await tx.all(select(deliveries.messages.c.payload).order_by(deliveries.messages.c.id))
    return [json.loads(row.payload) for row in rows]
