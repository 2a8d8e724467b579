"""Opens a connection: settings and credentials become a client that can be called."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from core.delivery.http import WebhookSender
from core.delivery.systems import generic, hubspot, salesforce
from core.delivery.systems.client import Api, Credentials, Refused, System, Tokens
from core.delivery.systems.generic import Generic
from core.delivery.systems.hubspot import HubSpot
from core.delivery.systems.salesforce import Salesforce
from core.domain.systems.envelope import CannotOpen
from core.domain.systems.settings import SystemSettings
from core.store.database import Database
from core.store.systems import connections, credentials
from core.store.systems.master_keys import MasterKeys, NoMasterKeys
from core.store.transaction import Transaction

_NEEDED = "Set them with SetCredentials."


@dataclass(slots=True)
class Opener:
    """Makes clients of systems of record; one for the whole process, for it keeps access tokens."""

    sender: WebhookSender
    keys: MasterKeys
    database: Database
    tokens: Tokens = field(default_factory=Tokens)

    async def open(self, tx: Transaction, row: Row[Any], now: datetime) -> System:
        """Return a client of a connection's account.

        Raises Refused where it has no credentials, or none that can be opened.
        """
        settings = connections.system(row)
        found = await self.credentials(tx, row.id)
        if found is None and settings.system != "http":
            raise Refused("the connection has no credentials", _NEEDED)
        return self.client((tx.org_id, row.id), settings, found or Credentials(), now)

    async def credentials(self, tx: Transaction, connection_id: str) -> Credentials | None:
        """Return what signs in, or None. Raises Refused for what cannot be opened."""
        try:
            given = await credentials.get(tx, self.keys.all(), connection_id)
        except (CannotOpen, NoMasterKeys) as error:
            why = "the credentials cannot be opened with this deployment's master keys"
            raise Refused(why, "Give it the key they were sealed under, or set them again.") from error
        return None if given is None else Credentials(**given)

    def client(self, owner: tuple[str, str], settings: SystemSettings, given: Credentials, now: datetime) -> System:
        """Return a client for an owner (organization and connection)."""
        base = settings.base_url
        if settings.system == "hubspot":
            return HubSpot(self._api(owner, given, now, base, f"{base}/oauth/v1/token", hubspot.judge))
        if settings.system == "salesforce":
            return Salesforce(self._api(owner, given, now, base, f"{base}/services/oauth2/token", salesforce.judge))
        api = self._api(owner, given, now, "", "", generic.judge)
        api.basic = True
        return Generic(api, settings, self.sender.destinations)

    def _api(
        self, owner: tuple[str, str], given: Credentials, now: datetime, base: str, token_url: str, judge: Any
    ) -> Api:
        kept = _Kept(self, *owner)
        return Api(self.sender, owner, given, self.tokens, now, base, token_url, judge, kept)


@dataclass(slots=True)
class _Kept:
    """The stored credentials of a connection, each time in a transaction of its own."""

    opener: Opener
    org_id: str
    connection_id: str

    async def current(self) -> Credentials | None:
        """Return what is stored now; None where there is nothing, or nothing that can be opened."""
        async with self.opener.database.read(self.org_id) as tx:
            try:
                return await self.opener.credentials(tx, self.connection_id)
            except Refused:
                return None

    async def renew(self, old: Credentials, new: Credentials) -> None:
        """Store new credentials in place of these; others, which somebody has set meanwhile, stay."""
        keys = self.opener.keys.all()
        async with self.opener.database.write(self.org_id) as tx:
            if await credentials.get(tx, keys, self.connection_id, lock=True) == asdict(old):
                await credentials.put(tx, keys, self.connection_id, asdict(new))
