"""The guarded HTTP client of webhooks: one request, no redirects, one deadline for all of it, at most 16 KiB read."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.resolver import AsyncResolver

from core.delivery.certificates import Certificates
from core.delivery.deadlines import Deadlines
from core.delivery.exchange import MAX_RESPONSE_BYTES, Answer, Exchanges, NotSendable, Request
from core.delivery.guard import Guard, Verdict, current
from core.delivery.oauth import Tokens
from core.delivery.receiving import Connector
from core.delivery.send_result import SendResult
from core.domain.webhooks import classify
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.authentication import ClientCertificate
from core.domain.webhooks.classify import Outcome, Ruling

DEADLINE_SECONDS = 30.0
"""For DNS, connecting, TLS, headers and body together."""

_CONNECT_SECONDS = 10.0
_DNS_TIMEOUT_SECONDS = 2.0
_DNS_TRIES = 2


class WebhookSender:
    """Sends webhooks; one for the whole process, so that connections are reused."""

    def __init__(
        self,
        destinations: Destinations,
        *,
        own_addresses: Iterable[tuple[str, int]] = (),
        deadline_seconds: float = DEADLINE_SECONDS,
        resolver: AbstractResolver | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ):
        self.destinations = destinations
        self.deadline_seconds = deadline_seconds
        self._guard = Guard(destinations, own_addresses)
        self._resolver = resolver
        self._ssl = ssl_context
        self._certificates = Certificates(ssl_context)
        self.tokens = Tokens(self.send)
        """Access tokens that were fetched for endpoints."""
        self._deadlines = Deadlines()
        self._exchanges: Exchanges | None = None
        self._asking: AbstractResolver | None = None

    def refuse(self, host: str, port: int) -> None:
        """Refuse an address this process listens on."""
        self._guard.refuse(host, port)

    async def send(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        method: str = "POST",
        certificate: ClientCertificate | None = None,
        seconds: float | None = None,
        most_bytes: int = MAX_RESPONSE_BYTES,
    ) -> SendResult:
        """Send a body to a URL in normal form and return what came of it; raises nothing but cancellation.

        `seconds` are what is left of the time for a longer exchange; `certificate` is shown to the receiver;
        `most_bytes` of the answer that are read.
        """
        started = time.perf_counter()
        verdict, answer = Verdict(), Answer()
        token = current.set(verdict)
        try:
            async with asyncio.timeout(None) as limit:
                self._deadlines.watch(limit, self.deadline_seconds if seconds is None else seconds)
                try:
                    request = Request(method, url, headers, body, most_bytes=most_bytes)
                    ruling, detail = await self._attempt(request, certificate, verdict, answer)
                finally:
                    self._deadlines.forget(limit)
        except TimeoutError:
            outcome = Outcome.BODY_TOO_SLOW if answer.status_code else Outcome.TIMEOUT
            ruling, detail = classify.of_failure(outcome), ""
        finally:
            current.reset(token)
        return SendResult(
            ruling=ruling,
            duration=timedelta(seconds=time.perf_counter() - started),
            status_code=answer.status_code,
            response_text=answer.text,
            error="" if ruling.delivered else _sentence(ruling, answer.status_code, detail),
            retry_after=answer.headers.get("retry-after", ""),
            headers=answer.headers,
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._exchanges is not None:
            await self._exchanges.close()
            self._exchanges = None
        self._deadlines.close()
        if self._asking is not None:
            await self._asking.close()  # or questions under way would be answered to a loop that has ended
            self._asking = None

    async def _attempt(
        self, request: Request, certificate: ClientCertificate | None, verdict: Verdict, answer: Answer
    ) -> tuple[Ruling, str]:
        exchanges = self._open()
        try:
            if certificate is not None:
                request = replace(request, shown=await self._certificates.context(certificate))
            try:
                await exchanges.exchange(request, verdict, answer)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not verdict.reused or answer.status_code:
                    raise
                # The receiver had closed an idle connection: that is no failure of its own.
                await exchanges.exchange(request, verdict, answer)
        except (aiohttp.ClientError, HttpProcessingError, NotSendable, OSError, ValueError) as error:
            if isinstance(error, TimeoutError) and not verdict.refused:
                raise
            return classify.of_failure(_outcome_of(error, verdict)), _detail(error)
        return classify.of_response(answer.status_code, answer.headers), ""

    def _open(self) -> Exchanges:
        if self._exchanges is None:
            self._asking = self._resolver or AsyncResolver(timeout=_DNS_TIMEOUT_SECONDS, tries=_DNS_TRIES)
            connector = Connector(
                resolver=self._asking,
                socket_factory=self._guard.socket,
                ssl=True if self._ssl is None else self._ssl,
                limit=0,
            )
            self._exchanges = Exchanges(connector, aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS))
        return self._exchanges


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


def _sentence(ruling: Ruling, status_code: int, detail: str) -> str:
    sentence = classify.MEANINGS[ruling.outcome].sentence
    if ruling.outcome in (Outcome.HTTP_STATUS, Outcome.REDIRECT):
        sentence += f" (HTTP {status_code})"
    return f"{sentence}: {detail}" if detail else sentence
