"""Calls over the channel inside this process, as a gRPC client holds them: awaited, read, written, cancelled.

A call that is dropped before it has ended is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any

import grpc

from core.rpc.in_process_work import (
    Metadata,
    Pipe,
    Route,
    Status,
    Work,
    answer_in_stream,
    answer_plainly,
    feed,
    put,
)


class Call(grpc.aio.Call):
    """What every call can be asked; each kind adds how it is carried out."""

    def __init__(self, work: Work, route: Route):
        self._work = work
        self._route = route

    def __del__(self) -> None:
        if not self._work.ended.done() and not self._work.loop.is_closed():
            self._work.loop.call_soon_threadsafe(self._work.ended.cancel)

    def carried(self, sent: Any, metadata: Metadata) -> Coroutine[Any, Any, None]:
        """Return the work, which knows nothing of this handle. Raises TooLarge."""
        raise NotImplementedError

    def cancelled(self) -> bool:
        """Tell whether the client gave it up."""
        return self._work.ended.cancelled()

    def done(self) -> bool:
        """Tell whether it has ended."""
        return self._work.ended.done()

    def time_remaining(self) -> float | None:
        """Return the seconds until its deadline; None for no deadline."""
        return self._work.seconds_left

    def cancel(self) -> bool:
        """Give it up; tell whether it was still under way."""
        return self._work.ended.cancel()

    def add_done_callback(self, callback: Callable[[Any], Any]) -> None:
        """Have a function called with this call once it has ended."""
        self._work.ended.add_done_callback(lambda _: callback(self))

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return nothing: the core sends none ahead of its answers."""
        return grpc.aio.Metadata()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Return what came with the status, once it has ended."""
        return grpc.aio.Metadata(*(await self._status()).trailing)

    async def code(self) -> grpc.StatusCode:
        """Return the status code, once it has ended."""
        return (await self._status()).code

    async def details(self) -> str:
        """Return the status in words, once it has ended."""
        return (await self._status()).details

    async def wait_for_connection(self) -> None:
        """Return at once, as there is no connection. Raises the status of a call that has failed."""
        if self.done():
            self._raise_for_status()

    async def _status(self) -> Status:
        if not self._work.ended.done():
            await asyncio.wait([self._work.ended])  # given up, such a wait does not give up the call
        return self._work.status

    def _raise_for_status(self) -> None:
        if self._work.ended.cancelled():
            raise asyncio.CancelledError
        if self._work.status.code is not grpc.StatusCode.OK:
            raise self._work.status.error()


class PlainCall(Call, grpc.aio.UnaryUnaryCall[Any, Any]):
    """One request, one answer."""

    def __await__(self) -> Generator[Any, None, Any]:
        status = yield from self._work.ended.__await__()  # cancelled with whoever waits
        if status.code is not grpc.StatusCode.OK:
            raise status.error()
        return self._work.message

    def carried(self, sent: Any, metadata: Metadata) -> Coroutine[Any, Any, None]:
        """Return the work."""
        return answer_plainly(self._work, self._route, self._route.content(sent), metadata)


class _Answers(Call):
    """What is common to calls that are answered by a stream."""

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        message = await self.read()
        if message is grpc.aio.EOF:
            raise StopAsyncIteration
        return message

    async def read(self) -> Any:
        """Return the next answer, `grpc.aio.EOF` after the last. Raises grpc.aio.AioRpcError."""
        try:
            if self._work.answers is not None and not self.cancelled():
                return await anext(self._work.answers)
        except StopAsyncIteration:
            pass
        except asyncio.CancelledError:
            self.cancel()
            raise
        await self._status()
        self._raise_for_status()
        return grpc.aio.EOF


class StreamCall(_Answers, grpc.aio.UnaryStreamCall[Any, Any]):
    """One request, a stream of answers."""

    def carried(self, sent: Any, metadata: Metadata) -> Coroutine[Any, Any, None]:
        """Return the work."""
        route, content = self._route, self._route.content(sent)
        answers = self._work.answers = Pipe()
        return answer_in_stream(
            self._work, answers, route, lambda: route.pipeline.stream(route.method, route.request(content), metadata)
        )


class ExchangeCall(_Answers, grpc.aio.StreamStreamCall[Any, Any]):
    """A stream of requests, a stream of answers."""

    def carried(self, sent: Any, metadata: Metadata) -> Coroutine[Any, Any, None]:
        """Return the work; what an iterator gives is sent for the client."""
        work, route = self._work, self._route
        answers, requests = work.answers, work.sent = Pipe(), Pipe()
        if sent is not None:
            work.feeding = asyncio.create_task(feed(work, requests, route, sent))
        return answer_in_stream(work, answers, route, lambda: route.pipeline.exchange(route.method, requests, metadata))

    async def write(self, request: Any) -> None:
        """Send a message once there is room. Raises grpc.aio.AioRpcError, and InvalidStateError after the end."""
        if self.done() or self._work.sent is None:
            raise asyncio.InvalidStateError("RPC already finished.")
        if self._work.feeding is not None:
            raise grpc.aio.UsageError("The iterator and read/write APIs may not be mixed on a single RPC.")
        try:
            if not await put(self._work, self._work.sent, self._route, request):
                self._raise_for_status()
                raise asyncio.InvalidStateError('RPC is half closed after calling "done_writing".')
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def done_writing(self) -> None:
        """Say that nothing more will be sent."""
        if self._work.sent is not None:
            self._work.sent.close()
