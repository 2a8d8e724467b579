"""From a domain error to `google.rpc.Status`: the one translator."""

from __future__ import annotations

from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2, status_pb2

from core.domain.errors import DripstoneError

DOMAIN = "dripstone"


class InternalError(DripstoneError):
    """Something went wrong on our side; it is logged under the reference {reference}."""

    reason = "INTERNAL"
    hint = "Try again; if it persists, report the reference."


def grpc_code(error: DripstoneError) -> int:
    """Return the number of an error's status code."""
    name = "INTERNAL" if isinstance(error, InternalError) else error.code.value
    return int(code_pb2.Code.Value(name))


def to_status(error: DripstoneError) -> status_pb2.Status:
    """Return an error as a rich status: ErrorInfo always, BadRequest and RetryInfo where they apply.

    What was probably meant by the violation of that number stands in the metadata as `nearest_0`, `nearest_1`, …
    """
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.variables)
    if error.way_out:
        info.metadata["hint"] = error.way_out
    details = []
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for number, violation in enumerate(error.violations):
            text = f"{violation.message} {violation.hint}".strip()
            bad.field_violations.add(field=violation.field, description=text, reason=violation.reason)
            if violation.nearest:
                info.metadata[f"nearest_{number}"] = violation.nearest
        details.append(_pack(bad))
    details.insert(0, _pack(info))
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMilliseconds(int(error.retry_after * 1000))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=grpc_code(error), message=error.message, details=details)


def _pack(message: object) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)  # type: ignore[arg-type]
    return packed
