"""The adapter for callers in this very process: a gRPC channel that leads to the pipeline without a wire.

The typed client works over it as over any other: same admission, same statuses and details, same limits, messages that
nobody shares. What it saves is HTTP/2 and a socket, most of what a small call costs on either side.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Sequence
from contextvars import copy_context
from functools import partial
from typing import Any

import grpc
import structlog

from core.rpc.in_process_calls import Call, ExchangeCall, PlainCall, StreamCall
from core.rpc.in_process_work import Route, Status, TooLarge, Work
from core.rpc.methods import Method
from core.rpc.pipeline import Pipeline
from core.rpc.server import MOST_CONCURRENT_CALLS

_log = structlog.get_logger()
_LEGAL_NAME = re.compile(r"[a-z0-9_.-]+")
"""Other names are this process's own, such as the gateway's mark: nobody may send them."""

_LARGEST_METADATA = 16 * 1024
"""In bytes, which is gRPC's own limit."""

_GOING = Status(grpc.StatusCode.UNAVAILABLE, "This process is going away.")
_CROWDED = Status(grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
_TOO_MUCH_METADATA = Status(grpc.StatusCode.RESOURCE_EXHAUSTED, "received metadata size exceeds hard limit")
_FAILED = Status(grpc.StatusCode.INTERNAL, "The call failed; the cause is in the log.")


class InProcessChannel(grpc.aio.Channel):
    """A channel to the method table of this process, for any number of clients."""

    def __init__(self, methods: Sequence[Method], pipeline: Pipeline):
        self._methods = {method.full_name: method for method in methods}
        self._pipeline = pipeline
        self._under_way: dict[asyncio.Task[None], Work] = {}
        self._closing = asyncio.Event()
        self._context = copy_context()
        """Of calls: what a caller's task carries along does not reach handlers, as it would not by the wire."""

    def unary_unary(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Return the call of a plain method."""
        return self._calling(PlainCall, method, *arguments, **options)

    def unary_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Return the call of a method that answers with a stream."""
        return self._calling(StreamCall, method, *arguments, **options)

    def stream_stream(self, method: str, *arguments: Any, **options: Any) -> Any:
        """Return the call of a method that both sides stream."""
        return self._calling(ExchangeCall, method, *arguments, **options)

    def stream_unary(self, method: str, *_arguments: Any, **_options: Any) -> Any:
        """Refuse: the contract has no such method."""
        raise NotImplementedError(method)

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, give those under way `grace` seconds, then tell the rest that they were given up.

        The work of plain calls goes on; it is the pipeline's `finish` that waits for it.
        """
        self._closing.set()
        if grace and self._under_way:
            await asyncio.wait(tuple(self._under_way), timeout=grace)
        left = dict(self._under_way)
        for work in left.values():
            work.finish(_GOING)
        await asyncio.gather(*(task for task, work in left.items() if work.task is task), return_exceptions=True)

    async def __aenter__(self) -> InProcessChannel:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return whether calls are taken."""
        return grpc.ChannelConnectivity.SHUTDOWN if self._closing.is_set() else grpc.ChannelConnectivity.READY

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Return once calls are taken no more, or were not when this was asked."""
        if self.get_state() is last_observed_state:
            await self._closing.wait()

    async def channel_ready(self) -> None:
        """Return at once: there is nothing to connect to."""

    def _calling(
        self,
        kind: type[Call],
        path: str,
        request_serializer: Callable[[Any], bytes],
        response_deserializer: Callable[[bytes], Any],
        **_options: Any,
    ) -> Callable[..., Call]:
        route = Route(self._pipeline, self._methods[path], request_serializer, response_deserializer, self._closing)
        return partial(self._begin, kind, route)

    def _begin(
        self,
        kind: type[Call],
        route: Route,
        sent: Any = None,
        *,
        timeout: float | None = None,
        metadata: Sequence[tuple[str, str | bytes]] | None = None,
        **_options: Any,
    ) -> Call:
        """Begin a call as stubs do: it is under way before anybody waits for it."""
        work = Work()
        call = kind(work, route)
        told = metadata or ()
        refusal = self._refusal(told)
        if refusal is None:
            try:
                carried = call.carried(sent, {name: value for name, value in told if isinstance(value, str)})
            except TooLarge as error:
                refusal = error.status
            else:
                self._start(work, carried, timeout, to_its_end=kind is PlainCall)
        if refusal is not None:
            work.finish(refusal)
        return call

    def _refusal(self, metadata: Sequence[tuple[str, str | bytes]]) -> Status | None:
        """Return why a call is not taken; None for one that is. Raises ValueError for names that nobody may send."""
        if not all(_LEGAL_NAME.fullmatch(name) for name, _ in metadata):
            raise ValueError("names of metadata are lower-case letters, digits and `_.-`")
        if self._closing.is_set():
            return _GOING
        if len(self._under_way) >= MOST_CONCURRENT_CALLS:
            return _CROWDED
        if sum(len(name) + len(value) for name, value in metadata) > _LARGEST_METADATA:
            return _TOO_MUCH_METADATA
        return None

    def _start(
        self, work: Work, carried: Coroutine[Any, Any, None], timeout: float | None, *, to_its_end: bool
    ) -> None:
        context = self._context.copy()
        if to_its_end:
            task = self._pipeline.parts.under_way.begin(carried, context)
        else:
            task = work.task = work.loop.create_task(carried, context=context)
        self._under_way[task] = work
        task.add_done_callback(partial(self._done, work))
        work.end_within(timeout)

    def _done(self, work: Work, task: asyncio.Task[None]) -> None:
        del self._under_way[task]
        if task.cancelled():
            work.ended.cancel()
        elif (error := task.exception()) is not None:
            _log.error("a call inside the process failed", exc_info=error)
            work.finish(_FAILED)
