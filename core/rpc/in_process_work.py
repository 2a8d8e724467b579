"""What goes on behind a call over the channel inside this process, whoever holds the call or has dropped it.

The future `Work.ended` is the call's state: a status once it has ended, cancelled where the client gave up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, NamedTuple

import grpc
import structlog
from google.protobuf.message import Message
from grpc_status import rpc_status

from core.domain.errors import DripstoneError, TookTooLong
from core.domain.frozen import frozen
from core.rpc.errors import to_status
from core.rpc.methods import Access, Method
from core.rpc.pipeline import LONGEST_CALL_SECONDS, Pipeline
from core.rpc.server import LARGEST_REQUEST, REPLAYED

_log = structlog.get_logger()
_READ_AHEAD = 16
"""Messages of a stream that wait to be taken; whoever sends more waits, as for the window of a connection."""

_PAUSES = (0.1, 0.2, 0.4)
"""Seconds before each further try of what is unavailable, as in the service config of the typed client."""

Metadata = dict[str, str]


class Status(NamedTuple):
    """How a call ended."""

    code: grpc.StatusCode
    details: str = ""
    trailing: tuple[tuple[str, str | bytes], ...] = ()

    def error(self) -> grpc.aio.AioRpcError:
        """Return what the client is to raise."""
        return grpc.aio.AioRpcError(self.code, grpc.aio.Metadata(), grpc.aio.Metadata(*self.trailing), self.details)


_OK = Status(grpc.StatusCode.OK)
_REPLAYED = Status(grpc.StatusCode.OK, trailing=((REPLAYED, "true"),))
_CANCELLED = Status(grpc.StatusCode.CANCELLED, "Locally cancelled by application!")
_TOO_LATE = Status(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")


def _told(error: DripstoneError) -> Status:
    told = rpc_status.to_status(to_status(error))
    return Status(told.code, told.details, told.trailing_metadata)


class TooLarge(Exception):
    """A message is longer than the server takes."""

    def __init__(self, size: int):
        told = f"SERVER: Received message larger than max ({size} vs. {LARGEST_REQUEST})"
        self.status = Status(grpc.StatusCode.RESOURCE_EXHAUSTED, told)


@frozen
class Route:
    """Where calls of one method go, and how messages are copied on the way there and back."""

    pipeline: Pipeline
    method: Method
    serialize: Callable[[Any], bytes]
    deserialize: Callable[[bytes], Any]
    closing: asyncio.Event
    """Set once no try is worth repeating."""

    def content(self, message: Message) -> bytes:
        """Return the bytes of a request. Raises TooLarge."""
        content = self.serialize(message)
        if len(content) > LARGEST_REQUEST:
            raise TooLarge(len(content))
        return content

    def request(self, content: bytes) -> Message:
        """Return a request of nobody else's."""
        return self.method.request_class.FromString(content)

    def answer(self, message: Message) -> Any:
        """Return an answer of nobody else's."""
        return self.deserialize(message.SerializeToString())

    @property
    def repeatable(self) -> bool:
        """Tell whether a call may be tried again without acting twice."""
        return self.method.access is Access.READ or (self.method.access is Access.WRITE and bool(self.method.key_field))


class Pipe:
    """Messages on their way in one direction, a few at most."""

    def __init__(self) -> None:
        self.used = False
        self._held: deque[Any] = deque()
        self._closed = False
        self._there = asyncio.Event()
        """Set while something is held, or nothing more will come."""
        self._room = asyncio.Event()
        self._room.set()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        await self._there.wait()
        if not self._held:
            raise StopAsyncIteration
        message = self._held.popleft()
        self._room.set()
        if not self._held and not self._closed:
            self._there.clear()
        return message

    async def put(self, message: Any) -> bool:
        """Send a message once there is room; tell whether it was sent before the pipe was closed."""
        await self._room.wait()
        if self._closed:
            return False
        self.used = True
        self._held.append(message)
        self._there.set()
        if len(self._held) >= _READ_AHEAD:
            self._room.clear()
        return True

    def close(self) -> None:
        """Send nothing more; what is held can still be taken."""
        self._closed = True
        self._there.set()
        self._room.set()


