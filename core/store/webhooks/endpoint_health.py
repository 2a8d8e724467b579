"""What attempts leave behind in an endpoint's row, and turning endpoints off and on again; all in system transactions.

Endpoints are locked before deliveries, here and wherever both are changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, and_, exists, literal_column, or_, select, update

from core.domain.webhooks import disabling
from core.domain.webhooks.classify import Outcome
from core.domain.webhooks.health import Health
from core.domain.webhooks.states import DeliveryState, EndpointKind, EndpointState
from core.store.control import audit
from core.store.keys import these
from core.store.transaction import Transaction
from core.store.webhooks import delivery_numbers
from core.store.webhooks.deliveries import deliveries
from core.store.webhooks.endpoints import endpoints
from core.store.webhooks.outbox import EndpointKey, named

ENDED_AT_ONCE = 500
"""Deliveries of an endpoint that is disabled or gone that one transaction ends; the rest follows."""

PROBES_AT_ONCE = 8

_PENDING = deliveries.c.state == literal_column("'pending'")  # as in the partial index

HEALTHY: Mapping[str, Any] = {
    **asdict(Health()),
    "rate_until": None,
    "probe_at": None,
    "probes": 0,
}
"""Columns of an endpoint that begins anew."""

ENABLED: Mapping[str, Any] = {"state": EndpointState.ACTIVE, "disabled_reason": "", **HEALTHY}
"""Columns of an endpoint that is enabled, by somebody or by itself."""


def health_of(row: Row[Any]) -> Health:
    """Return how an endpoint is, from its row."""
    return Health(
        failing_since=row.failing_since,
        failures=row.failures,
        warned_percent=row.warned_percent,
        gate_until=row.gate_until,
        gate_reason=row.gate_reason,
        pace=row.pace,
    )


async def held(tx: Transaction, keys: Iterable[EndpointKey]) -> dict[EndpointKey, Row[Any]]:
    """Return rows of endpoints, held in order until the transaction ends; who writes events does not wait for it."""
    wanted = set(keys)
    if not wanted:
        return {}
    rows = await tx.all(
        select(endpoints)
        .where(these(endpoints, wanted))
        .order_by(endpoints.c.org_id, endpoints.c.id)
        .with_for_update(key_share=True)
    )
    return {(row.org_id, row.id): row for row in rows}


async def note(tx: Transaction, key: EndpointKey, health: Health) -> None:
    """Write down how an endpoint is."""
    await _change(tx, key, asdict(health))


async def disable(tx: Transaction, key: EndpointKey, reason: str) -> None:
    """Turn an endpoint off; one that only kept failing is tried by itself later."""
    probed = reason == disabling.REASON_FAILING
    values = {
        "state": EndpointState.DISABLED,
        "disabled_reason": reason,
        "probe_at": tx.now + disabling.probe_interval(0) if probed else None,
        "probes": 0,
        "rev": endpoints.c.rev + 1,
        "updated_at": tx.now,
    }
    await _change(tx, key, values)
    summary = "disabled an endpoint that deliveries fail to reach, or that says it is gone"
    await audit.by_system(tx, key[0], "DisableEndpoint", subject_id=key[1], summary=summary, reason=reason)


async def enable(tx: Transaction, key: EndpointKey) -> None:
    """Turn an endpoint on again, as if it had never failed."""
    await _change(tx, key, {**ENABLED, "rev": endpoints.c.rev + 1, "updated_at": tx.now})
    tx.wake("dispatcher")


async def probe_no_more(tx: Transaction, key: EndpointKey, reason: str) -> None:
    """Leave a disabled endpoint alone: it has said so."""
    await _change(tx, key, {"disabled_reason": reason, "probe_at": None})


async def _change(tx: Transaction, key: EndpointKey, values: Mapping[str, Any]) -> None:
    await tx.run(update(endpoints).where(endpoints.c.org_id == key[0], endpoints.c.id == key[1]).values(values))


Ended = dict[tuple[str, str], str]
"""Awaited messages of which a delivery is final, (organization, message) to enrollment."""


async def skip(tx: Transaction, key: EndpointKey) -> tuple[int, Ended]:
    """End what waits for a disabled endpoint, at most `ENDED_AT_ONCE`; what is under way ends by itself.

    Returns how many, and the awaited ones.
    """
    return await _end(tx, key, _waiting(tx), DeliveryState.SKIPPED, Outcome.ENDPOINT_DISABLED)


async def drop(tx: Transaction, key: EndpointKey) -> tuple[int, Ended]:
    """End what waits for an endpoint that is gone, at most `ENDED_AT_ONCE`, and count no more for it.

    An attempt under way is not recorded any more: its lease is gone. Returns how many, and the awaited ones.
    """
    count, ended = await _end(tx, key, (_PENDING,), DeliveryState.DROPPED, Outcome.ENDPOINT_DELETED)
    await delivery_numbers.forget(tx, *key)
    return count, ended


async def _end(
    tx: Transaction, key: EndpointKey, which: tuple[Any, ...], state: DeliveryState, outcome: Outcome
) -> tuple[int, Ended]:
    """End some of an endpoint's deliveries; those that somebody holds, such as to record them, are left for later."""
    org, endpoint_id = key
    columns = [deliveries.c[name] for name in ("org_id", "id", "day", "message_id", "enrollment_id", "awaited")]
    waiting = await tx.all(
        select(*columns)
        .where(deliveries.c.org_id == org, deliveries.c.endpoint_id == endpoint_id, *which)
        .order_by(deliveries.c.lane, deliveries.c.due_at, deliveries.c.place)  # as in the index of what is pending
        .limit(ENDED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    if waiting:
        values = {
            "state": state,
            "due_at": None,
            "lease_until": None,
            "lease_token": None,
            "last_outcome": outcome,
            "ended_at": tx.now,
        }
        here = named(tx, deliveries, [(row.org_id, row.id, row.day) for row in waiting])
        await tx.run(update(deliveries).where(*here).values(values))
    return len(waiting), {(org, row.message_id): row.enrollment_id for row in waiting if row.awaited}


def _waiting(tx: Transaction) -> tuple[Any, ...]:
    free = or_(deliveries.c.lease_token.is_(None), deliveries.c.lease_until <= tx.now)
    return (_PENDING, free)


async def still_waited_for(tx: Transaction) -> Sequence[EndpointKey]:
    """Return disabled endpoints for which something waits that has to be skipped."""
    rows = await tx.all(
        select(endpoints.c.org_id, endpoints.c.id)
        .where(
            endpoints.c.state == EndpointState.DISABLED,
            exists().where(
                and_(deliveries.c.org_id == endpoints.c.org_id, deliveries.c.endpoint_id == endpoints.c.id),
                *_waiting(tx),
            ),
        )
        .order_by(endpoints.c.org_id, endpoints.c.id)
    )
    return [(row.org_id, row.id) for row in rows]


async def to_probe(tx: Transaction) -> Sequence[Row[Any]]:
    """Return disabled endpoints that are to be tried now; when they are tried next is written down already."""
    rows = await tx.all(
        select(endpoints)
        .where(
            endpoints.c.state == EndpointState.DISABLED,
            endpoints.c.kind == EndpointKind.PUSH,
            endpoints.c.probe_at <= tx.now,
        )
        .order_by(endpoints.c.org_id, endpoints.c.id)
        .limit(PROBES_AT_ONCE)
        .with_for_update(key_share=True, skip_locked=True)
    )
    for row in rows:
        wait: timedelta = disabling.probe_interval(row.probes + 1)
        await _change(tx, (row.org_id, row.id), {"probe_at": tx.now + wait, "probes": row.probes + 1})
    return rows
