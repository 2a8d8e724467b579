"""Handlers of WebhookService: endpoints, their secrets, deliveries and the catalogue of events."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal

from google.protobuf.empty_pb2 import Empty
from sqlalchemy import Row, select

from core import ids
from core.delivery.attempt import send_signed
from core.domain.errors import (
    DeliveryUnderWay,
    EndpointDeleted,
    EndpointNotActive,
    EtagMismatch,
    Invalid,
    NotFound,
    TooManyEndpoints,
    Violation,
    invalid,
)
from core.domain.nearest import did_you_mean
from core.domain.webhooks import classify, event_types, signing, urls
from core.domain.webhooks.retry import Preset
from core.domain.webhooks.states import DeliveryState, EndpointState
from core.rpc.call import Call
from core.rpc.convert import to_duration, to_struct, to_timestamp
from core.rpc.listing import listed
from core.store import deliveries, endpoints
from dripstone.v1 import webhook_pb2 as pb

MAX_ENDPOINTS = 100
"""Of one organization; every event goes to all that want it."""

MAX_OLD_KEYS = 10
LONGEST_GRACE = timedelta(days=7)
DEFAULT_GRACE = timedelta(hours=24)

_STATES = {state: pb.EndpointState.Value(f"ENDPOINT_STATE_{state.name}") for state in EndpointState}
_PRESETS = {preset: pb.RetryPreset.Value(f"RETRY_PRESET_{preset.name}") for preset in Preset}
_DELIVERY_STATES = {state: pb.DeliveryState.Value(f"DELIVERY_STATE_{state.name}") for state in DeliveryState}
_CHANGEABLE = ("url", "description", "event_types", "retry_preset", "state")
_FILTERED = {name: "string" for name in ("state", "event_type", "enrollment_id", "message_id")}


async def create_endpoint(request: pb.CreateEndpointRequest, call: Call) -> pb.CreateEndpointResponse:
    """Add a receiver; its secret is in this answer only."""
    _check_event_types(request.event_types, "event_types")
    url = urls.parse(request.url, call.parts.webhook_sender.destinations)
    if await endpoints.count(call.tx) >= MAX_ENDPOINTS:
        raise TooManyEndpoints(limit=MAX_ENDPOINTS)
    secret = _new_secret()
    row = await endpoints.create(
        call.tx,
        ids.mint("ep", call.now),
        url=url,
        description=request.description,
        event_types=list(dict.fromkeys(request.event_types)),
        retry_preset=_preset(request.retry_preset),
        secret=secret,
    )
    return pb.CreateEndpointResponse(endpoint=_endpoint(row), secret=secret)


async def get_endpoint(request: pb.GetEndpointRequest, call: Call) -> pb.Endpoint:
    """Return one endpoint."""
    return _endpoint(await _get(call, request.endpoint_id))


async def list_endpoints(request: pb.ListEndpointsRequest, call: Call) -> pb.ListEndpointsResponse:
    """Return a page of endpoints, newest first."""
    rows, token = await endpoints.listed(call.tx, request.page_size, request.page_token)
    return pb.ListEndpointsResponse(endpoints=[_endpoint(row) for row in rows], next_page_token=token)


async def update_endpoint(request: pb.UpdateEndpointRequest, call: Call) -> pb.Endpoint:
    """Change what the mask names."""
    wanted = request.endpoint
    values = _changes(wanted, _mask(request), call)
    row = await _get(call, wanted.id, lock="change")
    if wanted.etag and wanted.etag != _etag(row):
        raise EtagMismatch(kind="endpoint", id=row.id, current=_etag(row), given=wanted.etag)
    if not values:
        return _endpoint(row)
    row = await endpoints.change(call.tx, row.id, values)
    call.tx.wake("dispatcher")
    return _endpoint(row)


async def delete_endpoint(request: pb.DeleteEndpointRequest, call: Call) -> Empty:
    """Remove an endpoint, drop what waits for it, and tell the enrollments that waited for the outcome."""
    row = await _get(call, request.endpoint_id, lock="delete")
    finals = await deliveries.drop_for(call.tx, row.id)
    await endpoints.remove(call.tx, row.id)
    if finals:
        ended = [(final.org_id, final.enrollment_id, final.stimulus) for final in finals]
        await call.parts.engine.ended(call.tx, ended)
    return Empty()


async def rotate_secret(request: pb.RotateSecretRequest, call: Call) -> pb.RotateSecretResponse:
    """Make a new secret; no old one signs longer than the grace period."""
    grace = request.grace_period.ToTimedelta() if request.HasField("grace_period") else DEFAULT_GRACE
    if not timedelta(0) <= grace <= LONGEST_GRACE:
        message = "a grace period is from 0 seconds to 7 days"
        raise invalid("grace_period", "OUT_OF_RANGE", message, "Leave it out for 24 hours, or send 0s to revoke now.")
    row = await _get(call, request.endpoint_id, lock="change")
    end = call.now + grace
    old = [
        signing.SigningKey(key.secret, end if key.expires_at is None else min(key.expires_at, end))
        for key in endpoints.signing_keys(row.secrets)
    ]
    still = [key for key in old if key.expires_at is not None and key.expires_at > call.now][:MAX_OLD_KEYS]
    secret = _new_secret()
    keys = endpoints.secrets_column([signing.SigningKey(secret), *still])
    await endpoints.change(call.tx, row.id, {"secrets": keys})
    return pb.RotateSecretResponse(secret=secret, old_secret_expire_time=to_timestamp(end))


async def test_endpoint(request: pb.TestEndpointRequest, call: Call) -> pb.TestEndpointResponse:
    """Send one signed test event, outside any transaction, whatever the endpoint's state."""
    parts = call.parts
    async with parts.database.read(call.caller.org_id) as tx:
        row = await endpoints.get(tx, request.endpoint_id)
    if row is None:
        raise NotFound(kind="endpoint", id=request.endpoint_id)
    now = parts.clock.now()
    data = {"endpoint_id": row.id, "note": "This is a test; nothing happened."}
    payload = event_types.payload("endpoint.test", now, data)
    keys = endpoints.signing_keys(row.secrets)
    result = await send_signed(parts.webhook_sender, row.url, keys, ids.mint("msg", now), payload, now)
    return pb.TestEndpointResponse(
        ok=result.ruling.delivered,
        stage=classify.MEANINGS[result.outcome].stage,
        code=classify.verdict_code(result.outcome),
        message=result.error or f"{classify.MEANINGS[result.outcome].sentence} (HTTP {result.status_code})",
        status_code=result.status_code,
        duration=to_duration(result.duration.total_seconds()),
    )


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
    return await _whole_delivery(row, call)


