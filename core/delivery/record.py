"""Writing down what became of attempts, with everything that follows, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from core import ids
from core.domain.effects import Emit
from core.domain.webhooks.event_types import OPERATIONAL
from core.domain.webhooks.states import DeliveryState
from core.domain.workflow.storable import storable
from core.store import deliveries, endpoints, outbox
from core.store.deliveries import Emission, FinalDelivery
from core.store.outbox import Completion
from core.store.transaction import Transaction


async def record(
    tx: Transaction,
    completions: Sequence[Completion],
    on_final: Callable[[Transaction, list[FinalDelivery]], Awaitable[None]],
) -> None:
    """Record attempts whose lease still holds, in a system transaction.

    Turns endpoints off that asked for it, notes which ones fail, emits the events about delivery itself, and hands on
    the awaited messages that are final now.
    """
    kept = await outbox.complete(tx, completions)
    if not kept:
        return
    await _note_health(tx, kept)
    await deliveries.emit(tx, [*await _disabled(tx, kept), *_exhausted(tx, kept)])
    finals = await _finals(tx, kept)
    if finals:
        await on_final(tx, finals)


async def _note_health(tx: Transaction, kept: Sequence[Completion]) -> None:
    answered = {_endpoint(c): c.delivery.failing for c in kept if c.ruling.delivered}
    failed = {_endpoint(c): c.delivery.failing for c in kept if not c.ruling.delivered}
    await endpoints.note_health(
        tx,
        answering=(key for key, was_failing in answered.items() if was_failing),
        failing=(key for key, was_failing in failed.items() if not was_failing and key not in answered),
    )


async def _disabled(tx: Transaction, kept: Sequence[Completion]) -> list[Emission]:
    asking = {_endpoint(c): c for c in kept if c.ruling.disable_reason}
    emissions = []
    for (org, endpoint_id), completion in sorted(asking.items()):
        reason = completion.ruling.disable_reason
        url = await endpoints.disable(tx, org, endpoint_id, reason)
        if url is None:
            continue
        data = {"endpoint_id": endpoint_id, "reason": reason, "url": url, "delivery_id": completion.delivery.id}
        emissions.append(_about(tx, completion, "endpoint.disabled", data))
    return emissions


def _exhausted(tx: Transaction, kept: Sequence[Completion]) -> list[Emission]:
    emissions = []
    for completion in kept:
        delivery = completion.delivery
        out_of_attempts = completion.state is DeliveryState.FAILED and completion.ruling.retry
        if not out_of_attempts or delivery.event_type in OPERATIONAL:
            continue
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
        emissions.append(_about(tx, completion, "message.attempt.exhausted", data))
    return emissions


def _about(tx: Transaction, completion: Completion, event_type: str, data: Mapping[str, object]) -> Emission:
    effect = Emit(ids.mint("msg", tx.now), event_type, data)
    return Emission(completion.delivery.org_id, effect, except_endpoint_id=completion.delivery.endpoint_id)


async def _finals(tx: Transaction, kept: Sequence[Completion]) -> list[FinalDelivery]:
    ended, codes, answers = {}, {}, {}
    for completion in kept:
        delivery = completion.delivery
        if delivery.awaited and completion.state is not DeliveryState.PENDING:
            key = (delivery.org_id, delivery.message_id)
            ended[key] = delivery.enrollment_id
            if key not in codes or not completion.ruling.delivered:
                codes[key] = completion.status_code
            if completion.ruling.delivered:
                answers[key] = _json(completion.response)
    return await deliveries.finals(tx, ended, codes, answers)


def _json(text: str) -> Any:
    """Return what a receiver answered, where it was JSON; an answer cut off at its limit is none."""
    try:
        return storable(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _endpoint(completion: Completion) -> outbox.EndpointKey:
    return (completion.delivery.org_id, completion.delivery.endpoint_id)
