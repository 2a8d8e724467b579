"""Endpoints between the contract's messages, the domain's options and the store's rows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from sqlalchemy import Row

from core.domain.webhooks import disabling
from core.domain.webhooks.bodies import PayloadFormat
from core.domain.webhooks.endpoint_options import Options
from core.domain.webhooks.retry import Preset
from core.domain.webhooks.signing import ExtraSignature, SignatureFormat
from core.domain.webhooks.states import EndpointKind, EndpointState, Ordering, Verification
from core.rpc.convert import to_duration, to_timestamp
from core.rpc.webhooks import endpoint_auth
from core.store.webhooks import endpoints
from dripstone.v1 import webhook_pb2 as pb

_Member = TypeVar("_Member", bound=Enum)


def _numbers(contract: Any, prefix: str, members: type[_Member]) -> dict[_Member, Any]:
    return {member: contract.Value(f"{prefix}_{member.name}") for member in members}


STATES = _numbers(pb.EndpointState, "ENDPOINT_STATE", EndpointState)
_PRESETS = _numbers(pb.RetryPreset, "RETRY_PRESET", Preset)
_KINDS = _numbers(pb.EndpointKind, "ENDPOINT_KIND", EndpointKind)
_FORMATS = _numbers(pb.PayloadFormat, "PAYLOAD_FORMAT", PayloadFormat)
_ORDERINGS = _numbers(pb.Ordering, "ORDERING", Ordering)
_VERIFICATIONS = _numbers(pb.Verification, "VERIFICATION", Verification)
_SIGNATURES = _numbers(pb.SignatureFormat, "SIGNATURE_FORMAT", SignatureFormat)

OPTIONS = (
    "url",
    "description",
    "event_types",
    "retry_preset",
    "filter",
    "headers",
    "auth",
    "extra_signatures",
    "payload_format",
    "retry_delays",
    "rate_per_second",
    "max_in_flight",
    "ordering",
)
"""Fields that its owner decides and may change, besides the state."""


def state_of(number: int) -> EndpointState | None:
    """Return the state that a number stands for; None for a number that stands for none."""
    return next((state for state, value in STATES.items() if value == number), None)


def options_in(message: pb.CreateEndpointRequest | pb.Endpoint) -> Options:
    """Return the options that a message carries, as they stand."""
    return Options(
        kind=_member(_KINDS, message.kind, EndpointKind.PUSH),
        url=message.url,
        description=message.description,
        event_types=tuple(message.event_types),
        filter=message.filter,
        headers=dict(message.headers),
        auth=endpoint_auth.from_message(message.auth),
        extra_signatures=tuple(
            ExtraSignature(_member(_SIGNATURES, one.format, SignatureFormat.SHA256_HEX), one.header)
            for one in message.extra_signatures
        ),
        payload_format=_member(_FORMATS, message.payload_format, PayloadFormat.STANDARD),
        retry_preset=_member(_PRESETS, message.retry_preset, Preset.STANDARD),
        retry_delays=tuple(delay.ToTimedelta() for delay in message.retry_delays),
        rate_per_second=message.rate_per_second,
        max_in_flight=message.max_in_flight,
        ordering=_member(_ORDERINGS, message.ordering, Ordering.BEST_EFFORT),
    )


def merged(present: Options, given: Options, fields: Collection[str]) -> Options:
    """Return the present options with these fields of the given ones."""
    changes: dict[str, Any] = {name: getattr(given, name) for name in fields}
    return replace(present, **changes)


def etag(row: Row[Any]) -> str:
    """Return the version of an endpoint."""
    return f'"{row.rev}"'


def message_of(row: Row[Any], now: datetime) -> pb.Endpoint:
    """Return an endpoint as the contract has it, without anything secret."""
    has = endpoints.options(row)
    return pb.Endpoint(
        id=row.id,
        url=has.url,
        description=has.description,
        event_types=has.event_types,
        retry_preset=_PRESETS[has.retry_preset],
        state=STATES[EndpointState(row.state)],
        disabled_reason=row.disabled_reason,
        etag=etag(row),
        create_time=to_timestamp(row.created_at),
        update_time=to_timestamp(row.updated_at),
        filter=has.filter,
        headers=has.headers,
        auth=endpoint_auth.to_message(has.auth),
        extra_signatures=[
            pb.ExtraSignature(format=_SIGNATURES[one.format], header=one.header) for one in has.extra_signatures
        ],
        payload_format=_FORMATS[has.payload_format],
        retry_delays=[to_duration(delay.total_seconds()) for delay in has.retry_delays],
        rate_per_second=has.rate_per_second,
        max_in_flight=has.max_in_flight,
        ordering=_ORDERINGS[has.ordering],
        kind=_KINDS[has.kind],
        verification=_VERIFICATIONS[Verification(row.verification)],
        failing_since_time=to_timestamp(row.failing_since),
        disable_progress_percent=disabling.progress_percent(row.failing_since, row.failures, now),
        public_key=row.public_key,
        idle_limit=to_duration(row.idle_seconds) if row.idle_seconds else None,
        expire_time=to_timestamp(row.expires_at),
    )


def _member(numbers: dict[_Member, Any], number: int, default: _Member) -> _Member:
    return next((member for member, value in numbers.items() if value == number), default)
