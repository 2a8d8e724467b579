"""What a client sends as it goes: read ahead within bounds, and handed out in batches that are each admitted.

Reading stops while a batch waits to be taken, so a client that sends faster than this process commits is slowed down by
the transport's own flow control, and nothing piles up here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any

from google.protobuf.message import DecodeError, Message

from core.domain.errors import invalid

MOST_AT_ONCE = 256
"""Messages of one batch."""

LARGEST_BATCH = 4 * 1024 * 1024
"""Bytes after which no more is read ahead."""


class ClientStream:
    """The messages of one call, in the order in which they were sent."""

    def __init__(self, messages: AsyncIterable[Message], admit: Callable[[], Awaitable[None]], draining: asyncio.Event):
        self._messages = messages
        self._admit = admit
        self._draining = draining
        self._held: list[Message] = []
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._there = asyncio.Event()
        """Set while something is held, or nothing more will come."""
        self._over = False
        self._failure: Exception | None = None

    async def batches(self) -> AsyncIterator[list[Any]]:
        """Yield what is there, without waiting for more, until the client has sent all or this process is going away.

        What was read before that is still handed out. Raises what admission raises, and Invalid for bytes that are no
        message.
        """
        tasks = (asyncio.create_task(self._read()), asyncio.create_task(self._leave()))
        try:
            while batch := await self._next():
                await self._admit()
                yield batch
            if self._failure is not None:
                raise self._failure
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _next(self) -> list[Message]:
        await self._there.wait()
        batch, self._held, self._bytes = self._held, [], 0
        if not self._over:
            self._there.clear()
        self._room.set()
        return batch

    async def _read(self) -> None:
        try:
            async for message in self._messages:
                if self._over:
                    return  # it came after the end that this process set; the client sends it again elsewhere
                self._held.append(message)
                self._bytes += message.ByteSize()
                self._there.set()
                if len(self._held) >= MOST_AT_ONCE or self._bytes >= LARGEST_BATCH:
                    self._room.clear()
                await self._room.wait()
        except DecodeError:
            hint = "Send the messages of the contract."
            self._failure = invalid("request", "NOT_DECODABLE", "what was sent is no such message", hint)
        except Exception as error:
            self._failure = error
        finally:
            self._end()

    async def _leave(self) -> None:
        await self._draining.wait()
        self._end()

    def _end(self) -> None:
        self._over = True
        self._there.set()
