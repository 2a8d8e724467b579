"""A call that both sides stream, which tells why the server ended it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from typing import Any

import grpc
from google.protobuf.message import Message

_WRITTEN_TOO_LATE = "Internal error from Core"
"""What `grpc.aio` makes of a message that could not be written any more."""

_STATUS_SECONDS = 1.0
"""How long the server's own word on a call that has ended may take to come up in this process."""


class Exchange:
    """A streaming call of `grpc.aio` that keeps the first status which came from the server.

    A message that is written while the server ends the call fails, and `grpc.aio` takes that failure for the call's
    status, be the server's own there already or not: an internal error in place of the reason.
    """

    def __init__(self, call: Any) -> None:
        """Follow a call that has just begun."""
        self._call = call
        self._told: grpc.aio.AioRpcError | None = None
        self._ended = asyncio.Event()
        call.add_done_callback(self._keep)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for answer in self._call:
                yield answer
        except grpc.aio.AioRpcError as error:
            raise await self._reason(error) from None

    async def read(self) -> Any:
        """Return the next answer, or `grpc.aio.EOF`. Raises grpc.aio.AioRpcError."""
        try:
            return await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise await self._reason(error) from None

    async def write(self, request: Message) -> None:
        """Send a message. Raises grpc.aio.AioRpcError."""
        try:
            await self._call.write(request)
        except grpc.aio.AioRpcError as error:
            raise await self._reason(error) from None

    def _keep(self, call: Any) -> None:
        details = _at_once(call.details())
        if details != _WRITTEN_TOO_LATE and self._told is None:
            code, first, last = _at_once(call.code()), call.initial_metadata(), call.trailing_metadata()
            self._told = grpc.aio.AioRpcError(code, _at_once(first), _at_once(last), details)
            self._ended.set()

    async def _reason(self, error: grpc.aio.AioRpcError) -> grpc.aio.AioRpcError:
        if error.details() != _WRITTEN_TOO_LATE:
            return error
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _STATUS_SECONDS)
        return self._told or error


def _at_once(question: Coroutine[Any, Any, Any]) -> Any:
    """Return what a call that has ended answers without waiting: a moment later it may say something else."""
    try:
        question.send(None)
    except StopIteration as answered:
        return answered.value
    question.close()
    return None
