"""Writing down what became of attempts, with everything that follows, in one transaction."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Row

from core.delivery import echoes, endpoint_news
from core.domain.webhooks import disabling
from core.domain.webhooks.health import Attempted, after
from core.domain.webhooks.states import DeliveryState, EndpointKind, EndpointState
from core.domain.workflow.storable import storable
from core.store.control import audit
from core.store.transaction import Transaction
from core.store.webhooks import deliveries, delivery_order, endpoint_health, endpoint_rows, outbox
from core.store.webhooks.deliveries import Emission, FinalDelivery
from core.store.webhooks.outbox import Completion, EndpointKey

OnFinal = Callable[[Transaction, list[FinalDelivery]], Awaitable[None]]
"""Told, in the transaction that records it, which awaited messages got their final outcome."""

Ended = dict[tuple[str, str], str]
"""Messages of which an awaited delivery is final, (organization, id) to enrollment."""


async def record(tx: Transaction, completions: Sequence[Completion], on_final: OnFinal) -> None:
    """Record attempts whose lease still holds, in a system transaction.

    Notes how their endpoints are, turns off those that asked for it or kept failing, turns on those that answered a
    probe, emits the events about all of that, and hands on the awaited messages that are final now. A consumer that
    fetches says what it could not take; that tells nothing of a receiver's health, and turns nothing off.
    """
    pushed = [one for one in completions if one.delivery.receiver.kind != EndpointKind.PULL]
    concerned = {one.delivery.endpoint_key for one in pushed if _concerns(one)}
    well = {one.delivery.endpoint_key for one in pushed} - concerned
    rows = await endpoint_health.held(tx, concerned | await endpoint_rows.sensitive(tx, well))
    emissions = [one for probe in completions if probe.delivery.probe for one in await _probed(tx, probe, rows)]
    kept = await outbox.complete(tx, [_settled(one, rows) for one in completions if not one.delivery.probe])
    if kept:
        await delivery_order.let_the_next_go(
            tx, [one.delivery for one in kept if one.state is not DeliveryState.PENDING]
        )
        told, ended = await _follow(tx, kept, rows)
        await echoes.note(tx, kept)
        emissions += [*told, *_exhausted(tx, kept)]
        await deliveries.emit(tx, emissions)
        await _tell(tx, kept, ended, on_final)
    elif emissions:
        await deliveries.emit(tx, emissions)


async def skip_waiting(tx: Transaction, key: EndpointKey, on_final: OnFinal) -> int:
    """Skip what still waits for a disabled endpoint, in a system transaction; return how many deliveries."""
    row = (await endpoint_health.held(tx, [key])).get(key)
    if row is None or row.state != EndpointState.DISABLED:
        return 0
    count, ended = await endpoint_health.skip(tx, key)
    if finals := await deliveries.finals(tx, ended, {}):
        await on_final(tx, finals)
    return count


async def drop_waiting(tx: Transaction, key: EndpointKey, on_final: OnFinal) -> int:
    """Drop a slice of what waits for an endpoint that is gone, in a system transaction; return how many deliveries."""
    count, ended = await endpoint_health.drop(tx, key)
    if finals := await deliveries.finals(tx, ended, {}):
        await on_final(tx, finals)
    return count


def _concerns(completion: Completion) -> bool:
    """Tell whether an attempt changes its endpoint's row, however that is now."""
    return not completion.ruling.delivered or bool(completion.ruling.disable_reason) or completion.delivery.probe


def _settled(completion: Completion, rows: Mapping[EndpointKey, Row[Any]]) -> Completion:
    """Return a completion as its endpoint now is: what would be tried again is skipped where that is disabled."""
    row = rows.get(completion.delivery.endpoint_key)
    if completion.state is not DeliveryState.PENDING or row is None or row.state != EndpointState.DISABLED:
        return completion
    return replace(completion, state=DeliveryState.SKIPPED, due_at=None)


