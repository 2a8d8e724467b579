"""Handlers of WebhookService for endpoints: their options, their states and their secrets."""

from __future__ import annotations

import base64
import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog
from google.protobuf.empty_pb2 import Empty
from sqlalchemy import Row

from core import ids
from core.domain.effects import Emit
from core.domain.errors import Invalid, MasterKeyMissing, NotFound, TooManyEndpoints, Violation, invalid
from core.domain.webhooks import authentication, endpoint_options, receivers, signing
from core.domain.webhooks.endpoint_options import Options, Surroundings
from core.domain.webhooks.gates import GateReason
from core.domain.webhooks.signing import SignatureFormat
from core.domain.webhooks.states import EndpointKind, EndpointState, Verification
from core.rpc import changes
from core.rpc.call import Call
from core.rpc.convert import to_timestamp
from core.rpc.webhooks.endpoint_messages import OPTIONS, etag, merged, message_of, options_in, state_of
from core.store.organizations import organizations
from core.store.systems.vault import Vault
from core.store.webhooks import deliveries, endpoints
from core.store.webhooks.deliveries import Emission
from core.store.webhooks.endpoint_health import HEALTHY
from core.store.webhooks.endpoints import Lock
from dripstone.v1 import webhook_pb2 as pb

MAX_ENDPOINTS = 100
"""Of one organization; every event goes to all that want it."""

MAX_OLD_KEYS = 10
LONGEST_GRACE = timedelta(days=7)
DEFAULT_GRACE = timedelta(hours=24)

SHORTEST_IDLE, LONGEST_IDLE = timedelta(minutes=1), timedelta(days=30)
"""What a temporary endpoint may go without a stream."""

_CHANGEABLE = (*OPTIONS, "state")
_GATE = ("gate_until", "gate_reason")
_PROBES = ("probe_at", "probes")
_log = structlog.get_logger()


async def create_endpoint(request: pb.CreateEndpointRequest, call: Call) -> pb.CreateEndpointResponse:
    """Add a receiver; its secret is in this answer only."""
    options, violations = endpoint_options.check(options_in(request), (*OPTIONS, "kind"), _surroundings(call))
    if request.require_verification and options.kind is EndpointKind.PULL:
        message = "an endpoint that fetches its messages needs no verification"
        violations.append(Violation("require_verification", "CONFLICT", message, "Leave it out."))
    idle_seconds, found = _idle_seconds(request, options)
    if violations := [*violations, *found]:
        raise Invalid(*violations)
    await organizations.hold(call.tx)  # who creates another one meanwhile counts this one
    if await endpoints.count(call.tx) >= MAX_ENDPOINTS:
        raise TooManyEndpoints(limit=MAX_ENDPOINTS)
    secret = _new_secret()
    row = await endpoints.create(
        call.tx,
        ids.mint("ep", call.now),
        secret=secret,
        vault=call.parts.vault,
        verification=Verification.UNVERIFIED if request.require_verification else Verification.NOT_REQUIRED,
        challenge=_new_challenge(),
        idle_seconds=idle_seconds,
        expires_at=call.tx.now + timedelta(seconds=idle_seconds) if idle_seconds else None,
        **_key_columns(options, ""),
        **endpoints.option_columns(options, (*OPTIONS, "kind")),
    )
    return pb.CreateEndpointResponse(endpoint=message_of(row, call.now), secret=secret)


async def get_endpoint(request: pb.GetEndpointRequest, call: Call) -> pb.Endpoint:
    """Return one endpoint."""
    return message_of(await _get(call, request.endpoint_id), call.now)


async def list_endpoints(request: pb.ListEndpointsRequest, call: Call) -> pb.ListEndpointsResponse:
    """Return a page of endpoints, newest first."""
    rows, token = await endpoints.listed(call.tx, request.page_size, request.page_token)
    return pb.ListEndpointsResponse(endpoints=[message_of(row, call.now) for row in rows], next_page_token=token)


