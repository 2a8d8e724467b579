"""How an endpoint is: its attempts change its breaker, its pace, its gate and how near it is to being disabled."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

from core.domain.frozen import frozen
from core.domain.webhooks import breaker, throttle
from core.domain.webhooks.gates import GateReason


@frozen
class Health:
    """What is remembered of an endpoint's attempts: columns of its row."""

    failing_since: datetime | None = None
    failures: int = 0
    warned_percent: int = 0
    gate_until: datetime | None = None
    gate_reason: str = GateReason.NONE
    pace: float = throttle.FULL_PACE


@frozen
class Attempted:
    """What one attempt says about the endpoint."""

    delivered: bool
    status_code: int = 0
    retry_after: timedelta | None = None
    our_fault: timedelta | None = None
    """It was no fault of the receiver; how long to wait. None where it was, or where nothing failed."""


def after(health: Health, attempts: Iterable[Attempted], now: datetime) -> Health:
    """Return how an endpoint is after attempts, oldest first. However many of them throttle, the pace halves once."""
    throttled = False
    for attempt in attempts:
        if attempt.our_fault is not None:
            health = _gated(health, now + attempt.our_fault, GateReason.OUR_FAULT)
        elif attempt.delivered:
            health = _answered(health)
        else:
            throttled = throttled or attempt.status_code in throttle.THROTTLING
            health = _failed(health, attempt, now)
    return replace(health, pace=throttle.slowed(health.pace)) if throttled else health


def _answered(health: Health) -> Health:
    shut_by_breaker = health.gate_reason == GateReason.BREAKER
    return Health(
        gate_until=None if shut_by_breaker else health.gate_until,
        gate_reason=GateReason.NONE if shut_by_breaker else health.gate_reason,
        pace=throttle.recovered(health.pace),
    )


def _failed(health: Health, attempt: Attempted, now: datetime) -> Health:
    health = replace(health, failing_since=health.failing_since or now, failures=health.failures + 1)
    wait = breaker.interval(health.failures)
    if wait is not None:
        if health.gate_reason == GateReason.BREAKER:  # of the attempt that has ended now
            health = replace(health, gate_until=None, gate_reason=GateReason.NONE)
        health = _gated(health, now + wait, GateReason.BREAKER)
    if attempt.retry_after:
        health = _gated(health, now + attempt.retry_after, GateReason.RETRY_AFTER)
    return health


def _gated(health: Health, until: datetime, reason: GateReason) -> Health:
    """Shut the gate until then; one that is shut for longer stays as it is."""
    if health.gate_until is not None and health.gate_until >= until:
        return health
    return replace(health, gate_until=until, gate_reason=reason)
