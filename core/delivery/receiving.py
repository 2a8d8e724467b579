"""What one connection takes in: a receiver can neither flood it before its answer nor answer what nobody asked yet.

aiohttp parses whatever has arrived before anybody may look at it: a flood of `103 Early Hints` takes the whole event
loop and hundreds of megabytes, and bytes after an answer would pass for the answer to the next request.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage
from aiohttp.streams import StreamReader

_READ_AHEAD = 1 << 16
"""Bytes of an answer's body that may wait to be read; twice as many stop the receiver."""

MAX_HEADS = 100
"""Heads of one answer: the final one and those before it, such as `103 Early Hints`; browsers give up sooner."""

_END = b"\r\n\r\n"


class Connector(aiohttp.TCPConnector):
    """Makes connections that take in one answer at a time."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._factory = cast("partial[ResponseHandler]", partial(Receiving, loop=self._loop))


class Receiving(ResponseHandler):
    """Hands the parser one head at a time, and nothing after the end of an answer."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        super().__init__(loop)
        self._awaited = False
        """A request was sent, and the head of its final answer has not been read."""
        self._used = False
        """It has carried a request."""
        self._heads = 0
        self._last = b""
        """What the previous bytes ended with: an end may come in parts."""

    def begin(self) -> bool:
        """Get ready for the answer to the next request; tell whether there was one before it."""
        self._awaited, self._heads, self._last = True, 0, b""
        self.set_response_params(read_until_eof=True, auto_decompress=False, read_bufsize=_READ_AHEAD)
        again, self._used = self._used, True
        return again

    def data_received(self, data: bytes) -> None:
        """Parse what has arrived, as far as it was asked for."""
        if not data or self._parser is None:
            super().data_received(data)
            return
        start = 0
        while start < len(data) and self.exception() is None:
            if self._finished():
                self.force_close()  # so it is not used again
                self.abort()
                return
            end = self._end_of_head(data, start) if self._awaited else len(data)
            if self._heads > MAX_HEADS:
                self.set_exception(HttpProcessingError(message="too many provisional answers"))
                self.abort()
                return
            super().data_received(data[start:end])
            start = end

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Queue a final answer; a provisional one says nothing that is wanted."""
        if 100 <= data[0].code < 200 and data[0].code != 101:
            return
        self._awaited = False
        super().feed_data(data, size)

    def _finished(self) -> bool:
        return not self._awaited and self._payload is not None and self._payload.is_eof()

    def _end_of_head(self, data: bytes, start: int) -> int:
        """Return where the head under way ends in the bytes, or where they end."""
        across = (self._last + data[start : start + len(_END) - 1]).find(_END)
        end = data.find(_END, start) if across < 0 else start + across - len(self._last)
        if across < 0 and end < 0:
            self._last = (self._last + data[start:])[1 - len(_END) :]
            return len(data)
        self._heads, self._last = self._heads + 1, b""
        return end + len(_END)
