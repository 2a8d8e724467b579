"""The JSON face of the method table: every `google.api.http` rule of the contract is a route, with no code of its own.

HTTP's part ends where the pipeline begins: bytes become a request message, headers become metadata, the reply becomes
JSON. Whether a call is allowed and what it does is decided below, once for every transport.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Any

import structlog
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Match, NoMatchFound
from starlette.types import Receive, Scope, Send

from core import ids
from core.domain.errors import DripstoneError, invalid
from core.domain.nearest import did_you_mean
from core.gateway import answers, body, errors
from core.gateway.bindings import Binding, bindings
from core.gateway.paths import Tree
from core.rpc import metrics
from core.rpc.admission.audit_trail import GATEWAY, ON_BEHALF_OF, REASON
from core.rpc.errors import InternalError, grpc_code
from core.rpc.methods import Method
from core.rpc.pipeline import Pipeline

_log = structlog.get_logger()

OWNED = ("/api/", errors.BARE)
"""Prefixes under which nothing but the contract answers."""

_PASSED_ON = ("authorization", "traceparent", "tracestate", "user-agent", ON_BEHALF_OF, REASON)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_FOUND = "dripstone.found"
_NEAR_ENOUGH = 200


class ContractRoutes(BaseRoute):
    """All routes of the contract as one route of the web application."""

    def __init__(self, methods: Sequence[Method], pipeline: Pipeline):
        """Read the rules. Raises ValueError for one that cannot be served, so that the process does not start."""
        self.bindings = tuple(binding for method in methods for binding in bindings(method))
        self._pipeline = pipeline
        self._tree: Tree[Binding] = Tree()
        for binding in self.bindings:
            self._tree.add(binding.template, binding.verb, binding)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Claim what the contract routes, and everything else under its prefixes."""
        if scope["type"] != "http":
            return Match.NONE, {}
        found = self._tree.find(scope.get("raw_path") or scope["path"].encode())
        if found or scope["path"].startswith(OWNED):
            return Match.FULL, {_FOUND: found}
        return Match.NONE, {}

    def url_path_for(self, name: str, /, **path_params: Any) -> Any:
        """Refuse: nothing links to the contract's routes by name."""
        raise NoMatchFound(name, path_params)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        request_id = self._request_id(request)
        bare = scope["path"].startswith(errors.BARE)
        started = time.perf_counter()
        binding: Binding | None = None
        try:
            binding, values = self._choose(request)
            response = await self._answer(request, request_id, binding, values, started)
        except ClientDisconnect:
            return
        except DripstoneError as error:
            response = self._refusal(request, request_id, binding, error, bare)
        except Exception:
            _log.exception("the gateway failed", path=scope["path"], reference=request_id)
            response = self._refusal(request, request_id, binding, InternalError(reference=request_id), bare)
        response.headers["X-Request-Id"] = request_id
        try:
            await response(scope, receive, send)
        except ClientDisconnect:
            return
        finally:
            if isinstance(response, StreamingResponse) and isinstance(response.body_iterator, AsyncGenerator):
                await response.body_iterator.aclose()

    def _request_id(self, request: Request) -> str:
        """Return the caller's id for this request, or one of ours when it brings none that is fit for a log."""
        given = request.headers.get("x-request-id", "")
        return given if _REQUEST_ID.fullmatch(given) else ids.mint("req", self._pipeline.parts.clock.now())

    def _choose(self, request: Request) -> tuple[Binding | None, tuple[str, ...]]:
        """Return the binding of a request; None for OPTIONS. Raises RouteNotFound and MethodNotAllowed."""
        found: list[tuple[dict[str, Binding], tuple[str, ...]]] = request.scope[_FOUND]
        verb = "GET" if request.method == "HEAD" else request.method
        for leaves, values in found:
            binding = leaves.get(verb)
            if binding is not None and not (binding.method.streaming and request.method == "HEAD"):
                return binding, values
        path = request.scope["path"]
        if not found:
            near = did_you_mean(path[:_NEAR_ENOUGH], {each.template.plain for each in self.bindings})
            raise errors.RouteNotFound(path=path[:_NEAR_ENOUGH], near=f"{near} " if near else "")
        if request.method == "OPTIONS":
            return None, ()
        raise errors.MethodNotAllowed(verb=request.method, path=path, allowed=_allowed(found))

    async def _answer(
        self, request: Request, request_id: str, binding: Binding | None, values: tuple[str, ...], started: float
    ) -> Response:
        if binding is None:
            return Response(status_code=204, headers={"Allow": _allowed(request.scope[_FOUND])})
        try:
            message = await self._message(request, binding, values)
        except DripstoneError as error:
            # The pipeline counts what it sees; this never came so far.
            seconds = time.perf_counter() - started
            metrics.rpc_seconds.labels(binding.method.name, str(grpc_code(error))).observe(seconds)
            raise
        metadata = {name: value for name in _PASSED_ON if (value := request.headers.get(name))}
        metadata["x-request-id"] = request_id
        metadata[GATEWAY] = "http"
        if binding.method.streaming:
            return await self._stream(binding, message, metadata, request_id)
        reply = await self._pipeline.unary(binding.method, message, metadata)
        headers = {"Idempotent-Replayed": "true"} if reply.replayed else {}
        if isinstance(reply.message, Empty):
            return Response(status_code=204, headers=headers)
        if etag := getattr(reply.message, "etag", ""):
            headers["ETag"] = etag if etag.endswith('"') else f'"{etag}"'
        content = answers.to_bytes(reply.message)
        return Response(content, binding.method.http_status, headers, "application/json")

    async def _message(self, request: Request, binding: Binding, values: tuple[str, ...]) -> Message:
        # Who has no key gets no further: nobody reads or parses a stranger's body.
        await self._pipeline.authenticator.caller(request.headers.get("authorization", ""))
        keys = request.headers.getlist("idempotency-key")
        if len(keys) > 1:
            raise invalid("Idempotency-Key", "GIVEN_TWICE", "is given twice", "Send the header once.")
        return binding.request(
            values,
            request.scope["query_string"],
            await body.read(request, file=binding.raw_body),
            keys[0] if keys else None,
            request.headers.get("if-match"),
        )

    async def _stream(self, binding: Binding, message: Message, metadata: dict[str, str], request_id: str) -> Response:
        """Return a stream of JSON lines; the first message is awaited, so that a refusal has a status of its own."""
        messages = self._pipeline.stream(binding.method, message, metadata)
        first = await anext(messages, None)
        if binding.raw_answer:
            kind = str(getattr(first, "content_type", "")) or "application/octet-stream"
            return StreamingResponse(_bytes(first, messages, binding.raw_answer), media_type=kind)
        return StreamingResponse(_lines(first, messages, request_id), media_type="application/x-ndjson")

    def _refusal(
        self, request: Request, request_id: str, binding: Binding | None, error: DripstoneError, bare: bool
    ) -> Response:
        if binding is not None and binding.body not in ("", "*"):
            error = errors.as_sent(error, binding.body)
        status = errors.http_status(error, conditional="if-match" in request.headers, bare=bare)
        return errors.answer(error, status, request_id, bare=bare)


