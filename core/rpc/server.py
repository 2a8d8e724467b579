"""The gRPC adapter: generic handlers over the method table, with health and reflection beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from core.domain.errors import DripstoneError
from core.rpc.errors import to_status
from core.rpc.methods import Method
from core.rpc.pipeline import Pipeline

REPLAYED = "dripstone-replayed"
"""Trailing metadata of an answer that was given before."""

MOST_CONCURRENT_CALLS = 1_000
LARGEST_REQUEST = 11 * 1024 * 1024
"""In bytes: a file of an import, and what goes with it."""
_OPTIONS = (
    ("grpc.max_receive_message_length", LARGEST_REQUEST),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    # Connections age so that long-lived clients spread over new processes.
    ("grpc.max_connection_age_ms", 30 * 60_000),
    ("grpc.max_connection_age_grace_ms", 60_000),
    ("grpc.so_reuseport", 0),
)

Context = grpc.aio.ServicerContext[Any, Any]


class GrpcServer:
    """Serves the method table over gRPC until stopped."""

    def __init__(self, methods: Sequence[Method], pipeline: Pipeline):
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=MOST_CONCURRENT_CALLS)
        self._health = health_aio.HealthServicer()
        by_service: dict[str, dict[str, grpc.RpcMethodHandler[Any, Any]]] = {}
        for method in methods:
            _, service, name = method.full_name.split("/")
            by_service.setdefault(service, {})[name] = _handler(method, pipeline)
        self._services = tuple(by_service)
        self._server.add_generic_rpc_handlers(
            tuple(grpc.method_handlers_generic_handler(service, handlers) for service, handlers in by_service.items())
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        reflection.enable_server_reflection((*self._services, health_name, reflection.SERVICE_NAME), self._server)

    async def start(self, addresses: Sequence[tuple[str, grpc.ServerCredentials | None]]) -> list[int]:
        """Listen on every `(host:port, credentials)` and return the ports. Raises RuntimeError for a taken one."""
        ports = [
            self._server.add_insecure_port(address)
            if credentials is None
            else self._server.add_secure_port(address, credentials)
            for address, credentials in addresses
        ]
        await self._server.start()
        for service in ("", *self._services):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        return ports

    async def stop(self, grace: float) -> None:
        """Say that it is going, refuse new calls, give those under way `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)


def _metadata(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _handler(method: Method, pipeline: Pipeline) -> grpc.RpcMethodHandler[Any, Any]:
    async def unary(request: Message, context: Context) -> Message | None:
        try:
            reply = await pipeline.unary(method, request, _metadata(context))
        except DripstoneError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))
            return None
        if reply.replayed:
            context.set_trailing_metadata(((REPLAYED, "true"),))
        return reply.message

    async def stream(request: Message, context: Context) -> AsyncIterator[Message]:
        try:
            async for message in pipeline.stream(method, request, _metadata(context)):
                yield message
        except DripstoneError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))

    async def exchange(requests: AsyncIterator[Message], context: Context) -> AsyncIterator[Message]:
        try:
            async for message in pipeline.exchange(method, requests, _metadata(context)):
                yield message
        except DripstoneError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))

    shapes: Mapping[str, Callable[..., Any]] = {
        "request_deserializer": method.request_class.FromString,
        "response_serializer": method.response_class.SerializeToString,
    }
    if method.client_streaming:
        return grpc.stream_stream_rpc_method_handler(exchange, **shapes)
    if method.streaming:
        return grpc.unary_stream_rpc_method_handler(stream, **shapes)
    return grpc.unary_unary_rpc_method_handler(unary, **shapes)
