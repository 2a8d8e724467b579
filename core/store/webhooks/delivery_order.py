"""Strict order by contact: the end of one message lets the next about the same contact go."""

from __future__ import annotations

from collections.abc import Iterable

from core.domain.webhooks.states import Ordering
from core.store.metadata import to_micros
from core.store.transaction import Transaction
from core.store.webhooks.outbox import ClaimedDelivery

_NEXT = (
    "UPDATE deliveries SET due_at = $5 WHERE org_id = $1 AND endpoint_id = $2 AND (id, day) IN ("
    "SELECT n.id, n.day FROM deliveries n WHERE n.org_id = $1 AND n.endpoint_id = $2 AND n.contact_id = $3 "
    "AND n.state = 'pending' AND n.contact_id <> '' AND n.place > $4 ORDER BY n.place LIMIT 1) "
    "AND state = 'pending' AND lease_token IS NULL AND attempt_count = attempts_before AND due_at > $5 RETURNING id"
)


async def let_the_next_go(tx: Transaction, final: Iterable[ClaimedDelivery]) -> None:
    """Make due, in a system transaction, what was set aside behind these; each has got its final outcome."""
    for one in final:
        if one.contact_id and one.receiver.ordering == Ordering.BY_CONTACT:
            values = (one.org_id, one.endpoint_id, one.contact_id, one.place, to_micros(tx.now))
            if await tx.fetch(_NEXT, *values):
                tx.wake("dispatcher")
