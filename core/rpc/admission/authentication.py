"""From a bearer key, or a token of the organization's identity provider, to the principal behind it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from core import ids
from core.clock import Clock
from core.domain.control import bearer_tokens, key_limits
from core.domain.control.scopes import role_scopes
from core.domain.errors import Unauthenticated
from core.rpc.admission.sign_in import SignIn
from core.rpc.call import Caller
from core.store.database import Database
from core.store.organizations import api_keys, members
from core.store.transaction import EVERY_ORGANIZATION

_REMEMBERED_FOR = timedelta(seconds=30)
_MOST_REMEMBERED = 10_000


class Authenticator:
    """Looks keys up and remembers them for 30 seconds; what changes is heard at once where signals arrive."""

    def __init__(self, database: Database, clock: Clock, sign_in: SignIn | None = None):
        self._database = database
        self._clock = clock
        self._sign_in = sign_in
        self._remembered: dict[str, tuple[datetime, Caller]] = {}
        self._changed = database.wakeups.event(api_keys.CHANGED)
        self._generation = 0

    async def caller(self, authorization: str) -> Caller:
        """Return who `Bearer <key>` stands for. Raises Unauthenticated without saying which part was wrong."""
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated()
        if self._changed.is_set():  # somebody's keys, role or provider: everybody is asked for anew
            self._changed.clear()
            self._remembered.clear()
            self._generation += 1
        secret = secret.strip()
        digest = api_keys.digest(secret)
        now = self._clock.now()
        if (known := self._remembered.get(digest)) and now < known[0]:
            return known[1]
        self._remembered.pop(digest, None)
        is_key = ids.api_key_is_well_formed(secret)
        if not (is_key or bearer_tokens.looks_like_one(secret)):
            raise Unauthenticated()
        generation = self._generation
        caller, until = await (self._by_key(secret) if is_key else self._by_token(secret))
        if generation == self._generation and not self._changed.is_set():
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.pop(next(iter(self._remembered)))
            self._remembered[digest] = (min(until, now + _REMEMBERED_FOR), caller)
        return caller

    async def _by_token(self, token: str) -> tuple[Caller, datetime]:
        if self._sign_in is None:
            raise Unauthenticated()
        return await self._sign_in.caller(token)

    async def _by_key(self, secret: str) -> tuple[Caller, datetime]:
        async with self._database.read(EVERY_ORGANIZATION) as tx:
            key = await api_keys.find(tx, secret)
        if key is None:
            raise Unauthenticated()
        now = self._clock.now()
        is_member = key.principal_kind == "member"
        seen = is_member and members.sight_is_worth_noting(key.member_seen_at, now)
        if seen or api_keys.use_is_worth_noting(key, now):
            async with self._database.system() as tx:
                await api_keys.note_use(tx, key)
                if seen:
                    await members.note_sight(tx, key.org_id, key.principal_id)
        scopes = frozenset(key.scopes)
        caller = Caller(
            org_id=key.org_id,
            principal_id=key.principal_id,
            principal_kind=key.principal_kind,
            display_name=key.display_name,
            # Whatever a member's key was minted with, it does no more than the role it has now.
            scopes=scopes & role_scopes(key.role) if is_member else scopes,
            key_id=key.id,
            organization_name=key.organization_name,
            limits=key_limits.from_json(key.limits),
            role=key.role if is_member else "",
            agent_id=key.agent_id,
            agent_state=key.agent_state or "",
        )
        return caller, min(_ends(key, secret, now))


def _ends(key: Row[Any], secret: str, now: datetime) -> Iterable[datetime]:
    """Yield when the secret stops working, as far as is known now."""
    yield now + _REMEMBERED_FOR
    if key.expires_at is not None:
        yield key.expires_at
    if key.digest != api_keys.digest(secret):
        yield key.previous_expires_at
