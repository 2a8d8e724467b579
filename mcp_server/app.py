"""MCP over streamable HTTP: an ASGI endpoint behind a bearer key, for the core's own web application or alone."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus

import grpc
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types import INVALID_REQUEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from dripstone.v1.client import ApiError, Client
from mcp_server.callers import METADATA, Callers, presented_key
from mcp_server.server import build_server

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


class Endpoint:
    """The MCP endpoint as an ASGI application; it serves inside `async with endpoint.running()`.

    Route it by path, not by prefix: `Route("/mcp", endpoint)`.
    """

    def __init__(
        self,
        target: str,
        *,
        tls: bool | bytes | None = None,
        allowed_hosts: Sequence[str] = (),
        toolsets: Collection[str] | None = None,
    ) -> None:
        """Serve the core at `target` to whoever brings a key.

        `allowed_hosts` are Host headers to accept beside loopback's, `*` for any; `tls` is as for the typed client.
        """
        self._client = Client(target, None, tls=tls, metadata=METADATA)
        self._allowed_hosts = tuple(allowed_hosts)
        self._toolsets = toolsets
        self._callers = Callers(self._client.with_key)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the connection to the core and serve until the block ends; may be entered again afterwards."""
        self._callers = Callers(self._client.with_key)
        server = build_server(self._client.with_key, toolsets=self._toolsets, callers=self._callers)
        # Plain JSON answers, and no sessions: any replica can answer any request, in either era of the protocol.
        server.streamable_http_app(
            json_response=True, stateless_http=True, transport_security=_security(self._allowed_hosts)
        )
        self._manager = server.session_manager
        async with self._client, self._manager.run():
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: 401 without a valid key, else the protocol."""
        request = Request(scope, receive)
        answer = await self._refusal(presented_key(request))
        if answer is None:
            await self._manager.handle_request(scope, receive, _brief(send))
        else:
            await answer(scope, receive, send)

    async def _refusal(self, api_key: str | None) -> Response | None:
        if api_key is None:
            return _unauthorized("", "Send `Authorization: Bearer <API key>`.")
        try:
            await self._callers.caller(api_key)
        except grpc.aio.AioRpcError as error:
            told = ApiError.of(error)
            if told.code == "UNAUTHENTICATED":
                return _unauthorized("invalid_token", "The API key is not valid.")
            if told.code == "RESOURCE_EXHAUSTED":
                return _refused(
                    429, "rate_limited", told.message, {"retry-after": str(int(told.retry_after or 1) or 1)}
                )
            return _refused(503, "unavailable", "The Dripstone core does not answer.", {"retry-after": "5"})
        return None


def build_app(
    target: str,
    *,
    path: str = "/mcp",
    tls: bool | bytes | None = None,
    allowed_hosts: Sequence[str] = (),
    toolsets: Collection[str] | None = None,
) -> Starlette:
    """Return an application that serves MCP alone at a path; see Endpoint."""
    endpoint = Endpoint(target, tls=tls, allowed_hosts=allowed_hosts, toolsets=toolsets)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with endpoint.running():
            yield

    return Starlette(routes=[Route(path, endpoint)], lifespan=lifespan)


def _security(allowed_hosts: Sequence[str]) -> TransportSecuritySettings:
    """Refuse foreign Host and Origin headers, so that no web page reaches a server on its visitor's machine."""
    if "*" in allowed_hosts:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    hosts = [form for host in (*LOOPBACK, *allowed_hosts) for form in (host, f"{host}:*")]
    origins = [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)


def _brief(send: Send) -> Send:
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


def _unauthorized(error: str, description: str) -> Response:
    challenge = 'Bearer realm="dripstone"' + (f', error="{error}", error_description="{description}"' if error else "")
    return _refused(401, error or "unauthorized", description, {"www-authenticate": challenge})


def _refused(status: int, error: str, description: str, headers: dict[str, str]) -> Response:
    body = json.dumps({"error": error, "error_description": description})
    return Response(body, status, {"content-type": "application/json", **headers})
