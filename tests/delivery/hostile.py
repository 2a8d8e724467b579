"""Servers that talk as a test tells them, below HTTP and below TLS, and a sender that has little time for them."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

from core.delivery.http import WebhookSender
from core.delivery.request import MAX_RESPONSE_BYTES
from core.domain.webhooks.addresses import Destinations

LOOPBACK = Destinations.of(["127.0.0.0/8"])
DEADLINE = 0.5
TOLERANCE = 2.0
"""Only so that a busy machine fails no test; what hangs would hang for ever."""

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n"


@dataclass
class Hostile:
    """A TCP server that talks as told; connections and requests are counted."""

    url: str = ""
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    begun: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def hostile(talk, *, scheme="http", context=None, host="127.0.0.1"):
    """Serve `talk(server, reader, writer)` for each connection."""
    server, talks = Hostile(), set()

    async def accepted(reader, writer):
        talks.add(asyncio.current_task())
        server.connections += 1
        try:
            await talk(server, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
            pass  # the other side has gone, or the test is over
        finally:
            server.begun.set()
            writer.close()

    listener = await asyncio.start_server(accepted, "127.0.0.1", 0, ssl=context)
    server.url = f"{scheme}://{host}:{listener.sockets[0].getsockname()[1]}/"
    try:
        yield server
    finally:
        listener.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)


async def request(server, reader):
    """Read one request, and remember it."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    server.requests.append(head + await reader.readexactly(length))
    server.begun.set()


EMPTY = OK + b"content-length: 0\r\n\r\n"
"""A whole answer after which the connection can be used again."""


def answers(*parts, then="wait"):
    """Talk that reads a request, writes the parts one by one, and then waits, closes, resets or repeats the last."""

    async def talk(server, reader, writer):
        await request(server, reader)
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        await ENDINGS[then](reader, writer, parts)

    return talk


async def _wait(reader, _writer, _parts):
    await reader.read()


async def _close(_reader, _writer, _parts):
    return


async def _half_close(reader, writer, _parts):
    writer.write_eof()
    await reader.read()


async def _reset(_reader, writer, _parts):
    reset(writer)


async def _flood(_reader, writer, parts):
    while True:
        writer.write(parts[-1])
        await writer.drain()


async def _trickle(_reader, writer, parts):
    while True:
        for byte in parts[-1]:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.01)


ENDINGS = {
    "wait": _wait,
    "close": _close,
    "half-close": _half_close,
    "reset": _reset,
    "flood": _flood,
    "trickle": _trickle,
}


def reset(writer):
    """End a connection the hard way: the other side gets RST instead of FIN."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def sending(deadline=DEADLINE, **options):
    sender = WebhookSender(LOOPBACK, deadline_seconds=deadline, **options)
    try:
        yield sender
    finally:
        await asyncio.wait_for(sender.close(), TOLERANCE)


def fits(result, outcomes):
    """Check what every attempt owes: its outcome, its time, its size, and a sentence that names no address."""
    assert result.outcome in outcomes
    assert result.duration < timedelta(seconds=DEADLINE + TOLERANCE)
    assert len(result.response_text.encode()) <= 3 * MAX_RESPONSE_BYTES  # a byte that is no UTF-8 becomes three
    assert "127.0" not in result.error
    assert "\0" not in result.response_text
