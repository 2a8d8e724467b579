"""The guarded HTTP client of webhooks: one request, no redirects, one deadline for all of it, at most 16 KiB read."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.resolver import AsyncResolver
from yarl import URL

from core.delivery.certificates import Certificates
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

MAX_RESPONSE_BYTES = 16_384
USER_AGENT = "Dripstone-Webhooks/1"

_CONNECT_SECONDS = 10.0
_DNS_TIMEOUT_SECONDS = 2.0
_DNS_TRIES = 2


@dataclass(frozen=True, slots=True)
class _Request:
    """What is sent."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    certificate: ClientCertificate | None


@dataclass(slots=True)
class _Answer:
    """What has arrived so far, kept outside the deadline's reach."""

    status_code: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace").replace("\0", "\ufffd")  # PostgreSQL has no NUL in text


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
        self._session: aiohttp.ClientSession | None = None
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
    ) -> SendResult:
        """Send a body to a URL in normal form and return what came of it; raises nothing but cancellation.

        `seconds` are what is left of the time for a longer exchange; `certificate` is shown to the receiver.
        """
        started = time.perf_counter()
        verdict, answer = Verdict(), _Answer()
        token = current.set(verdict)
        try:
            async with asyncio.timeout(self.deadline_seconds if seconds is None else seconds):
                request = _Request(method, url, headers, body, certificate)
                ruling, detail = await self._attempt(request, verdict, answer)
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
            error=_sentence(ruling, answer.status_code, detail),
            retry_after=answer.headers.get("retry-after", ""),
            headers=answer.headers,
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None
        if self._asking is not None:
            await self._asking.close()  # or questions under way would be answered to a loop that has ended
            self._asking = None

    async def _attempt(self, request: _Request, verdict: Verdict, answer: _Answer) -> tuple[Ruling, str]:
        try:
            try:
                await self._exchange(request, answer)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                if not verdict.reused or answer.status_code:
                    raise
                # The receiver had closed an idle connection: that is no failure of its own.
                verdict.reused = False
                await self._exchange(request, answer)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, TimeoutError) and not verdict.refused:
                raise
            return classify.of_failure(_outcome_of(error, verdict)), _detail(error)
        return classify.of_response(answer.status_code, answer.headers), ""

    async def _exchange(self, request: _Request, answer: _Answer) -> None:
        shown = await self._certificates.context(request.certificate) if request.certificate else True
        exchange = self._open_session().request(
            request.method,
            URL(request.url, encoded=True),
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
            ssl=shown,  # connections are kept apart by it
        )
        async with exchange as response:
            answer.status_code = response.status
            answer.headers = {name.lower(): value for name, value in response.headers.items()}
            while len(answer.body) < MAX_RESPONSE_BYTES:
                chunk = await response.content.read(MAX_RESPONSE_BYTES - len(answer.body))
                if not chunk:
                    return
                answer.body += chunk
            response.close()  # the rest is not wanted, and may be endless

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._asking = self._resolver or AsyncResolver(timeout=_DNS_TIMEOUT_SECONDS, tries=_DNS_TRIES)
            connector = Connector(
                resolver=self._asking,
                socket_factory=self._guard.socket,
                ssl=True if self._ssl is None else self._ssl,
                limit=0,
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"user-agent": USER_AGENT, "accept": "*/*", "accept-encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
                trace_configs=[_watch_reuse()],
                trust_env=False,
            )
        return self._session


def _watch_reuse() -> aiohttp.TraceConfig:
    trace = aiohttp.TraceConfig()

    async def reused(_session: aiohttp.ClientSession, _context: SimpleNamespace, _params: Any) -> None:
        current.get().reused = True

    trace.on_connection_reuseconn.append(reused)
    return trace


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
        case aiohttp.ClientResponseError():
            return Outcome.BAD_RESPONSE
        case ValueError() | aiohttp.NonHttpUrlClientError():  # a host that only another parser understands
            return Outcome.DESTINATION_NOT_ALLOWED
        case _:
            return Outcome.CONNECTION_LOST


def _detail(error: Exception) -> str:
    """Return what a certificate error adds; other texts could name what was resolved."""
    cause = getattr(error, "certificate_error", error)
    return cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else ""


def _sentence(ruling: Ruling, status_code: int, detail: str) -> str:
    if ruling.outcome is Outcome.DELIVERED:
        return ""
    sentence = classify.MEANINGS[ruling.outcome].sentence
    if ruling.outcome in (Outcome.HTTP_STATUS, Outcome.REDIRECT):
        sentence += f" (HTTP {status_code})"
    return f"{sentence}: {detail}" if detail else sentence
