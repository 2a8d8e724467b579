"""What every client of a system of record offers, and how its calls authenticate, wait and fail."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol
from urllib.parse import urlencode

from core.delivery.http import WebhookSender
from core.delivery.oauth import Owner
from core.delivery.send_result import SendResult
from core.domain.errors import Invalid
from core.domain.frozen import frozen
from core.domain.systems.settings import TypeMapping
from core.domain.webhooks import urls
from core.domain.webhooks.classify import Outcome

LARGEST_ANSWER = 8 << 20
"""In bytes: a page of 200 records with long texts."""

_MARGIN = timedelta(seconds=30)
_UNSAID = timedelta(minutes=15)


class Limited(Exception):
    """The system takes no more calls for a while."""

    def __init__(self, why: str, seconds: float):
        """Keep why, as a clause, and how long it lasts."""
        super().__init__(why)
        self.why, self.seconds = why, seconds


class Uncertain(Exception):
    """No answer, or a fault of the system's own: what was asked for may have been done."""


class Refused(Exception):
    """A person must mend something first."""

    def __init__(self, why: str, hint: str):
        """Keep why, as a clause, and the way out."""
        super().__init__(f"{why}. {hint}")
        self.why, self.hint = why, hint


@frozen
class Credentials:
    """What signs in."""

    token: str = field(default="", repr=False)
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    refresh_token: str = field(default="", repr=False)
    token_url: str = ""


@frozen
class Theirs:
    """A record there."""

    id: str
    properties: Mapping[str, Any] = field(hash=False)
    modified_at: datetime | None = None


@frozen
class Page:
    """Some of the records that have changed there."""

    records: tuple[Theirs, ...]
    cursor: str
    """Where to go on; empty at the end."""


@frozen
class Write:
    """A record to be written there."""

    record_id: str
    """Ours."""
    key: str
    """What its unique property is to hold."""
    external_id: str
    """Its id there; empty where it is not known to be there."""
    properties: Mapping[str, Any] = field(hash=False)
    rev: int = 0


@frozen
class Wrote:
    """What became of a write."""

    external_id: str = ""
    created: bool = False
    error: str = ""
    """Why it was refused, as a clause; empty where it was done."""
    hint: str = ""


@frozen
class Property:
    """A property of an object there."""

    name: str
    writable: bool = True
    unique: bool = False


@frozen
class Account:
    """What a sign-in tells."""

    name: str
    calls_left: int = 0


class System(Protocol):
    """A client of one account of one system."""

    batch: int
    """Most records of one call."""

    async def account(self) -> Account:
        """Sign in and tell who it is."""
        ...

    async def properties(self, mapping: TypeMapping) -> Mapping[str, Property] | None:
        """Return what an object has there; None where the system does not say."""
        ...

    async def changed(self, mapping: TypeMapping, since: datetime | None, cursor: str) -> Page:
        """Return a page of the records that changed since an instant; of all of them where there is none."""
        ...

    async def deleted(self, mapping: TypeMapping, since: datetime | None, cursor: str) -> Page:
        """Return a page of the records deleted since an instant, with when that was where it is known."""
        ...

    async def by_id(self, mapping: TypeMapping, ids: Sequence[str]) -> dict[str, Theirs]:
        """Return the records with these ids, by id; those that are gone are left out."""
        ...

    async def by_key(self, mapping: TypeMapping, keys: Sequence[str]) -> dict[str, Theirs]:
        """Return the records whose unique property holds one of these, by it, in lower case."""
        ...

    async def write(self, mapping: TypeMapping, writes: Sequence[Write]) -> list[Wrote]:
        """Write records and tell what became of each, in order; repeated, it makes no second record."""
        ...

    async def delete(self, mapping: TypeMapping, gone: Sequence[Write]) -> list[Wrote]:
        """Delete records there as people can undo it, and tell what became of each; one that is gone is done."""
        ...