class Work:
    """What goes on behind a call."""

    __slots__ = ("_limit", "_timer", "answers", "ended", "feeding", "loop", "message", "sent", "task")

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[Status] = self.loop.create_future()
        self.ended.add_done_callback(self._over)
        self.message: Any = None
        self.answers: Pipe | None = None
        self.sent: Pipe | None = None
        self.task: asyncio.Task[None] | None = None
        """What is cancelled when the call ends; None for a plain call, whose work goes on."""
        self.feeding: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._limit: asyncio.TimerHandle | None = None

    def end_within(self, timeout: float | None) -> None:
        """End after `timeout` seconds at most; a plain call ends when it has taken longer than any may, too."""
        if timeout is not None:
            self._timer = self.loop.call_later(timeout, self.finish, _TOO_LATE)
        if self.task is None and (timeout is None or timeout > LONGEST_CALL_SECONDS):
            told = _told(TookTooLong(limit=LONGEST_CALL_SECONDS))
            self._limit = self.loop.call_later(LONGEST_CALL_SECONDS, self.finish, told)

    def finish(self, status: Status) -> None:
        """End with a status, unless it has ended already."""
        if not self.ended.done():
            self.ended.set_result(status)

    @property
    def status(self) -> Status:
        """Return how it ended."""
        return _CANCELLED if self.ended.cancelled() else self.ended.result()

    @property
    def seconds_left(self) -> float | None:
        """Return the time until the deadline; None for no deadline."""
        return None if self._timer is None else max(0.0, self._timer.when() - self.loop.time())

    def _over(self, _ended: asyncio.Future[Status]) -> None:
        for timer in (self._timer, self._limit):
            if timer is not None:
                timer.cancel()
        for task in (self.task, self.feeding):
            if task is not None and not task.done():
                task.cancel()
        for pipe in (self.answers, self.sent):
            if pipe is not None:
                pipe.close()


async def answer_plainly(work: Work, route: Route, content: bytes, metadata: Metadata) -> None:
    """Carry out a plain call, to its end even when it is given up meanwhile."""

    async def once() -> Status:
        reply = await route.pipeline.unary_under_way(route.method, route.request(content), metadata)
        work.message = route.answer(reply.message)
        return _REPLAYED if reply.replayed else _OK

    if not work.ended.done():  # else it was given up before it began
        work.finish(await _tried(work, once, route))


async def answer_in_stream(
    work: Work, answers: Pipe, route: Route, begin: Callable[[], AsyncIterator[Message]]
) -> None:
    """Carry out a call whose answers are the stream that `begin` returns."""

    async def once() -> Status:
        async with aclosing(begin()) as messages:  # type: ignore[type-var]
            async for message in messages:
                await answers.put(route.answer(message))
        return _OK

    work.finish(await _tried(work, once, route))


async def feed(work: Work, sent: Pipe, route: Route, messages: Any) -> None:
    """Send what an iterator gives; one that fails gives the call up."""
    try:
        if isinstance(messages, AsyncIterable):
            async for message in messages:
                await put(work, sent, route, message)
        else:
            for message in messages:
                await put(work, sent, route, message)
        sent.close()
    except Exception as error:
        _log.error("what a client was sending broke off", method=route.method.name, exc_info=error)
        work.ended.cancel()


async def put(work: Work, sent: Pipe, route: Route, message: Message) -> bool:
    """Send one message of a client; tell whether it went."""
    try:
        return await sent.put(route.request(route.content(message)))
    except TooLarge as error:
        work.finish(error.status)
        return False


async def _tried(work: Work, once: Callable[[], Awaitable[Status]], route: Route) -> Status:
    """Return how the work ends, tried again while it is unavailable and nobody has seen an answer of it."""
    pauses = iter(_PAUSES if route.repeatable else ())
    while True:
        try:
            return await once()
        except DripstoneError as error:
            status = _told(error)
        pause = next(pauses, None)
        if status.code is not grpc.StatusCode.UNAVAILABLE or pause is None or route.closing.is_set():
            return status
        if work.answers is not None and work.answers.used:
            return status
        await asyncio.sleep(pause)
        if work.ended.done():
            return status
