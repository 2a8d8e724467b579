"""Answers over HTTP that are not the protocol's: refusals at the door, and what its library says, cut to one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from mcp.types import INVALID_REQUEST
from starlette.responses import Response
from starlette.types import Message, Send

from mcp_server.refusals import Refusal


def refused(status: int, error: str, description: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return a refusal in the form of OAuth: a code and a sentence."""
    return _json(status, {"error": error, "error_description": description}, headers or {})


def stepped_up(refusal: Refusal, request_id: int | str | None, challenge: str) -> Response:
    """Refuse for want of a scope: 403 for clients that can ask for more, words for the model behind the others."""
    told = refusal.result()
    error = {
        "code": INVALID_REQUEST,
        "message": " ".join(part for part in (refusal.message, refusal.hint, refusal.next) if part),
        "data": told.structured_content,
    }
    body = {"jsonrpc": "2.0", "id": request_id, "error": error}
    return _json(HTTPStatus.FORBIDDEN, body, {"www-authenticate": challenge})


def _json(status: int, body: dict[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(json.dumps(body), status, {"content-type": "application/json", **headers})


class Begun:
    """A `send` that knows how far the answer is, so that one which is cut off ends as an answer should."""

    def __init__(self, send: Send):
        self._send = send
        self._is_open = False

    async def __call__(self, message: Message) -> None:
        """Send one part."""
        self._is_open = message["type"] == "http.response.start" or bool(message.get("more_body"))
        await self._send(message)

    async def end(self) -> None:
        """End the answer if it has begun and nobody has ended it."""
        if self._is_open:
            await self({"type": "http.response.body", "body": b"", "more_body": False})


def brief(send: Send) -> Send:
    """Return a `send` that cuts the library's account of a malformed body, its own classes and all, to one line."""
    held: list[Message] = []

    async def forward(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == HTTPStatus.BAD_REQUEST:
            held.append(message)
            return
        if held and not message.get("more_body"):
            start = held.pop()
            body = _shortened(message.get("body", b""))
            headers = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
            await send({**start, "headers": [*headers, (b"content-length", str(len(body)).encode())]})
            message = {**message, "body": body}
        elif held:
            await send(held.pop())
        await send(message)

    return forward


def _shortened(body: bytes) -> bytes:
    try:
        error = json.loads(body)
        dumped = error["error"]["message"].startswith("Validation error")
    except (ValueError, LookupError, TypeError, AttributeError):
        return body
    if not dumped:
        return body
    error["error"] = {"code": INVALID_REQUEST, "message": 'Send one JSON-RPC 2.0 request: "jsonrpc", "id", "method".'}
    return json.dumps(error).encode()
