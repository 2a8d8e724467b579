"""From a bearer key to the principal behind it."""

from __future__ import annotations

from datetime import datetime, timedelta

from core import ids
from core.clock import Clock
from core.domain.errors import Unauthenticated
from core.rpc.call import Caller
from core.store import organizations
from core.store.database import Database
from core.store.transaction import EVERY_ORGANIZATION

_REMEMBERED_FOR = timedelta(seconds=30)
_MOST_REMEMBERED = 10_000


class Authenticator:
    """Looks keys up and remembers them for 30 seconds, so that a revoked key dies quickly everywhere."""

    def __init__(self, database: Database, clock: Clock):
        self._database = database
        self._clock = clock
        self._remembered: dict[str, tuple[datetime, Caller]] = {}

    async def caller(self, authorization: str) -> Caller:
        """Return who `Bearer <key>` stands for. Raises Unauthenticated without saying which part was wrong."""
        scheme, _, secret = authorization.partition(" ")
        secret = secret.strip()
        if scheme.lower() != "bearer" or not ids.api_key_is_well_formed(secret):
            raise Unauthenticated()
        digest = organizations.digest(secret)
        now = self._clock.now()
        if (known := self._remembered.get(digest)) and now - known[0] < _REMEMBERED_FOR:
            return known[1]
        self._remembered.pop(digest, None)
        async with self._database.read(EVERY_ORGANIZATION) as tx:
            key = await organizations.find_key(tx, secret)
        if key is None:
            raise Unauthenticated()
        if organizations.use_is_worth_noting(key, now):
            async with self._database.system() as tx:
                await organizations.note_use(tx, key)
        caller = Caller(
            org_id=key.org_id,
            principal_id=key.principal_id,
            principal_kind=key.principal_kind,
            display_name=key.display_name,
            scopes=frozenset(key.scopes),
            key_id=key.id,
            organization_name=key.organization_name,
        )
        if len(self._remembered) >= _MOST_REMEMBERED:
            self._remembered.pop(next(iter(self._remembered)))
        self._remembered[digest] = (now, caller)
        return caller

    def forget(self, key_id: str) -> None:
        """Forget a key at once in this process."""
        self._remembered = {digest: entry for digest, entry in self._remembered.items() if entry[1].key_id != key_id}
