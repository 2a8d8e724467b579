"""The public keys of identity providers: found by discovery, fetched by the guarded client, kept for a while.

A token may name a key that was published just now, so an unknown one is asked for again, but once a minute at most:
anybody can send tokens. A provider that does not answer is believed for a day in what it said last.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from core.clock import Clock
from core.delivery.http import WebhookSender
from core.domain.control import bearer_tokens
from core.domain.control.bearer_tokens import BadToken, Claimed, ProviderKey
from core.domain.errors import Invalid
from core.domain.webhooks import urls

FRESH = timedelta(hours=1)
"""How long keys are used without asking again."""

AGAIN = timedelta(minutes=1)
"""How long a provider is left alone after it was asked."""

BELIEVED = timedelta(days=1)
"""How long keys are used where the provider does not answer."""

DISCOVERY = "/.well-known/openid-configuration"
_MOST_BYTES = 262_144
_SECONDS = 5.0
_MOST_KEPT = 1_024


@dataclass(slots=True)
class _Kept:
    """What is known of one provider."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    keys: tuple[ProviderKey, ...] = ()
    fetched_at: datetime | None = None
    asked_at: datetime | None = None

    def younger_than(self, age: timedelta, now: datetime) -> bool:
        return self.fetched_at is not None and now - self.fetched_at < age

    def left_alone(self, now: datetime) -> bool:
        return self.asked_at is not None and now - self.asked_at < AGAIN


class ProviderKeys:
    """Fetches keys and keeps them, those of each provider apart."""

    def __init__(self, sender: WebhookSender, clock: Clock):
        self._sender = sender
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    async def find(self, claimed: Claimed, issuer: str, jwks_uri: str) -> ProviderKey | None:
        """Return the provider's key that a token names, or None."""
        kept, now = self._of(issuer, jwks_uri), self._clock.now()
        key = bearer_tokens.fitting(claimed, kept.keys)
        if key is not None and kept.younger_than(FRESH, now):
            return key
        async with kept.lock:
            if not kept.left_alone(now):
                kept.asked_at = now
                with suppress(BadToken, Invalid, ValueError, RecursionError):  # what it said last holds for a while
                    kept.keys, kept.fetched_at = await self._fetch(issuer, jwks_uri), now
        return bearer_tokens.fitting(claimed, kept.keys) if kept.younger_than(BELIEVED, now) else None

    def _of(self, issuer: str, jwks_uri: str) -> _Kept:
        kept = self._kept.setdefault((issuer, jwks_uri), _Kept())
        self._kept.move_to_end((issuer, jwks_uri))
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return kept

    async def _fetch(self, issuer: str, jwks_uri: str) -> tuple[ProviderKey, ...]:
        if not jwks_uri:
            said = await self._get(issuer.rstrip("/") + DISCOVERY)
            jwks_uri = said.get("jwks_uri", "") if isinstance(said, dict) else ""
            if not isinstance(jwks_uri, str) or said.get("issuer") != issuer:
                raise BadToken("it is not the issuer that it was asked as")
        return bearer_tokens.keys_in(await self._get(jwks_uri))

    async def _get(self, address: str) -> Any:
        """Return the JSON at an address. Raises Invalid for one that is not allowed, ValueError for no JSON."""
        url = urls.parse(address, self._sender.destinations)
        headers = {"accept": "application/json"}
        result = await self._sender.send(url, headers, b"", method="GET", seconds=_SECONDS, most_bytes=_MOST_BYTES)
        if not result.ruling.delivered:
            raise BadToken("the provider does not answer")
        return json.loads(result.response_text)