async def update_endpoint(request: pb.UpdateEndpointRequest, call: Call) -> pb.Endpoint:
    """Change what the mask names."""
    wanted = request.endpoint
    fields = _mask(request)
    row = await _get(call, wanted.id, lock="change")
    changes.expect("endpoint", row.id, given=wanted.etag, current=etag(row))
    values = _changes(row, wanted, fields, call)
    if not values:
        return message_of(row, call.now)
    was_disabled = row.state == EndpointState.DISABLED
    row = await endpoints.change(call.tx, row.id, values, call.parts.vault)
    if was_disabled and row.state == EndpointState.ACTIVE:
        await _tell_enabled(row, call)
    call.tx.wake("dispatcher")
    return message_of(row, call.now)


async def delete_endpoint(request: pb.DeleteEndpointRequest, call: Call) -> Empty:
    """Remove an endpoint at once; the dispatcher drops what waits for it, and tells who waited for the outcome."""
    row = await _get(call, request.endpoint_id, lock="delete")
    await endpoints.remove(call.tx, row.id)
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
        for key in _openable_keys(row, call.parts.vault)
    ]
    still = [key for key in old if key.expires_at is not None and key.expires_at > call.now][:MAX_OLD_KEYS]
    secret = _new_secret()
    keys = endpoints.secrets_column([signing.SigningKey(secret), *still])
    await endpoints.change(call.tx, row.id, {"secrets": keys}, call.parts.vault)
    return pb.RotateSecretResponse(secret=secret, old_secret_expire_time=to_timestamp(end if old else call.now))


async def _get(call: Call, endpoint_id: str, *, lock: Lock = "") -> Row[Any]:
    row = await endpoints.get(call.tx, endpoint_id, lock=lock)
    if row is None:
        raise NotFound(kind="endpoint", id=endpoint_id)
    return row


def _new_secret() -> str:
    return signing.secret_from(ids.new_secret_bytes())


def _new_challenge() -> str:
    return receivers.challenge_from(ids.new_secret_bytes())


def _key_columns(options: Options, seed: str) -> dict[str, str]:
    """Return the endpoint's key pair: the one whose seed it has, or a new one where it signs with one from now on."""
    if not _signs_with_key(options):
        return {"signing_seed": seed, "public_key": ""}
    seed = seed or base64.b64encode(ids.new_secret_bytes()).decode()
    return {"signing_seed": seed, "public_key": signing.public_key(base64.b64decode(seed))}


def _signs_with_key(options: Options) -> bool:
    return any(one.format is SignatureFormat.V1A for one in options.extra_signatures)


def _seed(row: Row[Any], options: Options, vault: Vault) -> str:
    """Return the seed that an endpoint has; one that cannot be opened is given up where nothing signs with it."""
    try:
        return base64.b64encode(endpoints.seed_of(row, vault)).decode()
    except MasterKeyMissing:
        if _signs_with_key(options):
            raise
        return ""


def _openable_keys(row: Row[Any], vault: Vault) -> Iterator[signing.SigningKey]:
    """Yield the keys an endpoint has; those that cannot be opened sign nothing any more, and are given up."""
    at = endpoints.about(row.org_id, row.id, "secrets")
    for key in endpoints.signing_keys(row.secrets):
        try:
            yield replace(key, secret=vault.open(key.secret, at))
        except MasterKeyMissing:
            _log.warning("a signing key cannot be opened and is dropped", endpoint=row.id)


def _idle_seconds(request: pb.CreateEndpointRequest, options: Options) -> tuple[int, list[Violation]]:
    """Return how long the endpoint may go without a stream, 0 for ever, and what is wrong with that."""
    if not request.HasField("idle_limit"):
        return 0, []
    if options.kind is not EndpointKind.PULL:
        message = "only an endpoint that fetches its messages is temporary"
        return 0, [Violation("idle_limit", "CONFLICT", message, "Leave it out, or make the endpoint of kind pull.")]
    limit = request.idle_limit.ToTimedelta()
    if not SHORTEST_IDLE <= limit <= LONGEST_IDLE:
        message = "an endpoint may go without a stream for 1 minute to 30 days"
        return 0, [Violation("idle_limit", "OUT_OF_RANGE", message, "Leave it out for one that stays.")]
    return math.ceil(limit.total_seconds()), []


