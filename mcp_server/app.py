"""MCP over streamable HTTP: an ASGI endpoint behind a bearer key, for the core's own web application or alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urlsplit

import anyio
import grpc
from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from mcp.server.transport_security import TransportSecuritySettings
from mcp.types.version import HANDSHAKE_PROTOCOL_VERSIONS
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from dripstone.v1.client import ApiError, Client
from mcp_server import calls, tokens
from mcp_server.admission import not_allowed
from mcp_server.callers import KEPT, METADATA, VISIT, Caller, Callers, Visit, bearer_key
from mcp_server.deployment import Deployment
from mcp_server.http_answers import Begun, brief, refused, stepped_up
from mcp_server.origins import LOOPBACK, Origins
from mcp_server.server import build_server, served_tools
from mcp_server.sessions import MOST_SESSIONS, SESSION_SECONDS, Sessions
from mcp_server.views import TOOLSET_NAMES, NoSuchView, View, view_of

LOOKS_AGAIN_SECONDS = 20.0
"""How often a stream that stays open asks whether its key still holds."""


class Endpoint:
    """The MCP endpoint as an ASGI application; it serves inside `async with endpoint.running()`.

    Route it by path, not by prefix: `Route("/mcp", endpoint)` and `Route("/mcp/{view:path}", endpoint)`.
    """

    def __init__(
        self,
        target: str | grpc.aio.Channel,
        deployment: Deployment | None = None,
        *,
        tls: bool | bytes | None = None,
    ) -> None:
        """Serve the core at `target` to whoever brings a key; `target` and `tls` are as for the typed client.

        Raises ValueError for a toolset that does not exist.
        """
        self._deployment = deployment or Deployment()
        self._client = Client(target, None, tls=tls, metadata=METADATA)
        self._tools = {
            tool.name: tool for tool in served_tools(self._deployment.toolsets, read_only=self._deployment.read_only)
        }
        self._callers = self._new_callers()
        everybody = "*" in self._deployment.allowed_hosts
        self._origins = Origins(_hosts(self._deployment), everybody=everybody)
        self._sessions = Sessions(lambda: self._interactive._server_instances)  # the library tells in no other way

    def _new_callers(self) -> Callers:
        return Callers(self._client.with_key, read_only=self._deployment.read_only)

    def _new_server(self) -> MCPServer[Any]:
        decided = self._deployment
        return build_server(
            self._client.with_key,
            toolsets=decided.toolsets,
            read_only=decided.read_only,
            callers=self._callers,
            state_keys=decided.state_keys,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the connection to the core and serve until the block ends; may be entered again afterwards."""
        self._callers = self._new_callers()
        server = self._new_server()
        security = _security(self._deployment)
        # Plain JSON answers, and no sessions: any replica can answer any request, in either era of the protocol.
        server.streamable_http_app(json_response=True, stateless_http=True, transport_security=security)
        self._plain = server.session_manager
        # Streams, and for the handshake era sessions: who is asked something answers in another request.
        server.streamable_http_app(
            transport_security=security, session_idle_timeout=SESSION_SECONDS, max_sessions=MOST_SESSIONS
        )
        self._interactive = server.session_manager
        async with self._client, self._plain.run(), self._interactive.run():
            yield

    @cached_property
    def _scopes(self) -> frozenset[str]:
        """Every scope that some tool here needs."""
        return frozenset(scope for tool in self._tools.values() for scope in tool.scopes)

    @cached_property
    def _toolsets(self) -> frozenset[str]:
        return frozenset(tool.toolset for tool in self._tools.values())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request: 404 for no view, 401 without a valid key, 403 for the wrong one, else the protocol."""
        # A server may leave blanks behind a value; what a header says is without them (RFC 9110, 5.5).
        scope["headers"] = [(name, value.strip(b" \t")) for name, value in scope["headers"]]
        send = self._origins.shared(scope, send)
        try:
            view = view_of(scope.get("path_params", {}).get("view", ""), self._toolsets)
        except NoSuchView as error:
            await refused(404, "not_found", str(error))(scope, receive, send)
            return
        if scope["method"] == "OPTIONS":
            await self._origins.answer(scope, ", ".join(_methods(view)))(scope, receive, send)
            return
        key = bearer_key(calls.header(scope, b"authorization"))
        caller = await self._admitted(key, view)
        if isinstance(caller, Response):
            await caller(scope, receive, send)
            return
        if not _is_served(scope, view):
            allowed = {"allow": ", ".join(_methods(view))}
            description = f"This address takes POST{'; GET and DELETE are for a session' * view.interactive}."
            await refused(405, "method_not_allowed", description, allowed)(scope, receive, send)
            return
        visit = scope[VISIT] = Visit(caller, view, key)
        refusal, receive = await self._step_up(scope, receive, visit)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        if not view.interactive:
            await self._serve(self._plain, key, scope, receive, brief(send))
            return
        opens = not calls.header(scope, b"mcp-session-id") and _opens_a_session(scope)
        place = self._sessions.place_for(caller) if opens else None
        if opens and place is None:
            await refused(429, "too_many_sessions", "End some of your sessions.", {"retry-after": "60"})(
                scope, receive, send
            )
            return
        # A session is its owner's: the library compares this with who opened it.
        scope["user"] = _owner(caller.principal_id, caller.organization_id)
        sending = send if place is None else place.noting(send)
        try:
            await self._serve(self._interactive, key, scope, receive, brief(sending))
        finally:
            if place is not None:
                place.opened()

    async def _admitted(self, api_key: str | None, view: View) -> Caller | Response:
        if api_key is None:
            return self._unauthorized(view, "", "Send `Authorization: Bearer <API key>`.")
        if tokens.is_token(api_key):
            decided = self._deployment
            if not tokens.is_made_for(api_key, tokens.audiences(decided.base_url, view, decided.token_audiences)):
                return self._unauthorized(view, "invalid_token", "The token was not made for this server.")
        try:
            caller = await self._callers.caller(api_key)
        except grpc.aio.AioRpcError as error:
            told = ApiError.of(error)
            if told.code == "UNAUTHENTICATED":
                return self._unauthorized(view, "invalid_token", "The API key is not valid.")
            if told.code == "RESOURCE_EXHAUSTED":
                return refused(429, "rate_limited", told.message, {"retry-after": str(int(told.retry_after or 1) or 1)})
            return refused(503, "unavailable", "The Dripstone core does not answer.", {"retry-after": "5"})
        if view.organization and view.organization != caller.organization_id:
            return refused(403, "wrong_organization", "This address is for keys of another organization.")
        return caller

    def _unauthorized(self, view: View, error: str, description: str) -> Response:
        said = (error, description) if error else ("", "")
        challenge = tokens.challenge(self._deployment.base_url, view, *said)
        return refused(401, error or "unauthorized", description, {"www-authenticate": challenge})

    async def _step_up(self, scope: Scope, receive: Receive, visit: Visit) -> tuple[Response | None, Receive]:
        """Refuse a call of a tool that the view shows and the caller's scopes do not allow, and name the scopes."""
        if scope["method"] != "POST" or visit.caller.scopes >= self._scopes:
            return None, receive
        name, request_id = calls.told_by_headers(scope), None
        if name is None:
            called, receive = await calls.told_by_body(receive)
            name, request_id = called.tool, called.request_id
        tool = self._tools.get(name)
        if tool is None or not visit.view.shows(tool.toolset, reads=bool(tool.annotations.read_only_hint)):
            return None, receive
        missing, refusal = visit.caller.lacks(tool.scopes), not_allowed(visit.caller, tool)
        if not missing or refusal is None:
            return None, receive
        if request_id is None:
            request_id = (await calls.told_by_body(receive))[0].request_id
        challenge = tokens.challenge(
            self._deployment.base_url, visit.view, "insufficient_scope", refusal.message, " ".join(missing)
        )
        return stepped_up(refusal, request_id, challenge), receive

    async def _serve(
        self,
        manager: StreamableHTTPSessionManager,
        key: str | None,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        if scope["method"] != "GET" and calls.header(scope, b"mcp-method") != "subscriptions/listen":
            await manager.handle_request(scope, receive, send)
            return
        begun = Begun(send)
        async with anyio.create_task_group() as under_way:
            under_way.start_soon(self._end_when_revoked, key, under_way.cancel_scope)
            await manager.handle_request(scope, receive, begun)
            under_way.cancel_scope.cancel()
        await begun.end()

    async def _end_when_revoked(self, key: str | None, stream: anyio.CancelScope) -> None:
        while True:
            await anyio.sleep(LOOKS_AGAIN_SECONDS)
            try:
                await self._callers.caller(key, anew=True)
            except grpc.aio.AioRpcError as error:
                if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                    stream.cancel()
                    return


def build_app(
    target: str, deployment: Deployment | None = None, *, path: str = "/mcp", tls: bool | bytes | None = None
) -> Starlette:
    """Return an application that serves MCP alone at a path and below; see Endpoint."""
    decided = deployment or Deployment()
    endpoint = Endpoint(target, decided, tls=tls)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with endpoint.running():
            yield

    async def resource(request: Request) -> Response:
        try:
            view = view_of(request.path_params.get("view", ""), TOOLSET_NAMES)
        except NoSuchView as error:
            return refused(404, "not_found", str(error))
        told = tokens.metadata(decided.base_url, view, decided.authorization_servers, ())
        return JSONResponse(told, headers={"access-control-allow-origin": "*"})

    return Starlette(
        routes=[
            Route(path, endpoint),
            Route(path + "/{view:path}", endpoint),
            *(Route(tokens.METADATA_PATH + below, resource) for below in ("", path, path + "/{view:path}")),
        ],
        lifespan=lifespan,
    )


@lru_cache(maxsize=KEPT)
def _owner(principal_id: str, organization_id: str) -> AuthenticatedUser:
    """Return a caller as the library knows owners of sessions; the key itself is not kept."""
    return AuthenticatedUser(AccessToken(token="", client_id=principal_id, subject=organization_id, scopes=[]))


def _methods(view: View) -> tuple[str, ...]:
    """Return what an address takes: where there are no sessions, nothing can be heard of one or ended."""
    return ("POST", "GET", "DELETE", "OPTIONS") if view.interactive else ("POST", "OPTIONS")


def _is_served(scope: Scope, view: View) -> bool:
    """Tell whether a request is one that is served; each session has one stream, so that sessions bound streams."""
    method = scope["method"]
    return method == "POST" or (method in _methods(view) and calls.header(scope, b"mcp-session-id") is not None)


def _hosts(decided: Deployment) -> tuple[str, ...]:
    """Return the hosts by whose names the server is called, and whose pages may call it."""
    own = urlsplit(decided.base_url).hostname
    return (*LOOPBACK, *decided.allowed_hosts, *((f"[{own}]" if ":" in own else own,) if own else ()))


def _opens_a_session(scope: Scope) -> bool:
    version = calls.header(scope, b"mcp-protocol-version")
    return scope["method"] == "POST" and (version is None or version in HANDSHAKE_PROTOCOL_VERSIONS)


def _security(decided: Deployment) -> TransportSecuritySettings:
    """Refuse foreign Host and Origin headers, so that no web page reaches a server on its visitor's machine."""
    if "*" in decided.allowed_hosts:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    hosts = [form for host in _hosts(decided) for form in (host, f"{host}:*")]
    origins = [f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts]
    return TransportSecuritySettings(allowed_hosts=hosts, allowed_origins=origins)
