"""Which tool an HTTP request calls, found out before the protocol's library takes the request.

A refusal for want of a scope must be the answer's status; with a stream that is sent before any tool is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
from starlette.types import Message, Receive, Scope

CALL = "tools/call"

_MOST_BYTES = 4 * 1024 * 1024
"""Of a body; a longer one is refused by the library."""


class _Params(msgspec.Struct):
    name: str = ""


class _Envelope(msgspec.Struct):
    method: str = ""
    id: int | str | None = None
    params: _Params = msgspec.field(default_factory=_Params)


@dataclass(frozen=True, slots=True)
class Called:
    """What a request asks for."""

    tool: str
    """Empty when it calls none."""
    request_id: int | str | None
    """Of JSON-RPC; None also where a header told the tool, and nobody had to read the body."""


def header(scope: Scope, name: bytes) -> str | None:
    """Return the first header of a name, in lower case, that a request has; None without one."""
    for given, value in scope["headers"]:
        if given == name:
            return str(value, "latin-1")
    return None


def told_by_headers(scope: Scope) -> str | None:
    """Return the tool that the headers of a request name, empty for none; None when they are silent about it."""
    method = header(scope, b"mcp-method")
    if method is None:
        return None
    return (header(scope, b"mcp-name") or "") if method == CALL else ""


async def told_by_body(receive: Receive) -> tuple[Called, Receive]:
    """Return what the body asks for, and a `receive` that gives it once more."""
    messages: list[Message] = []
    body = b""
    while len(body) <= _MOST_BYTES:
        message = await receive()
        messages.append(message)
        body += message.get("body", b"")
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    given = iter(messages)

    async def again() -> Message:
        for message in given:
            return message
        return await receive()

    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
    except (msgspec.MsgspecError, RecursionError):  # malformed for the protocol, which says so itself
        return Called("", None), again
    return Called(envelope.params.name if envelope.method == CALL else "", envelope.id), again
