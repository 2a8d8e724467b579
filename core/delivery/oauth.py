"""Access tokens of OAuth 2.0 client credentials: fetched by the guarded client, kept until shortly before they end."""

from __future__ import annotations

import asyncio
import base64
import json
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import quote_plus, urlencode

from core.delivery.send_result import SendResult
from core.domain.frozen import frozen
from core.domain.webhooks import classify
from core.domain.webhooks.authentication import OAuth2, is_token
from core.domain.webhooks.classify import Outcome, Ruling

Owner = tuple[str, str]
"""Organization, and the endpoint or connection that a token is for."""

MARGIN = timedelta(seconds=30)
"""A token is not used this long before its end."""

UNSAID = timedelta(minutes=5)
"""How long a token is kept whose end was not said."""

_LONGEST = timedelta(days=1)
_LONGEST_TOKEN = 8_192
_MOST_KEPT = 4_096
_OF_THE_PLACE = frozenset({Outcome.DESTINATION_NOT_ALLOWED})
"""Outcomes that are told as they are; others mean that there was no token."""


class Send(Protocol):
    """The guarded client's way of sending."""

    async def __call__(  # noqa: D102
        self, url: str, headers: Mapping[str, str], body: bytes, *, seconds: float | None = None
    ) -> SendResult: ...


class NoToken(Exception):
    """There is no access token."""

    def __init__(self, ruling: Ruling, sentence: str):
        """Keep what follows from it, and a sentence without any secret."""
        super().__init__(sentence)
        self.ruling = ruling
        self.sentence = sentence


@frozen
class Token:
    """An access token."""

    text: str = field(repr=False)
    new: bool
    """It was fetched just now."""


@dataclass(slots=True)
class _Kept:
    """What is known of one owner's token."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    auth: OAuth2 | None = None
    text: str = field(default="", repr=False)
    until: datetime | None = None


class Tokens:
    """Fetches tokens and keeps them, each for its owner; one fetch at a time for each."""

    def __init__(self, send: Send):
        self._send = send
        self._kept: OrderedDict[Owner, _Kept] = OrderedDict()

    async def token(self, owner: Owner, auth: OAuth2, now: datetime, *, seconds: float, refused: str = "") -> Token:
        """Return a token that is good now; `refused` is one that the receiver did not take.

        Raises NoToken when none could be fetched.
        """
        kept = self._of(owner)
        async with kept.lock:
            good = kept.auth == auth and kept.until is not None and now < kept.until
            if good and kept.text != refused:
                return Token(kept.text, new=False)
            kept.text, kept.until = await self._fetch(auth, now, seconds)
            kept.auth = auth
            return Token(kept.text, new=True)

    def _of(self, owner: Owner) -> _Kept:
        kept = self._kept.setdefault(owner, _Kept())
        self._kept.move_to_end(owner)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return kept

    async def _fetch(self, auth: OAuth2, now: datetime, seconds: float) -> tuple[str, datetime]:
        answer = await self._ask(auth, seconds, in_header=True)
        if answer.status_code in (400, 401):  # some take the client's secret in the body alone
            answer = await self._ask(auth, seconds, in_header=False)
        if answer.outcome in _OF_THE_PLACE:
            raise NoToken(answer.ruling, answer.error)
        if not answer.ruling.delivered:
            said = f"it answered HTTP {answer.status_code}" if answer.status_code else answer.error
            raise no_token(f"at the token URL, {said}")
        return _read(answer.response_text, now)

    async def _ask(self, auth: OAuth2, seconds: float, *, in_header: bool) -> SendResult:
        asked = {"grant_type": "client_credentials"}
        asked |= {name: value for name, value in (("scope", auth.scope), ("audience", auth.audience)) if value}
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        if in_header:
            pair = f"{quote_plus(auth.client_id)}:{quote_plus(auth.client_secret)}".encode()
            headers["authorization"] = "Basic " + base64.b64encode(pair).decode()
        else:
            asked |= {"client_id": auth.client_id, "client_secret": auth.client_secret}
        return await self._send(auth.token_url, headers, urlencode(asked).encode(), seconds=seconds)


def _read(text: str, now: datetime) -> tuple[str, datetime]:
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise no_token("at the token URL, the answer is not JSON") from None
    token = answer.get("access_token") if isinstance(answer, dict) else None
    if not isinstance(token, str) or len(token) > _LONGEST_TOKEN or not is_token(token):
        raise no_token("at the token URL, the answer has no usable access_token")
    if str(answer.get("token_type", "bearer")).lower() != "bearer":
        raise no_token("at the token URL, the token is of another type than Bearer")
    return token, now + _lasts(answer.get("expires_in"))


def _lasts(said: Any) -> timedelta:
    """Return how long a token is used: its whole life but for a margin, half of it where it is short."""
    try:
        whole = min(timedelta(seconds=float(said)), _LONGEST) if said is not None else UNSAID + MARGIN
    except (TypeError, ValueError, OverflowError):
        whole = UNSAID + MARGIN
    return max(whole - MARGIN, whole / 2, timedelta(0))


def no_token(why: str) -> NoToken:
    """Return the error for a token that could not be fetched."""
    ruling = classify.of_failure(Outcome.TOKEN_FAILED)
    return NoToken(ruling, f"{classify.MEANINGS[Outcome.TOKEN_FAILED].sentence}: {why}")
