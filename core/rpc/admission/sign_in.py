"""From a bearer token of an identity provider to the member behind it.

Whatever is wrong, the caller is told the same: a token that nearly works must not tell how it would.
"""

from __future__ import annotations

from datetime import datetime

from core.clock import Clock
from core.delivery.provider_keys import ProviderKeys
from core.domain.control import bearer_tokens
from core.domain.control.bearer_tokens import BadToken, Claimed
from core.domain.control.scopes import ALL_SCOPES, role_scopes
from core.domain.errors import Unauthenticated
from core.rpc.call import Caller
from core.store.database import Database
from core.store.organizations import identity_providers, members
from core.store.transaction import EVERY_ORGANIZATION

_MOST_AUDIENCES = 20


class SignIn:
    """Admits members by tokens of their organization's provider."""

    def __init__(self, database: Database, clock: Clock, keys: ProviderKeys):
        self._database = database
        self._clock = clock
        self._keys = keys

    async def caller(self, token: str) -> tuple[Caller, datetime]:
        """Return who a token stands for, and until when it does. Raises Unauthenticated."""
        try:
            claimed = bearer_tokens.read(token)
            return await self._proved(claimed)
        except BadToken as bad:
            raise Unauthenticated() from bad

    async def _proved(self, claimed: Claimed) -> tuple[Caller, datetime]:
        async with self._database.read(EVERY_ORGANIZATION) as tx:
            providers = await identity_providers.find(tx, claimed.issuer, claimed.audiences[:_MOST_AUDIENCES])
        if len(providers) != 1:  # none, or a token that is meant for two organizations at once
            raise BadToken("no organization")
        (provider,) = providers
        key = await self._keys.find(claimed, provider.issuer, provider.jwks_uri)
        if key is None:
            raise BadToken("no such key")
        end = bearer_tokens.prove(
            claimed, key, issuer=provider.issuer, audience=provider.audience, now=self._clock.now()
        )
        email = bearer_tokens.email_of(claimed.claims, provider.email_claim)
        async with self._database.read(EVERY_ORGANIZATION) as tx:
            member = await identity_providers.find_member(tx, provider.org_id, email)
        if member is None:
            raise BadToken("no member")
        if members.sight_is_worth_noting(member.last_seen_at, self._clock.now()):
            async with self._database.system() as tx:
                await members.note_sight(tx, member.org_id, member.id)
        caller = Caller(
            org_id=member.org_id,
            principal_id=member.id,
            principal_kind="member",
            display_name=member.display_name,
            scopes=_granted(member.role, bearer_tokens.scopes_of(claimed.claims)),
            organization_name=member.organization_name,
            role=member.role,
        )
        return caller, end


def _granted(role: str, words: frozenset[str]) -> frozenset[str]:
    """Return what a token may do: what the role may, and of that no more than the token names, if it names any."""
    ours = words & ALL_SCOPES
    return role_scopes(role) & ours if ours else role_scopes(role)
