"""Errors as HTTP answers: one status table, one body, and the bare form that the capture routes promise."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from google.rpc import code_pb2
from starlette.responses import Response

from core.domain.errors import Code, DripstoneError, Invalid, Violation
from core.domain.nearest import Hint
from core.rpc.errors import grpc_code

STATUS = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INTERNAL": 500,
    "DATA_LOSS": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
"""Canonical status to HTTP status, as google.rpc.Code documents it."""

BARE = "/v2/"
"""Routes under this prefix answer errors as `{"error": "text"}`, which is what their senders were built for."""

_BARE_VIOLATIONS = 10
_HALF = re.compile("[\ud800-\udfff]")


class HttpRefusal(DripstoneError):
    """Something that only HTTP can get wrong."""

    code = Code.INVALID_ARGUMENT
    http_status: ClassVar[int] = 400


class RouteNotFound(HttpRefusal):
    """There is no {path} here."""

    code = Code.NOT_FOUND
    http_status = 404
    reason = "ROUTE_NOT_FOUND"
    hint = "{near}GET /openapi.json lists every route."


class MethodNotAllowed(HttpRefusal):
    """{verb} is not something {path} answers."""

    http_status = 405
    reason = "METHOD_NOT_ALLOWED"
    hint = "Use {allowed}."


class BodyTooLarge(HttpRefusal):
    """The body is larger than {limit} bytes."""

    http_status = 413
    reason = "BODY_TOO_LARGE"
    hint = "Send several smaller calls."


class UnsupportedMediaType(HttpRefusal):
    """The body comes as {given}, which is not understood."""

    http_status = 415
    reason = "UNSUPPORTED_MEDIA_TYPE"
    hint = "Send Content-Type: application/json, encoded as UTF-8 and not compressed."


def http_status(error: DripstoneError, *, conditional: bool = False, bare: bool = False) -> int:
    """Return the HTTP status of an error.

    `conditional` tells that the call carried If-Match, whose failure has a status of its own; `bare`, that it came to a
    capture route, where whatever the body names wrongly is plain bad input.
    """
    if isinstance(error, HttpRefusal):
        return error.http_status
    name = code_pb2.Code.Name(grpc_code(error))
    if name == "ABORTED" and conditional:
        return 412
    return 400 if bare and name == "NOT_FOUND" else STATUS[name]


def answer(error: DripstoneError, status: int, request_id: str, *, bare: bool = False) -> Response:
    """Return the HTTP answer that tells an error."""
    headers: dict[str, str] = {}
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="dripstone"'
    if error.retry_after is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = error.variables["allowed"]
    content = {"error": bare_text(error)} if bare else body(error, status, request_id)
    return json_response(content, status, headers)


def body(error: DripstoneError, status: int, request_id: str) -> dict[str, Any]:
    """Return the body of an error."""
    return {
        "error": {
            "code": status,
            "status": code_pb2.Code.Name(grpc_code(error)),
            "reason": error.reason,
            "message": error.message,
            "hint": error.way_out,
            "request_id": request_id,
            "details": [_detail(each) for each in error.violations],
        }
    }


def _detail(violation: Violation) -> dict[str, str]:
    """Return a violation with what was probably meant beside the sentence, where something was."""
    told = {name: getattr(violation, name) for name in ("field", "reason", "message", "hint")}
    return told | ({"nearest": violation.nearest} if violation.nearest else {})


def bare_text(error: DripstoneError) -> str:
    """Return an error as one text: every violation where there are some, else the message and the way out."""
    if not error.violations:
        return f"{error.message} {error.way_out}".strip()
    told = []
    for each in error.violations[:_BARE_VIOLATIONS]:
        way_out = f" ({each.hint})" if each.hint else ""
        told.append(f"{each.field}: {each.message}{way_out}")
    more = len(error.violations) - len(told)
    return "; ".join(told) + (f"; and {more} more" if more else "")


def as_sent(error: DripstoneError, body_field: str) -> DripstoneError:
    """Return an error whose field paths are those of the body that was sent.

    The contract wraps some bodies into a field (`event`); who posts the body never wrote that word.
    """
    prefix = f"{body_field}."
    if not any(each.field.startswith(prefix) for each in error.violations):
        return error
    told = tuple(_as_sent(each, prefix) for each in error.violations)
    if type(error) is Invalid:
        return Invalid(*told)
    error.violations = told
    return error


def _as_sent(violation: Violation, prefix: str) -> Violation:
    if not violation.field.startswith(prefix):
        return violation
    field = violation.field.removeprefix(prefix)
    hint = violation.hint.replace(violation.field, field)
    near = violation.nearest.removeprefix(prefix)
    return replace(violation, field=field, hint=Hint(hint, near) if near else hint)


def json_response(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return JSON in its shortest form.

    A path may quote a key with half of a surrogate pair, which UTF-8 cannot hold: its escape is spelled out.
    """
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    encoded = _HALF.sub(lambda half: f"\\\\u{ord(half[0]):04x}", text).encode()
    return Response(encoded, status, headers, "application/json")
