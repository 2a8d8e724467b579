"""Handlers of WebhookService for deliveries: what was sent, what came of it, and sending it again."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row, select

from core.domain.errors import DeliveryUnderWay, EndpointDeleted, EndpointNotActive, NotFound, PayloadNotKept
from core.domain.webhooks.states import DeliveryState, EndpointState
from core.rpc.call import Call
from core.rpc.changes import etag_of, expect
from core.rpc.convert import to_duration, to_timestamp
from core.rpc.listing import listed
from core.store.webhooks import deliveries, endpoints
from dripstone.v1 import webhook_pb2 as pb

_STATES = {state: pb.DeliveryState.Value(f"DELIVERY_STATE_{state.name}") for state in DeliveryState}
_FILTERED = {name: "string" for name in ("state", "event_type", "enrollment_id", "message_id")}


async def list_deliveries(request: pb.ListDeliveriesRequest, call: Call) -> pb.ListDeliveriesResponse:
    """Return a page of deliveries, newest first, without payloads and attempts."""
    table = deliveries.deliveries
    statement = select(table)
    if request.endpoint_id:
        statement = statement.where(table.c.endpoint_id == request.endpoint_id)
    rows, token = await listed(call.tx, request, statement, table, _FILTERED, within=request.endpoint_id)
    return pb.ListDeliveriesResponse(deliveries=[_delivery(row) for row in rows], next_page_token=token)


async def get_delivery(request: pb.GetDeliveryRequest, call: Call) -> pb.Delivery:
    """Return one delivery with its payload and every attempt."""
    row = await deliveries.get(call.tx, request.delivery_id)
    if row is None:
        raise NotFound(kind="delivery", id=request.delivery_id)
    return await whole_delivery(row, call)


async def redeliver(request: pb.RedeliverRequest, call: Call) -> pb.Delivery:
    """Make a delivery due now, under the same message id and with a fresh schedule.

    Raises NotFound, EtagMismatch, EndpointDeleted, EndpointNotActive, DeliveryUnderWay and PayloadNotKept.
    """
    named = await deliveries.get(call.tx, request.delivery_id)
    if named is None:
        raise NotFound(kind="delivery", id=request.delivery_id)
    endpoint = await endpoints.get(call.tx, named.endpoint_id, lock="use")
    if endpoint is None:
        raise EndpointDeleted(endpoint_id=named.endpoint_id, delivery_id=named.id)
    row = await deliveries.get(call.tx, request.delivery_id, lock=True)
    if row is None:
        raise NotFound(kind="delivery", id=request.delivery_id)
    if endpoint.state != EndpointState.ACTIVE:
        raise EndpointNotActive(endpoint_id=endpoint.id, state=endpoint.state)
    if row.lease_token is not None and row.lease_until > call.now:
        raise DeliveryUnderWay(delivery_id=row.id)
    expect("delivery", row.id, given=request.etag, current=_etag(row))
    if not await deliveries.is_kept(call.tx, row):
        raise PayloadNotKept(delivery_id=row.id)
    await deliveries.restart(call.tx, row)
    again = await deliveries.get(call.tx, row.id)
    assert again is not None
    return await whole_delivery(again, call)


async def whole_delivery(row: Row[Any], call: Call) -> pb.Delivery:
    """Return a delivery with its payload and every attempt."""
    message = _delivery(row)
    own = row.payload
    message.payload = own if own is not None else await deliveries.payload_of(call.tx, row.message_id)
    message.attempts.extend(_attempt(attempt) for attempt in await deliveries.attempts_of(call.tx, row.id))
    return message


def _delivery(row: Row[Any]) -> pb.Delivery:
    return pb.Delivery(
        id=row.id,
        message_id=row.message_id,
        endpoint_id=row.endpoint_id,
        event_type=row.event_type,
        state=_STATES[DeliveryState(row.state)],
        attempt_count=row.attempt_count,
        next_attempt_time=to_timestamp(deliveries.next_attempt_time(row)),
        create_time=to_timestamp(row.created_at),
        end_time=to_timestamp(row.ended_at),
        enrollment_id=row.enrollment_id,
        last_outcome=row.last_outcome,
        sequence=row.sequence,
        etag=_etag(row),
    )


def _etag(row: Row[Any]) -> str:
    """Return the version of a delivery: what its attempts and redeliveries made of it."""
    return etag_of(row.state, row.attempt_count, row.attempts_before, row.replay_id, row.ended_at)


def _attempt(row: Row[Any]) -> pb.Attempt:
    return pb.Attempt(
        number=row.number,
        start_time=to_timestamp(row.started_at),
        duration=to_duration(row.duration_us / 1_000_000),
        outcome=row.outcome,
        status_code=row.status_code,
        response=row.response,
        error=row.error,
    )
