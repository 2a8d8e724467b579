"""`/in/{token}`: where other systems post in their own forms; the token names the source, the source says the rest.

Nothing here needs an API key. A request is believed once its signature is verified over the bytes as they came, and
answered with success only after its messages are committed: as events, or apart from them where they did not fit.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import structlog
from sqlalchemy import Row
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from core import ids
from core.domain.errors import Code, DripstoneError, RateLimited, StoreUnavailable
from core.domain.inbound import handshakes, verifiers
from core.domain.inbound.request import LARGEST_BODY, LARGEST_HEADERS, LONGEST_QUERY, MOST_HEADERS, Arrived, joined
from core.domain.inbound.settings import verifier_of
from core.domain.inbound.verifiers import Kind
from core.gateway import errors
from core.gateway.errors import BodyTooLarge, HttpRefusal, MethodNotAllowed
from core.gateway.peers import peer_of
from core.gateway.together import Together
from core.rpc import metrics
from core.rpc.admission.limits import RateLimiter
from core.rpc.call import Parts
from core.rpc.errors import InternalError
from core.rpc.writing import written
from core.store.control import audit
from core.store.database import is_outage
from core.store.events import inbound as store
from core.store.events import sources
from core.store.events.inbound import Taken
from core.store.transaction import EVERY_ORGANIZATION, Transaction

PER_SECOND = handshakes.ALLOWED_PER_MINUTE / 60
"""Requests of one source; bursts of twice as many pass. As many that are not genuine are looked at of one peer."""

SMALL_BODY = 32 * 1024
"""In bytes. It is next to no work, so it is still verified where its peer sent too much that was not genuine."""

_BODY_SECONDS = 20
_VERBS = ("GET", "POST", "OPTIONS")
_CHALLENGES = {Kind.BASIC: 'Basic realm="inbound", charset="UTF-8"', Kind.BEARER: 'Bearer realm="inbound"'}
_SIGNED = 'Signature realm="inbound"'

_log = structlog.get_logger()


class NotVerified(HttpRefusal):
    """The request could not be verified."""

    code = Code.UNAUTHENTICATED
    http_status = 401
    reason = "NOT_VERIFIED"
    hint = "Compare the secret, the clock, and the bytes that are signed with those that are sent."


class TooFast(HttpRefusal):
    """More comes to this address than it takes, {limit} requests a second."""

    code = Code.RESOURCE_EXHAUSTED
    http_status = 429
    reason = "RATE_LIMITED"
    hint = "Wait as long as Retry-After says, then send again."


class HeadersTooLarge(HttpRefusal):
    """The headers or the query are larger than an event needs."""

    http_status = 431
    reason = "HEADERS_TOO_LARGE"
    hint = "Send the data in the body."


class BodyTooSlow(HttpRefusal):
    """The body did not come within {limit} seconds."""

    http_status = 408
    reason = "BODY_TOO_SLOW"
    hint = "Send it at once."


class Inbound:
    """Answers the requests to inbound URLs."""

    def __init__(self, parts: Parts):
        self._parts = parts
        self._genuine = RateLimiter(parts.clock, PER_SECOND)
        self._forged = RateLimiter(parts.clock, PER_SECOND)
        self._sources = Together(self._look_up)
        self._reading = asyncio.Lock()  # large bodies are mapped one at a time, so that small ones need not wait

    def routes(self) -> Sequence[BaseRoute]:
        """Return the routes."""
        return (Route("/in/{token}", self.answer, methods=_VERBS, include_in_schema=False),)

    async def answer(self, request: Request) -> Response:
        """Answer one request. Raises HTTPException for a token that is none: as for any path that leads nowhere."""
        reference = ids.mint("req", self._parts.clock.now())
        started = time.perf_counter()
        try:
            response = await self._answer(request, reference)
        except ClientDisconnect:
            response = Response(status_code=499)  # nobody reads it
        seconds = time.perf_counter() - started
        metrics.rpc_seconds.labels("inbound", str(response.status_code)).observe(seconds)
        response.headers["X-Request-Id"] = reference
        return response

    async def _answer(self, request: Request, reference: str) -> Response:
        kind = Kind.NONE
        try:
            source = await self._source(request.path_params["token"])
            kind = verifier_of(source.verifier).kind
            return await self._of_source(request, source, reference)
        except (HTTPException, ClientDisconnect):
            raise
        except DripstoneError as error:
            told = error
        except Exception as error:
            if is_outage(error):
                _log.error("the database does not answer", method="inbound", error=type(error).__name__)
                told = StoreUnavailable(retry_after=1.0)
            else:
                _log.error("an inbound request failed", reference=reference, exc_info=error)
                told = InternalError(reference=reference)
        response = errors.answer(told, errors.http_status(told), reference)
        if response.status_code == 401:
            response.headers["WWW-Authenticate"] = _CHALLENGES.get(kind, _SIGNED)
        return response

    async def _source(self, token: str) -> Row[Any]:
        source = await self._sources.find(token) if sources.token_is_well_formed(token) else None
        if source is None:
            raise HTTPException(404)
        return source

    async def _look_up(self, tokens: frozenset[str]) -> Mapping[str, Row[Any]]:
        async def found() -> Mapping[str, Row[Any]]:
            async with self._parts.database.read(EVERY_ORGANIZATION) as tx:
                return await sources.by_tokens(tx, tokens)

        return await self._parts.under_way.to_its_end(found())

    async def _of_source(self, request: Request, source: Row[Any], reference: str) -> Response:
        verifier = verifier_of(source.verifier)
        if request.method == "OPTIONS":
            return _answered(handshakes.asked_before_sending(_head(request)))
        if request.method in ("GET", "HEAD"):
            arrived = _head(request)
            if not handshakes.asks_by_get(arrived) or not verifier.challenge_token:
                raise MethodNotAllowed(verb=request.method, path="this address", allowed="OPTIONS, POST")
            with self._admission(request, source) as admission:
                answer = handshakes.answered_by_get(verifier, arrived)
                admission.genuine = answer is not None
            return _answered(answer)
        with self._admission(request, source) as admission:
            arrived = await _arrived(request, SMALL_BODY if admission.late is not None else LARGEST_BODY)
            admission.genuine = verifiers.verified(verifier, arrived, self._parts.clock.now())
        if answer := handshakes.answered_by_post(verifier, arrived):
            return _answered(answer)
        taken = await self._parts.under_way.to_its_end(self._take(source, arrived, reference))
        return _told(taken, handshakes.echo(verifier, arrived))

    @contextmanager
    def _admission(self, request: Request, source: Row[Any]) -> Iterator[_Admission]:
        """Refuse what is too much, mostly before any work, and what is then found not to be genuine.

        Who forges uses up nothing of the genuine sender's rate, and not even of the same address's small requests:
        behind a proxy everybody has one address.
        """
        whose = f"{source.org_id} {source.id}"
        try:
            self._genuine.check(whose)
        except RateLimited as error:
            raise _too_fast(error) from None
        by_peer = f"{whose} {peer_of(request)}"
        admission = _Admission()
        try:
            self._forged.admit(by_peer)
        except RateLimited as error:
            admission.late = error
        try:
            yield admission
        except BodyTooLarge:
            if admission.late is None:
                raise
            raise _too_fast(admission.late) from None
        if not admission.genuine:
            raise NotVerified() if admission.late is None else _too_fast(admission.late)
        if admission.late is None:
            self._forged.give_back(by_peer)
        try:
            self._genuine.admit(whose)
        except RateLimited as error:
            raise _too_fast(error) from None

    async def _take(self, source: Row[Any], arrived: Arrived, reference: str) -> list[Taken]:
        async with self._reading if len(arrived.body) > SMALL_BODY else nullcontext():
            messages = await store.read(source, arrived)

        async def taken(tx: Transaction) -> list[Taken]:
            results = await store.take(tx, source, messages)
            how = {"actor": f"source:{source.id}", "surface": "http", "cause": reference}
            summary = f"took in what was posted to an inbound URL ({len(messages)} messages)"
            await audit.by_system(tx, source.org_id, "TakeInbound", subject_id=source.id, summary=summary, **how)
            return results

        return await written(self._parts.database, source.org_id, taken)


@dataclass(slots=True)
class _Admission:
    """Whether a request is let in."""

    late: RateLimited | None = None
    """Set where its peer sent too much that was not genuine."""
    genuine: bool = False


def _too_fast(error: RateLimited) -> TooFast:
    return TooFast(limit=f"{PER_SECOND:g}", retry_after=error.retry_after)


def _head(request: Request) -> Arrived:
    """Return a request without its body. Raises HeadersTooLarge."""
    raw = request.headers.raw
    size = sum(len(name) + len(value) for name, value in raw)
    if size > LARGEST_HEADERS or len(raw) > MOST_HEADERS or len(request.scope["query_string"]) > LONGEST_QUERY:
        raise HeadersTooLarge()
    return Arrived(b"", joined(request.headers.items()), dict(request.query_params))


async def _arrived(request: Request, largest: int) -> Arrived:
    """Return the request with its whole body. Raises HttpRefusal for one that is larger or slower than is taken."""
    head = _head(request)
    length = request.headers.get("content-length", "")
    if length.isdigit() and (len(length) > 12 or int(length) > largest):
        raise BodyTooLarge(limit=largest)
    chunks, size = [], 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for chunk in request.stream():
                size += len(chunk)
                if size > largest:
                    raise BodyTooLarge(limit=largest)
                chunks.append(chunk)
    except TimeoutError:
        raise BodyTooSlow(limit=_BODY_SECONDS) from None
    return replace(head, body=b"".join(chunks))


def _answered(answer: handshakes.Answer | None) -> Response:
    assert answer is not None, "what is not genuine was refused before"
    media_type = answer.content_type or None
    return Response(answer.body, answer.status, dict(answer.headers), media_type)


def _told(taken: Sequence[Taken], echo: str) -> Response:
    """Return what became of a request's messages: 202 where something was kept apart, else 200."""
    results = [_result(one) for one in taken]
    status = 202 if any(one.status == "quarantined" for one in taken) else 200
    told: dict[str, Any] = dict(results[0]) if len(results) == 1 else {"results": results}
    return errors.json_response({**told, "challenge": echo} if echo else told, status)


def _result(taken: Taken) -> dict[str, str]:
    result = {"status": taken.status, "event_id": taken.event_id, "quarantined_id": taken.quarantined_id}
    if taken.fault is not None:
        result |= {"reason": taken.fault.reason, "field": taken.fault.field, "message": store.told(taken.fault)}
    return {name: value for name, value in result.items() if value}