@frozen
class Granted:
    """An access token, and where it is good."""

    text: str = field(repr=False)
    until: datetime | None = None
    base_url: str = ""


@dataclass(slots=True)
class Tokens:
    """Access tokens of connections, in memory alone."""

    _kept: dict[Owner, tuple[Credentials, Granted]] = field(default_factory=dict)

    def get(self, owner: Owner, credentials: Credentials, now: datetime) -> Granted | None:
        """Return a token that was fetched with these credentials and is still good."""
        kept = self._kept.get(owner)
        if kept is None or kept[0] != credentials or (kept[1].until is not None and kept[1].until <= now):
            return None
        return kept[1]

    def keep(self, owner: Owner, credentials: Credentials, granted: Granted) -> None:
        """Keep a token."""
        self._kept[owner] = (credentials, granted)

    def drop(self, owner: Owner) -> None:
        """Forget a token that was refused."""
        self._kept.pop(owner, None)


class Kept(Protocol):
    """The credentials of a connection as they are stored: refresh tokens that are used up are replaced there."""

    async def current(self) -> Credentials | None:
        """Return what is stored now; None where there is nothing, or nothing that can be opened."""
        ...

    async def renew(self, old: Credentials, new: Credentials) -> None:
        """Store new credentials in place of these; others, which somebody has set meanwhile, stay."""
        ...


Judge = Callable[[SendResult, Any], None]
"""Raises where an answer says that the system's limits are reached or a person must act."""


