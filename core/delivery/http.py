"""The guarded HTTP client of webhooks: one request, no redirects, one deadline for all of it, at most 16 KiB read."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

from core.delivery.deadlines import Deadlines
from core.delivery.guard import Guard, Verdict, current
from core.delivery.oauth import Tokens
from core.delivery.request import MAX_RESPONSE_BYTES, Answer, Request
from core.delivery.send_result import SendResult
from core.domain.webhooks import classify
from core.domain.webhooks.addresses import Destinations
from core.domain.webhooks.authentication import ClientCertificate
from core.domain.webhooks.classify import Outcome, Ruling

if TYPE_CHECKING:
    from aiohttp.abc import AbstractResolver

    from core.delivery.exchange import Exchanges

DEADLINE_SECONDS = 30.0
"""For DNS, connecting, TLS, headers and body together."""


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
        self.tokens = Tokens(self.send)
        """Access tokens that were fetched for endpoints."""
        self._deadlines = Deadlines()
        self._exchanges: Exchanges | None = None

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
        exchanges = self._open()  # loads what speaks HTTP the first time, which is none of the receiver's time
        started = time.perf_counter()
        verdict, answer = Verdict(), Answer()
        token = current.set(verdict)
        try:
            with self._deadlines.within(self.deadline_seconds if seconds is None else seconds):
                request = Request(method, url, headers, body, most_bytes=most_bytes)
                ruling, detail = await exchanges.attempt(request, certificate, verdict, answer)
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

    def _open(self) -> Exchanges:
        if self._exchanges is None:
            from core.delivery.exchange import Exchanges  # slow to load: see core.loading

            self._exchanges = Exchanges(self._guard, self._resolver, self._ssl)
        return self._exchanges


def _sentence(ruling: Ruling, status_code: int, detail: str) -> str:
    sentence = classify.MEANINGS[ruling.outcome].sentence
    if ruling.outcome in (Outcome.HTTP_STATUS, Outcome.REDIRECT):
        sentence += f" (HTTP {status_code})"
    return f"{sentence}: {detail}" if detail else sentence