async def _probed(tx: Transaction, probe: Completion, rows: Mapping[EndpointKey, Row[Any]]) -> list[Emission]:
    """Enable an endpoint that answered its probe."""
    key = probe.delivery.endpoint_key
    row = rows.get(key)
    if row is None or row.state != EndpointState.DISABLED:
        return []  # it is gone, or somebody has enabled it meanwhile
    if probe.ruling.disable_reason:
        await endpoint_health.probe_no_more(tx, key, probe.ruling.disable_reason)
        return []
    if not probe.ruling.delivered:
        return []
    await endpoint_health.enable(tx, key)
    summary = "enabled an endpoint that answers again"
    await audit.by_system(tx, key[0], "EnableEndpoint", subject_id=key[1], summary=summary)
    return [endpoint_news.enabled(tx, row)]


async def _follow(
    tx: Transaction, kept: Sequence[Completion], rows: Mapping[EndpointKey, Row[Any]]
) -> tuple[list[Emission], Ended]:
    """Note how endpoints are after these attempts, and turn off those that are to be."""
    of_endpoint: dict[EndpointKey, list[Completion]] = defaultdict(list)
    for one in sorted(kept, key=lambda one: one.started_at + one.duration):
        of_endpoint[one.delivery.endpoint_key].append(one)
    emissions: list[Emission] = []
    ended: Ended = {}
    for key, row in rows.items():
        attempts = of_endpoint.get(key)
        if not attempts or row.state == EndpointState.DISABLED:
            continue
        before = endpoint_health.health_of(row)
        now = after(before, [_attempted(one) for one in attempts], tx.now)
        percent = disabling.progress_percent(now.failing_since, now.failures, tx.now)
        warning = disabling.warning(percent, now.warned_percent)
        now = replace(now, warned_percent=warning or now.warned_percent)
        if now != before:
            await endpoint_health.note(tx, key, now)
        asked = next((one.ruling.disable_reason for one in attempts if one.ruling.disable_reason), "")
        if reason := asked or (disabling.REASON_FAILING if percent >= 100 else ""):
            await endpoint_health.disable(tx, key, reason)
            skipped, awaited = await endpoint_health.skip(tx, key)
            ended |= awaited
            emissions.append(endpoint_news.disabled(tx, attempts[-1], now, reason, skipped))
        elif warning:
            emissions.append(endpoint_news.failing(tx, attempts[-1], now, percent))
        elif endpoint_news.has_recovered(before, now):
            emissions.append(endpoint_news.recovered(tx, attempts[-1], before))
    return emissions, ended


def _attempted(completion: Completion) -> Attempted:
    return Attempted(
        delivered=completion.ruling.delivered,
        status_code=completion.status_code,
        retry_after=completion.retry_after,
        our_fault=completion.our_fault,
    )


def _exhausted(tx: Transaction, kept: Sequence[Completion]) -> list[Emission]:
    return [
        endpoint_news.exhausted(tx, one)
        for one in kept
        if one.state is DeliveryState.FAILED and one.ruling.retry and not endpoint_news.is_news(one.delivery)
    ]


async def _tell(tx: Transaction, kept: Sequence[Completion], skipped: Ended, on_final: OnFinal) -> None:
    """Tell which awaited messages are final."""
    ended, codes, answers = dict(skipped), dict[tuple[str, str], int](), dict[tuple[str, str], Any]()
    for completion in kept:
        delivery = completion.delivery
        if delivery.awaited and completion.state is not DeliveryState.PENDING:
            key = (delivery.org_id, delivery.message_id)
            ended[key] = delivery.enrollment_id
            if key not in codes or not completion.ruling.delivered:
                codes[key] = completion.status_code
            if completion.ruling.delivered:
                answers[key] = _json(completion.response)
    if finals := await deliveries.finals(tx, ended, codes, answers):
        await on_final(tx, finals)


def _json(text: str) -> Any:
    """Return what a receiver answered, where it was JSON; an answer cut off at its limit is none."""
    try:
        return storable(json.loads(text))
    except (ValueError, RecursionError):
        return None