@dataclass(slots=True)
class Api:
    """Calls of one account, signed in; a token that is refused is fetched anew once."""

    sender: WebhookSender
    owner: Owner
    credentials: Credentials
    tokens: Tokens
    now: datetime
    base_url: str
    token_url: str
    judge: Judge
    kept: Kept | None = None
    """Where a new refresh token is stored; None where credentials are of nobody."""
    basic: bool = False
    """Client id and secret are sent with each call, where there is no token URL."""

    async def call(self, method: str, path: str, body: Any = None, **how: Any) -> tuple[SendResult, Any]:
        """Make a call under the base URL and return its answer, read as JSON.

        Raises Limited, Uncertain, Refused.
        """
        return await self._signed(
            lambda granted: self._once(method, (granted.base_url or self.base_url) + path, body, granted, **how)
        )

    async def call_url(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> tuple[SendResult, Any]:
        """Make a call of a whole URL, in normal form. Raises as `call` does."""
        return await self._signed(lambda granted: self._send(method, url, headers, body, granted))

    async def _signed(self, make: Callable[[Granted], Awaitable[SendResult]]) -> tuple[SendResult, Any]:
        granted, new = await self._token()
        result = await make(granted)
        if result.status_code == 401 and not new and not self.credentials.token:
            self.tokens.drop(self.owner)
            granted, _ = await self._token()
            result = await make(granted)
        return result, self._read(result)

    async def _once(self, method: str, url: str, body: Any, granted: Granted, **how: Any) -> SendResult:
        sent = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        headers = {"content-type": "application/json"} if sent else {}
        return await self._send(method, url, {**headers, **how.get("headers", {})}, sent, granted)

    async def _send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes, granted: Granted
    ) -> SendResult:
        signed = {"accept": "application/json", **headers}
        if granted.text:
            signed["authorization"] = f"{'Basic' if self._is_basic else 'Bearer'} {granted.text}"
        return await self.sender.send(url, signed, body, method=method, most_bytes=LARGEST_ANSWER)

    def _read(self, result: SendResult) -> Any:
        answer = read_json(result.response_text)
        if result.outcome is Outcome.DESTINATION_NOT_ALLOWED:
            hint = "Allow the network with --allow-destination, or correct the address."
            raise Refused("the address of the system is not allowed", hint)
        self.judge(result, answer)
        if result.status_code == 0 or result.status_code >= 500 or result.status_code == 408:
            raise Uncertain(result.error or f"the system answered HTTP {result.status_code}")
        if result.status_code == 401:
            raise Refused("the system does not take the credentials", "Set new ones with SetCredentials.")
        if result.status_code == 429:
            raise Limited("the system takes no more calls for now", retry_after(result, 10.0))
        if len(result.response_text) >= LARGEST_ANSWER:
            raise Refused("the system's answer is too large", "Map fewer long properties.")
        return answer

    @property
    def _is_basic(self) -> bool:
        return self.basic and not self.credentials.token and not self.credentials.token_url

    async def _token(self) -> tuple[Granted, bool]:
        given = self.credentials
        if given.token:
            return Granted(given.token), False
        if self._is_basic:
            pair = f"{given.client_id}:{given.client_secret}"
            return Granted(base64.b64encode(pair.encode()).decode() if given.client_id else ""), True
        kept = self.tokens.get(self.owner, given, self.now)
        if kept is not None:
            return kept, False
        try:
            granted = await self._fetch(given)
        except Refused:
            # Another process may have used up the refresh token, and stored the one that came for it.
            stored = await self.kept.current() if self.kept is not None and given.refresh_token else None
            if stored is None or stored == given or not stored.refresh_token:
                raise
            self.credentials = stored
            granted = await self._fetch(stored)
        self.tokens.keep(self.owner, self.credentials, granted)
        return granted, True

    async def _fetch(self, given: Credentials) -> Granted:
        asked = {"grant_type": "refresh_token" if given.refresh_token else "client_credentials"}
        asked |= {"client_id": given.client_id, "client_secret": given.client_secret}
        if given.refresh_token:
            asked["refresh_token"] = given.refresh_token
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        result = await self.sender.send(given.token_url or self.token_url, headers, urlencode(asked).encode())
        answer = read_json(result.response_text)
        if result.status_code in (400, 401, 403):
            raise Refused("no access token was granted", "Set new credentials with SetCredentials.")
        if result.outcome is Outcome.DESTINATION_NOT_ALLOWED:
            raise Refused("the token URL is not allowed", "Correct token_url with SetCredentials.")
        if not result.ruling.delivered or not isinstance(answer, dict) or not _usable(answer.get("access_token")):
            raise Uncertain("no access token came from the token URL")
        await self._renew(given, answer.get("refresh_token"))
        until = self.now + max(_lasts(answer.get("expires_in")) - _MARGIN, timedelta(seconds=1))
        return Granted(answer["access_token"], until, self._instance(answer.get("instance_url")))

    async def _renew(self, given: Credentials, told: Any) -> None:
        """Store the refresh token that came with an access token, before anything else: the old one may be used up."""
        if given.refresh_token and _usable(told) and told != given.refresh_token:
            self.credentials = replace(given, refresh_token=told)
            if self.kept is not None:
                await self.kept.renew(given, self.credentials)

    def _instance(self, told: Any) -> str:
        """Return where the token is good, in normal form; empty where that is not told. Raises Refused."""
        if not told:
            return ""
        try:
            return urls.parse(str(told), self.sender.destinations).rstrip("/")
        except Invalid:
            hint = "Check base_url: does it belong to your organization there?"
            raise Refused("the token is for an address that is not allowed", hint) from None


def read_json(text: str) -> Any:
    """Return what a JSON text says; None where it is none."""
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def retry_after(result: SendResult, otherwise: float) -> float:
    """Return how many seconds the answer asks to wait."""
    try:
        return min(max(float(result.retry_after), 1.0), 86_400.0)
    except ValueError:
        return otherwise


def _usable(token: Any) -> bool:
    return isinstance(token, str) and 0 < len(token) <= 8_192 and token.isascii() and token.isprintable()


def _lasts(said: Any) -> timedelta:
    try:
        return min(timedelta(seconds=float(said)), timedelta(days=1))
    except (TypeError, ValueError, OverflowError):
        return _UNSAID
