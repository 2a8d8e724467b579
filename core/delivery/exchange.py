"""One request and its answer on one of aiohttp's connections, without what a session of aiohttp does for each request.

A session builds a request of some twenty objects, which costs more than all else that a delivery does. The connector
is used as it is: it resolves names, asks the guard, speaks TLS and keeps connections.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache

import aiohttp
from yarl import URL

from core.delivery.guard import Verdict
from core.delivery.receiving import Connector, Receiving
from core.domain.frozen import frozen

MAX_RESPONSE_BYTES = 16_384
USER_AGENT = "Dripstone-Webhooks/1"

_OURS = {
    "user-agent": f"user-agent: {USER_AGENT}",
    "accept": "accept: */*",
    "accept-encoding": "accept-encoding: identity",
}
_UNSENDABLE = re.compile(r"[\x00-\x20\x7f]")
_HTTP_DECIDES = ("host", "content-length", "transfer-encoding")
_KEPT = 1024
"""URLs whose parsed form is kept."""


class NotSendable(Exception):
    """A header of the request is not one line."""


@frozen
class Request:
    """What is sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    shown: ssl.SSLContext | None = None
    """The TLS context with the certificate to show; connections are kept apart by it."""
    most_bytes: int = MAX_RESPONSE_BYTES
    """Bytes of the answer that are read."""


@dataclass(slots=True)
class Answer:
    """What has arrived so far, kept outside the deadline's reach."""

    status_code: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        """Return the body as text that both databases can keep."""
        if not self.body:
            return ""
        return self.body.decode("utf-8", "replace").replace("\0", "\ufffd")  # PostgreSQL has no NUL in text


@dataclass(frozen=True, slots=True)
class _Destination:
    """A URL, as far as connecting and the first lines of a request go."""

    connecting: aiohttp.ClientRequest
    """What the connector asks: host, port, whether with TLS and which certificate is shown."""
    target: str
    host: str


class Exchanges:
    """Exchanges requests for answers; connections are reused as long as both sides keep them."""

    def __init__(self, connector: Connector, timeout: aiohttp.ClientTimeout):
        self._connector = connector
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._destination = lru_cache(maxsize=_KEPT)(self._read)

    async def exchange(self, request: Request, verdict: Verdict, answer: Answer) -> None:
        """Send a request and put what comes back into `answer`, as far as it is read.

        Raises ValueError for a URL that cannot be dialled, NotSendable, HttpProcessingError for what is no HTTP,
        ClientError, OSError.
        """
        # A context is not kept here: it belongs to whoever keeps the certificate.
        shown = request.shown
        destination = self._destination(request.url) if shown is None else self._read(request.url, shown)
        sent = _head(request, destination) + request.body
        verdict.reused = False
        connection = await self._connector.connect(destination.connecting, traces=[], timeout=self._timeout)
        try:
            await _on(connection, sent, verdict, answer, request.most_bytes)
        except BaseException:
            connection.close()
            raise

    def _read(self, url: str, shown: ssl.SSLContext | None = None) -> _Destination:
        parsed = URL(url, encoded=True)
        if parsed.scheme not in ("http", "https") or not parsed.raw_host or parsed.raw_user is not None:
            raise ValueError("no URL that webhooks can be sent to")
        host, target = parsed.host_port_subcomponent or "", parsed.raw_path_qs or "/"
        if _UNSENDABLE.search(host + target):
            raise ValueError("no URL that a request can name")
        connecting = aiohttp.ClientRequest("POST", parsed, loop=self._loop, ssl=True if shown is None else shown)
        return _Destination(connecting, target, host)

    async def close(self) -> None:
        """Close every connection."""
        await self._connector.close()


async def _on(
    connection: aiohttp.connector.Connection, sent: bytes, verdict: Verdict, answer: Answer, most_bytes: int
) -> None:
    protocol, transport = connection.protocol, connection.transport
    assert isinstance(protocol, Receiving)
    if transport is None:
        raise aiohttp.ServerDisconnectedError
    verdict.reused = protocol.begin()
    transport.write(sent)
    message, content = await protocol.read()
    answer.status_code = message.code
    answer.headers = {name.lower(): value for name, value in message.headers.items()}
    while not content.at_eof() and len(answer.body) < most_bytes:
        answer.body += await content.read(most_bytes - len(answer.body))
    if content.is_eof() and content.at_eof() and not transport.get_write_buffer_size():
        connection.release()
    else:
        connection.close()  # the rest is not wanted, and may be endless


def _head(request: Request, destination: _Destination) -> bytes:
    """Return the lines before the body; of names that differ in case only, the last counts."""
    lines = {
        "": f"{request.method} {destination.target} HTTP/1.1",
        "host": f"host: {destination.host}",
        **_OURS,
    }
    for name, value in request.headers.items():
        lowered = name.lower()
        if lowered not in _HTTP_DECIDES:
            lines[lowered] = f"{name}: {value}"
    lines["content-length"] = f"content-length: {len(request.body)}\r\n\r\n"
    head = "\r\n".join(lines.values())
    breaks = len(lines) + 1
    if head.count("\r") != breaks or head.count("\n") != breaks or "\0" in head:
        raise NotSendable
    return head.encode()
