"""The channel as the stubs of the typed client see it: what goes with every call, and what does not go out at all."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from dripstone.v1 import options_pb2
from dripstone.v1.exchange import Exchange

Metadata = Sequence[tuple[str, str | bytes]]
_sent_along: ContextVar[Metadata] = ContextVar("dripstone_metadata", default=())


class Door:
    """The channel as the stubs see it: adds the key, a deadline, and to writes the id that makes a retry safe.

    Does what client interceptors would do without the task per call that `grpc.aio` spends on them, and lets several
    keys share one channel.
    """

    def __init__(
        self, channel: grpc.aio.Channel, api_key: str | None, deadline: float, metadata: Metadata, *, reads_only: bool
    ) -> None:
        self._channel = channel
        self._reads_only = reads_only
        self._metadata = (*((("authorization", f"Bearer {api_key}"),) if api_key else ()), *metadata)
        self._deadline = deadline

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Callable[..., Any]:
        """Return the call of a plain method."""
        if self._reads_only and not _reads(method):
            return _refused
        call = cast(Callable[..., Any], self._channel.unary_unary(method, *arguments, **options))
        id_field = _id_field(method)

        def invoke(
            request: Message, *, timeout: float | None = None, metadata: Metadata | None = None, **rest: Any
        ) -> Any:
            return call(
                _with_id(request, id_field),
                timeout=self._deadline if timeout is None else timeout,
                metadata=(*self._metadata, *_sent_along.get(), *(metadata or ())),
                **rest,
            )

        return invoke

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Callable[..., Any]:
        """Return the call of a streaming method; a stream has no deadline unless its caller sets one."""
        if self._reads_only and not _reads(method):
            return _refused
        return self._streaming(self._channel.unary_stream(method, *arguments, **options))

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> Callable[..., Any]:
        """Return the call of a method that both sides stream."""
        if self._reads_only and not _reads(method):
            return _refused
        start = self._streaming(self._channel.stream_stream(method, *arguments, **options))
        return lambda *sent, **options: Exchange(start(*sent, **options))

    def _streaming(self, call: Any) -> Callable[..., Any]:
        def invoke(sent: Any = None, *, metadata: Metadata | None = None, **rest: Any) -> Any:
            return call(sent, metadata=(*self._metadata, *_sent_along.get(), *(metadata or ())), **rest)

        return invoke


@contextmanager
def sending(*metadata: tuple[str, str | bytes]) -> Iterator[None]:
    """Send metadata along with every call that this task makes inside the block, by whichever client."""
    token = _sent_along.set((*_sent_along.get(), *metadata))
    try:
        yield
    finally:
        _sent_along.reset(token)


def _reads(path: str) -> bool:
    """Tell whether a method reads, or works something out of what can be read and keeps nothing."""
    options = descriptor_pool.Default().FindMethodByName(path.strip("/").replace("/", ".")).GetOptions()
    access, scope = options.Extensions[options_pb2.access], options.Extensions[options_pb2.scope]
    return access == options_pb2.ACCESS_READ or (access == options_pb2.ACCESS_OUTSIDE and scope.endswith(":read"))


def _refused(*_sent: Any, **_options: Any) -> Any:
    raise grpc.aio.AioRpcError(
        grpc.StatusCode.PERMISSION_DENIED, grpc.aio.Metadata(), grpc.aio.Metadata(), "This connection only reads."
    )


def _id_field(path: str) -> str:
    return id_field_of(descriptor_pool.Default().FindMethodByName(path.strip("/").replace("/", ".")))


def id_field_of(method: Any) -> str:
    """Return the request's idempotency field; empty for reads and for what acts outside the database."""
    if method.GetOptions().Extensions[options_pb2.access] != options_pb2.ACCESS_WRITE:
        return ""
    return next((name for name in ("request_id", "idempotency_key") if name in method.input_type.fields_by_name), "")


def _with_id(request: Message, id_field: str) -> Message:
    """Give a write that has no idempotency key one of its own: an answer lost on the way must not act twice."""
    if not id_field or getattr(request, id_field) or getattr(request, "validate_only", False):
        return request
    request = type(request).FromString(request.SerializeToString())
    setattr(request, id_field, f"auto-{os.urandom(12).hex()}")  # not core.ids: this file runs in other programs
    return request