def _surroundings(call: Call, prefix: str = "") -> Surroundings:
    return Surroundings(call.parts.webhook_sender.destinations, call.now, prefix)


def _mask(request: pb.UpdateEndpointRequest) -> list[str]:
    """Return the fields to change: those of the mask, or those that are set."""
    given = [name for name in _CHANGEABLE if _is_set(request.endpoint, name)]
    return changes.masked(request.update_mask.paths, _CHANGEABLE) or given


def _is_set(endpoint: pb.Endpoint, name: str) -> bool:
    return endpoint.HasField("auth") if name == "auth" else bool(getattr(endpoint, name))


def _changes(row: Row[Any], wanted: pb.Endpoint, fields: Collection[str], call: Call) -> dict[str, Any]:
    """Return the columns to change.

    Raises Invalid with everything that is wrong.
    """
    present = endpoints.options(row)
    named = [name for name in fields if name != "state"]
    given = options_in(wanted)
    if "auth" in named and authentication.keeps(given.auth, present.auth):  # else a lost secret could not be set anew
        present = replace(present, auth=endpoints.opened_auth(row, call.parts.vault))
    given = replace(given, auth=authentication.kept(given.auth, present.auth))
    options, violations = endpoint_options.check(merged(present, given, named), named, _surroundings(call, "endpoint."))
    if "url" in named and not violations:
        where = {"url": options.url, "url_before": present.url, "field": "endpoint.auth"}
        violations += changes.secrets_that_move(options.auth, present.auth, **where)
    values: dict[str, Any] = {}
    if "state" in fields:
        state = state_of(wanted.state)
        if state not in (EndpointState.ACTIVE, EndpointState.PAUSED):
            message = "an endpoint can be set to active or paused; only the system disables one"
            hint = "Use ENDPOINT_STATE_PAUSED to hold deliveries."
            violations.append(Violation("endpoint.state", "STATE_NOT_SETTABLE", message, hint))
        else:
            values |= _enabled(row) if state is EndpointState.ACTIVE else _paused(row)
    if violations:
        raise Invalid(*violations)
    values |= endpoints.option_columns(options, named)
    if options.url != present.url:
        values = {**_anew(row, _PROBES), **_unproven(row), **values}
    if "extra_signatures" in named:
        values |= _key_columns(options, _seed(row, options, call.parts.vault))
    return values


def _anew(row: Row[Any], but: Collection[str] = ()) -> dict[str, Any]:
    """Return the columns of an endpoint that begins anew; the hour of one that is not verified goes on."""
    held = _GATE if row.gate_reason == GateReason.UNVERIFIED else ()
    return {name: value for name, value in HEALTHY.items() if name not in (*held, *but)}


def _enabled(row: Row[Any]) -> dict[str, Any]:
    """Return the columns of an endpoint that is on; one that was on before has failed as long as it has."""
    anew = {} if row.state == EndpointState.ACTIVE else _anew(row)
    return {**anew, "state": EndpointState.ACTIVE, "disabled_reason": ""}


def _paused(row: Row[Any]) -> dict[str, Any]:
    """Return the columns of an endpoint that is paused; one that was disabled begins anew."""
    anew = _anew(row) if row.state == EndpointState.DISABLED else {}
    return {**anew, "state": EndpointState.PAUSED, "disabled_reason": ""}


def _unproven(row: Row[Any]) -> dict[str, Any]:
    """Return the columns of an endpoint whose URL changed: what another one has proved or was asked does not count."""
    challenge = {"challenge": _new_challenge()}
    if row.verification != Verification.VERIFIED:
        return challenge
    return {**challenge, "verification": Verification.UNVERIFIED}


async def _tell_enabled(row: Row[Any], call: Call) -> None:
    data = {"endpoint_id": row.id, "url": row.url, "reason": "somebody enabled it", "actor": call.caller.principal_id}
    effect = Emit(ids.mint("msg", call.now), "endpoint.enabled", data)
    await deliveries.emit(call.tx, [Emission(call.caller.org_id, effect, except_endpoint_id=row.id)])