async def _lines(first: Message | None, rest: AsyncIterator[Message], request_id: str) -> AsyncGenerator[bytes, None]:
    if first is None:
        return
    async with aclosing(rest):  # type: ignore[type-var]
        try:
            yield answers.to_bytes(first) + b"\n"
            async for message in rest:
                yield answers.to_bytes(message) + b"\n"
        except DripstoneError as error:
            told = errors.body(error, errors.http_status(error), request_id)
            yield json.dumps(told, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


async def _bytes(first: Message | None, rest: AsyncIterator[Message], name: str) -> AsyncGenerator[bytes, None]:
    """Yield a file part by part. An error breaks the transfer off: a file that lacks its end must not look whole."""
    if first is None:
        return
    async with aclosing(rest):  # type: ignore[type-var]
        yield getattr(first, name)
        async for message in rest:
            yield getattr(message, name)


def _allowed(found: list[tuple[dict[str, Binding], tuple[str, ...]]]) -> str:
    """Return the verbs of a path as the Allow header lists them."""
    bound = [binding for leaves, _ in found for binding in leaves.values()]
    verbs = {binding.verb for binding in bound} | {"OPTIONS"}
    if any(binding.verb == "GET" and not binding.method.streaming for binding in bound):
        verbs.add("HEAD")
    return ", ".join(sorted(verbs))
