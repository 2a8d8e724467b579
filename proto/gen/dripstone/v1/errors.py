"""What a failed call was told: status, machine reason, violations and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import grpc
from google.rpc import error_details_pb2, status_pb2


@dataclass(frozen=True, slots=True)
class FieldViolation:
    """One thing wrong with a request: where, a machine reason, a sentence."""

    field: str
    reason: str
    message: str
    nearest: str = ""
    """The name, or the value, that was probably meant; empty where none is near."""


@dataclass(frozen=True, slots=True)
class ApiError:
    """What a failed call was told."""

    code: str
    """Canonical status, such as `NOT_FOUND`."""
    reason: str
    """Machine reason, such as `PLAN_STALE`; the code where there is none."""
    message: str
    hint: str = ""
    """What the caller can do."""
    violations: tuple[FieldViolation, ...] = ()
    retry_after: float | None = None
    """Seconds to wait before another try; None when nothing was said."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """The facts in the message, such as `plan_id`."""

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> ApiError:
        """Decode the rich details of a failed call; without any, its status alone is told."""
        code = error.code().name
        status = status_pb2.Status()
        for name, value in error.trailing_metadata() or ():
            if name == "grpc-status-details-bin":
                status.ParseFromString(value)
        info, violations, retry_after = error_details_pb2.ErrorInfo(), [], None
        bad_request, retry = error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
        for detail in status.details:
            if detail.Unpack(info):
                continue
            if detail.Unpack(bad_request):
                violations = [(v.field, v.reason, v.description) for v in bad_request.field_violations]
            elif detail.Unpack(retry):
                retry_after = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
        variables = dict(info.metadata)
        hint = variables.pop("hint", "")
        message = status.message or error.details() or ""
        told = tuple(
            FieldViolation(*one, nearest=variables.pop(f"nearest_{number}", ""))
            for number, one in enumerate(violations)
        )
        return cls(code, info.reason or code, message, hint, told, retry_after, variables)
