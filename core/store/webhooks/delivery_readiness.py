"""For which endpoints something is due, and which of them may get it: what every claim asks first.

The index of what is pending is read from endpoint to endpoint, each a single step however long its backlog is, so
that endpoints for which nothing waits cost nothing. `core/domain/webhooks/gates.py` says the same rules one by one.
"""

from __future__ import annotations

from datetime import timedelta

from core.domain.frozen import frozen
from core.domain.webhooks import breaker, throttle
from core.domain.webhooks.breaker import OPENS_AFTER
from core.domain.webhooks.states import Verification
from core.store.metadata import from_micros, to_micros
from core.store.transaction import Transaction
from core.store.webhooks.delivery_turns import Ready
from core.store.webhooks.outbox import EndpointKey

SOON = timedelta(seconds=1)
"""Endpoints whose rate is used up for no longer than this are looked at again as soon as it is not."""

_GATE_OPEN = (
    "(e.gate_until IS NULL OR e.gate_until <= $1 OR e.gate_reason = '' "
    "OR (e.gate_reason = 'unverified' AND e.verification <> 'unverified') "
    f"OR (e.gate_reason = 'breaker' AND e.failures < {OPENS_AFTER}))"
)
_RATE_OPEN_SOON = (
    f"((e.rate_per_second = 0 AND e.pace >= {throttle.FULL_PACE}) OR e.rate_until IS NULL OR e.rate_until <= $3)"
)
_MAY = f"w.due_at <= $1 AND e.state = 'active' AND e.kind = 'push' AND {_GATE_OPEN} AND {_RATE_OPEN_SOON}"

_FIRST = (
    "SELECT org_id, endpoint_id, lane, due_at FROM deliveries WHERE state = 'pending' AND day >= $2 "
    "ORDER BY org_id, endpoint_id, lane, due_at LIMIT 1"
)
_NEVER = 2**63 - 1
_BEHIND = (
    "FROM deliveries n WHERE n.state = 'pending' AND n.day >= $2 "
    "AND (n.org_id, n.endpoint_id, n.lane, n.due_at) > ({here}) "
    "ORDER BY n.org_id, n.endpoint_id, n.lane, n.due_at LIMIT 1"
)
_NEXT = {
    "postgresql": "CROSS JOIN LATERAL (SELECT n.org_id, n.endpoint_id, n.lane, n.due_at "
    + _BEHIND.format(here=f"w.org_id, w.endpoint_id, w.lane, {_NEVER}")
    + ") d",
    # The `+` takes the columns' own types away: two typed sides SQLite would not look up in an index.
    "sqlite": "JOIN deliveries d ON d.rowid = (SELECT n.rowid "
    + _BEHIND.format(here=f"+w.org_id, +w.endpoint_id, +w.lane, {_NEVER}")
    + ")",
}
_ENDPOINT = {
    "postgresql": (  # one by one: else every endpoint that there is may be read
        "LATERAL (SELECT * FROM endpoints WHERE org_id = w.org_id AND id = w.endpoint_id LIMIT 1) e ON true"
    ),
    "sqlite": "endpoints e ON e.org_id = w.org_id AND e.id = w.endpoint_id",
}
_READY = {
    dialect: (
        "WITH RECURSIVE waiting(org_id, endpoint_id, lane, due_at) AS ("  # noqa: S608 -- the texts above
        f"SELECT * FROM ({_FIRST}) f UNION ALL SELECT d.org_id, d.endpoint_id, d.lane, d.due_at FROM waiting w {step}) "
        "SELECT w.org_id, w.endpoint_id, w.lane, e.id IS NULL, e.failing_since IS NOT NULL, e.failures, "
        "e.rate_per_second, e.pace, e.rate_until, e.max_in_flight, e.ordering, e.verification "
        f"FROM waiting w LEFT JOIN {_ENDPOINT[dialect]} "
        f"WHERE e.id IS NULL OR ({_MAY}) ORDER BY w.org_id, w.endpoint_id, w.lane"
    )
    for dialect, step in _NEXT.items()
}


@frozen
class Readiness:
    """What there is to hand over."""

    ready: tuple[Ready, ...]
    """Endpoints whose gate is open and for whom something is due, also those whose rate allows it soon."""
    gone: tuple[EndpointKey, ...]
    """Endpoints that are deleted, and for which something waits still."""


async def look(tx: Transaction, since_day: int = 0) -> Readiness:
    """Return what there is to hand over, in a system transaction; `since_day` leaves older partitions alone."""
    now = to_micros(tx.now)
    found: dict[EndpointKey, Ready] = {}
    gone: dict[EndpointKey, None] = {}
    for row in await tx.fetch(_READY[tx.dialect], now, since_day, to_micros(tx.now + SOON)):
        org, endpoint, lane, missing, failing, failures, rate, pace, rate_until, most, ordering, verification = row
        key = (org, endpoint)
        if missing:
            gone[key] = None
            continue
        if key not in found:
            limits_rate = throttle.effective_rate(rate, pace) > 0
            single = breaker.is_open(failures) or verification == Verification.UNVERIFIED
            found[key] = Ready(
                key=key,
                failing=bool(failing),
                limited=bool(limits_rate or most or single),
                max_in_flight=1 if single else most,
                rate_until=from_micros(rate_until) if limits_rate and rate_until is not None else None,
                ordering=ordering,
            )
        found[key].lanes.append(lane)
    return Readiness(tuple(found.values()), tuple(gone))