async def redeliver(request: pb.RedeliverRequest, call: Call) -> pb.Delivery:
    """Make a delivery due now, under the same message id and with a fresh schedule."""
    row = await deliveries.get(call.tx, request.delivery_id, lock=True)
    if row is None:
        raise NotFound(kind="delivery", id=request.delivery_id)
    endpoint = await endpoints.get(call.tx, row.endpoint_id)
    if endpoint is None:
        raise EndpointDeleted(endpoint_id=row.endpoint_id, delivery_id=row.id)
    if endpoint.state != EndpointState.ACTIVE:
        raise EndpointNotActive(endpoint_id=endpoint.id, state=endpoint.state)
    if row.lease_token is not None and row.lease_until > call.now:
        raise DeliveryUnderWay(delivery_id=row.id)
    await deliveries.restart(call.tx, row)
    again = await deliveries.get(call.tx, row.id)
    assert again is not None
    return await _whole_delivery(again, call)


async def list_event_types(request: pb.ListEventTypesRequest, call: Call) -> pb.ListEventTypesResponse:
    """Return the catalogue."""
    return pb.ListEventTypesResponse(
        event_types=[
            pb.EventType(name=t.name, version=t.version, description=t.description, schema=to_struct(t.schema))
            for t in event_types.EVENT_TYPES
        ]
    )


async def _get(call: Call, endpoint_id: str, *, lock: Literal["", "change", "delete"] = "") -> Row[Any]:
    row = await endpoints.get(call.tx, endpoint_id, lock=lock)
    if row is None:
        raise NotFound(kind="endpoint", id=endpoint_id)
    return row


