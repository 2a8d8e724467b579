"""Asking a running core the same thing over gRPC and over HTTP, and reading both answers alike."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote, urlencode

import grpc
import httpx2

from core.gateway import answers, body
from core.gateway.bindings import WHOLE, Binding, bindings
from core.gateway.problems import Problems
from core.rpc.methods import Method
from dripstone.v1.errors import ApiError


@dataclass(frozen=True, slots=True)
class Said:
    """What came back: an answer, or a refusal."""

    answer: Any = None
    code: str = ""
    """Canonical status of a refusal; empty for an answer."""
    reason: str = ""
    message: str = ""
    violations: Mapping[str, str] = field(default_factory=dict)
    """Field to reason."""
    replayed: bool = False
    raw: bytes = b""
    """The file, where the answer is one."""


class Way(Protocol):
    """A transport."""

    name: str

    async def ask(self, method: Method, request: Any, key: str, *, take: int = 0) -> Said:
        """Ask; `take` ends a stream after so many messages."""
        ...


class Grpc:
    """By gRPC; requests are written as HTTP's JSON has them, enum numbers may stand as numbers."""

    name = "grpc"

    def __init__(self, channel: grpc.aio.Channel):
        self._channel = channel

    async def ask(self, method: Method, request: Any, key: str, *, take: int = 0) -> Said:
        """Ask; `take` ends a stream after so many messages."""
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        serializers = {
            "request_serializer": method.request_class.SerializeToString,
            "response_deserializer": method.response_class.FromString,
        }
        try:
            if method.streaming:
                if method.client_streaming:
                    sent = iter([_message(method, one) for one in request])
                    call: Any = self._channel.stream_stream(method.full_name, **serializers)(sent, metadata=metadata)
                else:
                    stream = self._channel.unary_stream(method.full_name, **serializers)
                    call = stream(_message(method, request), metadata=metadata, timeout=20)
                return _streamed([message async for message in _first(call, take)])
            call = self._channel.unary_unary(method.full_name, **serializers)(
                _message(method, request), metadata=metadata, timeout=20
            )
            answer = answers.to_json(await call)
            replayed = any(name == "dripstone-replayed" for name, _ in await call.trailing_metadata())
        except grpc.aio.AioRpcError as error:
            told = ApiError.of(error)
            found = {one.field: one.reason for one in told.violations}
            return Said(None, told.code, told.reason, told.message, found)
        return Said(answer, replayed=replayed)


class Http:
    """By HTTP, along the first route of a method whose path the request fills."""

    name = "http"

    def __init__(self, http: httpx2.AsyncClient):
        self.http = http

    async def ask(self, method: Method, request: Any, key: str, *, take: int = 0) -> Said:
        """Ask; `take` ends a stream after so many messages."""
        binding = _route(method, request)
        url, content = _url_and_body(binding, request)
        headers = {"authorization": f"Bearer {key}"} if key else {}
        async with self.http.stream(binding.verb, url, headers=headers, json=content) as response:
            if take and response.status_code == 200:
                lines = [line async for line in _first(response.aiter_lines(), take)]
                return Said([json.loads(line) for line in lines])
            raw = await response.aread()
        if response.status_code >= 400:
            told = json.loads(raw)["error"]
            if isinstance(told, str):  # the bare form of capture routes
                return Said(None, "INVALID_ARGUMENT", "", told)
            prefix = f"{binding.body}." if binding.body not in ("", WHOLE) else ""
            found = {one["field"]: one["reason"] for one in told["details"]}
            both = found | {prefix + name: reason for name, reason in found.items()}
            return Said(None, told["status"], told["reason"], told["message"], both)
        replayed = response.headers.get("idempotent-replayed") == "true"
        if response.status_code == 204:
            return Said({}, replayed=replayed)
        if method.streaming:
            return Said(_lines(raw), raw=raw)
        return Said(json.loads(raw), replayed=replayed)


@asynccontextmanager
async def ways(grpc_target: str, http_url: str) -> AsyncIterator[tuple[Grpc, Http]]:
    """Open both transports."""
    options = [("grpc.max_receive_message_length", 64 * 1024 * 1024)]
    async with (
        grpc.aio.insecure_channel(grpc_target, options=options) as channel,
        httpx2.AsyncClient(base_url=http_url, timeout=20, verify=False) as http,
    ):
        yield Grpc(channel), Http(http)


async def _first(stream: Any, take: int) -> AsyncIterator[Any]:
    count = 0
    async for one in stream:
        yield one
        count += 1
        if count == take:
            if hasattr(stream, "cancel"):
                stream.cancel()
            return


def _streamed(messages: list[Any]) -> Said:
    raw = b"".join(getattr(message, "content", b"") for message in messages) if messages else b""
    if raw:
        return Said(None, raw=raw)
    return Said([answers.to_json(message) for message in messages])


def _lines(raw: bytes) -> Any:
    try:
        return [json.loads(line) for line in raw.splitlines()]
    except ValueError:
        return None


def _message(method: Method, request: Mapping[str, Any]) -> Any:
    message = method.request_class()
    plain = dict(request)
    numbers = {
        name: plain.pop(name)
        for name, value in request.items()
        if isinstance(value, int) and message.DESCRIPTOR.fields_by_name[name].enum_type is not None
    }
    problems = Problems()
    body.fill(message, plain, "", problems)
    problems.refuse()
    for name, number in numbers.items():
        setattr(message, name, number)
    return message


def _route(method: Method, request: Mapping[str, Any]) -> Binding:
    def filled(binding: Binding) -> bool:
        rest = json.loads(json.dumps(request))
        return all(_popped(rest, path) for path in binding.template.variables)

    routes = list(bindings(method))
    return next(filter(filled, routes), routes[0])


def _url_and_body(binding: Binding, request: Mapping[str, Any]) -> tuple[str, Any]:
    rest = json.loads(json.dumps(request))
    url = binding.template.text
    for path in binding.template.variables:
        url = url.replace(f"{{{path}}}", quote(str(_popped(rest, path)), safe=""))
    content = None
    if binding.body == WHOLE:
        content, rest = rest, {}
    elif binding.body:
        content = rest.pop(binding.body, {})
    query = urlencode(list(_parameters(rest, "")))
    return (f"{url}?{query}" if query else url), content


def _popped(request: Any, path: str) -> Any:
    *above, last = path.split(".")
    for name in above:
        request = request.get(name, {})
    return request.pop(last, "")


def _parameters(value: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for inner, one in value.items():
            yield from _parameters(one, f"{name}.{inner}" if name else inner)
    elif isinstance(value, list):
        for one in value:
            yield from _parameters(one, name)
    else:
        yield name, str(value).lower() if isinstance(value, bool) else str(value)
