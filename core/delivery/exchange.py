"""One request and its answer on one of aiohttp's connections, without what a session of aiohttp does for each request.

A session builds a request of some twenty objects, which costs more than all else that a delivery does. The connector
is used as it is: it resolves names, asks the guard, speaks TLS and keeps connections.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from dataclasses import replace
from functools import lru_cache

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.resolver import AsyncResolver
from yarl import URL

from core.delivery.certificates import Certificates
from core.delivery.guard import Guard, Verdict
from core.delivery.receiving import Connector, Receiving
from core.delivery.request import Answer, NotSendable, Request
from core.domain.frozen import frozen
from core.domain.webhooks import classify
from core.domain.webhooks.authentication import ClientCertificate
from core.domain.webhooks.classify import Outcome, Ruling

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

_CONNECT_SECONDS = 10.0
_DNS_TIMEOUT_SECONDS = 2.0
_DNS_TRIES = 2


@frozen
class _Destination:
    """A URL, as far as connecting and the first lines of a request go."""

    connecting: aiohttp.ClientRequest
    """What the connector asks: host, port, whether with TLS and which certificate is shown."""
    target: str
    host: str


class Exchanges:
    """Exchanges requests for answers; connections are reused as long as both sides keep them."""

    def __init__(self, guard: Guard, resolver: AbstractResolver | None, trusting: ssl.SSLContext | None):
        """Connect to what the guard allows; names are asked of `resolver`, or of the system's servers."""
        self._resolver = resolver or AsyncResolver(timeout=_DNS_TIMEOUT_SECONDS, tries=_DNS_TRIES)
        self._certificates = Certificates(trusting)
        self._connector = Connector(
            resolver=self._resolver,
            socket_factory=guard.socket,
            ssl=True if trusting is None else trusting,
            limit=0,
        )
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS)
        self._loop = asyncio.get_running_loop()
        self._destination = lru_cache(maxsize=_KEPT)(self._read)

    async def attempt(
        self, request: Request, certificate: ClientCertificate | None, verdict: Verdict, answer: Answer
    ) -> tuple[Ruling, str]:
        """Exchange once and return how it ended, and what a certificate's error adds. Raises TimeoutError."""
        try:
            if certificate is not None:
                request = replace(request, shown=await self._certificates.context(certificate))
            try:
                await self.exchange(request, verdict, answer)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not verdict.reused or answer.status_code:
                    raise
                # The receiver had closed an idle connection: that is no failure of its own.
                await self.exchange(request, verdict, answer)
        except (aiohttp.ClientError, HttpProcessingError, NotSendable, OSError, ValueError) as error:
            if isinstance(error, TimeoutError) and not verdict.refused:
                raise
            return classify.of_failure(_outcome_of(error, verdict)), _detail(error)
        return classify.of_response(answer.status_code, answer.headers), ""

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
        await self._resolver.close()  # or questions under way would be answered to a loop that has ended


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


def _outcome_of(error: Exception, verdict: Verdict) -> Outcome:
    if verdict.refused:
        return Outcome.DESTINATION_NOT_ALLOWED
    match error:
        case aiohttp.ClientConnectorDNSError():
            return Outcome.DNS_FAILED
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return Outcome.TLS_FAILED
        case aiohttp.ClientConnectorError():
            return Outcome.CONNECT_FAILED
        case aiohttp.ClientOSError() if isinstance(error.__cause__, ssl.SSLError):  # it wants another certificate
            return Outcome.TLS_FAILED
        case HttpProcessingError() | NotSendable():
            return Outcome.BAD_RESPONSE
        case ValueError():  # a host that only another parser understands
            return Outcome.DESTINATION_NOT_ALLOWED
        case _:
            return Outcome.CONNECTION_LOST


def _detail(error: Exception) -> str:
    """Return what a certificate error adds; other texts could name what was resolved."""
    cause = getattr(error, "certificate_error", error)
    return cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else ""
