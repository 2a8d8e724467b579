"""Making organizations and their first keys: what must exist before the first call can be admitted."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from core import ids
from core.domain.control.scopes import AGENT_SCOPES, ALL_SCOPES, role_scopes
from core.store import organizations as store
from core.store.database import Database
from core.store.transaction import EVERY_ORGANIZATION


@dataclass(frozen=True, slots=True)
class Provisioned:
    """A new organization, and the secrets of its first keys: they are stored nowhere."""

    org_id: str
    api_key: str
    """A service key with every scope."""
    agent_key: str
    """An agent key: works with records and workflows, decides nothing, administers nothing."""
    approver_key: str
    """The key of a member who may decide approvals."""


async def create_organization(database: Database, display_name: str, timezone: str = "UTC") -> Provisioned:
    """Create an organization with an approver and three keys."""
    now = database.clock.now()
    org_id = ids.mint("org", now)
    approver = {
        "id": ids.mint("mem", now),
        "email": "approver@example.com",
        "display_name": "Grace Approver",
        "role": "approver",
        "created_at": now,
    }
    secrets = (ids.new_api_key(), ids.new_api_key(), ids.new_api_key())
    async with database.write(org_id) as tx:
        organization = {"display_name": display_name, "timezone": timezone, "created_at": now}
        await tx.insert(store.organizations, [organization])
        await tx.insert(store.members, [approver])
        await tx.insert(
            store.api_keys,
            [
                key_row(database, secrets[0], "Bootstrap key", "service", "", ALL_SCOPES),
                key_row(database, secrets[1], "Agent key", "agent", "", AGENT_SCOPES),
                key_row(database, secrets[2], "Grace Approver", "member", str(approver["id"]), role_scopes("approver")),
            ],
        )
    return Provisioned(org_id, *secrets)


async def create_service_key(database: Database, org_id: str, display_name: str) -> str:
    """Mint a key with every scope for an organization and return its secret."""
    secret = ids.new_api_key()
    async with database.write(org_id) as tx:
        await tx.insert(store.api_keys, [key_row(database, secret, display_name, "service", "", ALL_SCOPES)])
    return secret


async def organization_ids(database: Database) -> list[str]:
    """Return the ids of every organization, oldest first."""
    async with database.read(EVERY_ORGANIZATION) as tx:
        rows = await tx.all(select(store.organizations.c.org_id).order_by(store.organizations.c.created_at))
    return [row.org_id for row in rows]


async def key_works(database: Database, secret: str) -> bool:
    """Tell whether a key is known and valid."""
    async with database.read(EVERY_ORGANIZATION) as tx:
        return await store.find_key(tx, secret) is not None


def key_row(
    database: Database, secret: str, display_name: str, kind: str, principal_id: str, scopes: frozenset[str]
) -> dict[str, object]:
    """Return the row of a key; a key without a member speaks for itself."""
    now = database.clock.now()
    key_id = ids.mint("key", now)
    return {
        "id": key_id,
        "digest": store.digest(secret),
        "prefix": store.shown_prefix(secret),
        "display_name": display_name,
        "principal_kind": kind,
        "principal_id": principal_id or key_id,
        "scopes": sorted(scopes),
        "created_at": now,
    }