def _etag(row: Row[Any]) -> str:
    return f'"{row.rev}"'


def _new_secret() -> str:
    return signing.secret_from(ids.new_secret_bytes())


def _preset(value: int) -> Preset:
    return next((preset for preset, number in _PRESETS.items() if number == value), Preset.STANDARD)


def _mask(request: pb.UpdateEndpointRequest) -> list[str]:
    """Return the fields to change: those of the mask, or those that are set."""
    paths = list(request.update_mask.paths)
    violations = []
    for number, path in enumerate(paths):
        if path not in _CHANGEABLE:
            message = f"{path} is not a field that can be changed"
            hint = did_you_mean(path, _CHANGEABLE, f"The fields are {', '.join(_CHANGEABLE)}.")
            violations.append(Violation(f"update_mask.paths[{number}]", "UNKNOWN_FIELD", message, hint))
    if violations:
        raise Invalid(*violations)
    return paths or [name for name in _CHANGEABLE if getattr(request.endpoint, name)]


def _changes(wanted: pb.Endpoint, fields: Sequence[str], call: Call) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if "url" in fields:
        values["url"] = urls.parse(wanted.url, call.parts.webhook_sender.destinations, "endpoint.url")
    if "description" in fields:
        values["description"] = wanted.description
    if "event_types" in fields:
        _check_event_types(wanted.event_types, "endpoint.event_types")
        values["event_types"] = list(dict.fromkeys(wanted.event_types))
    if "retry_preset" in fields:
        values["retry_preset"] = _preset(wanted.retry_preset)
    if "state" in fields:
        values |= _state_change(wanted.state)
    if "url" in values or values.get("state") == EndpointState.ACTIVE:
        values["failing_since"] = None
    return values


def _state_change(value: int) -> dict[str, Any]:
    state = next((state for state, number in _STATES.items() if number == value), None)
    if state not in (EndpointState.ACTIVE, EndpointState.PAUSED):
        message = "an endpoint can be set to active or paused; only the system disables one"
        raise invalid("endpoint.state", "STATE_NOT_SETTABLE", message, "Use ENDPOINT_STATE_PAUSED to hold deliveries.")
    return {"state": state, "disabled_reason": ""}


def _check_event_types(names: Sequence[str], field: str) -> None:
    violations = []
    for number, name in enumerate(names):
        if event_types.is_event_type_name(name):
            continue
        message = f"{name!r} is not the name of an event type: lower case, with dots, such as deal.won"
        hint = did_you_mean(name, event_types.CATALOGUE) or "List the event types to see the core's own."
        violations.append(Violation(f"{field}[{number}]", "EVENT_TYPE_MALFORMED", message, hint))
    if violations:
        raise Invalid(*violations)


def _endpoint(row: Row[Any]) -> pb.Endpoint:
    return pb.Endpoint(
        id=row.id,
        url=row.url,
        description=row.description,
        event_types=row.event_types,
        retry_preset=_PRESETS[Preset(row.retry_preset)],
        state=_STATES[EndpointState(row.state)],
        disabled_reason=row.disabled_reason,
        etag=_etag(row),
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
    )


def _delivery(row: Row[Any]) -> pb.Delivery:
    return pb.Delivery(
        id=row.id,
        message_id=row.message_id,
        endpoint_id=row.endpoint_id,
        event_type=row.event_type,
        state=_DELIVERY_STATES[DeliveryState(row.state)],
        attempt_count=row.attempt_count,
        next_attempt_time=to_timestamp(deliveries.next_attempt_time(row)),
        create_time=to_timestamp(row.created_at),
        end_time=to_timestamp(row.ended_at),
        enrollment_id=row.enrollment_id,
        last_outcome=row.last_outcome,
    )


async def _whole_delivery(row: Row[Any], call: Call) -> pb.Delivery:
    message = _delivery(row)
    message.payload = await deliveries.payload_of(call.tx, row.message_id)
    message.attempts.extend(_attempt(attempt) for attempt in await deliveries.attempts_of(call.tx, row.id))
    return message


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
