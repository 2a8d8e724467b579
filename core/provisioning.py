"""Making organizations and their first keys: what must exist before the first call can be admitted."""

from __future__ import annotations

from sqlalchemy import select

from core import ids
from core.domain.control.scopes import AGENT_SCOPES, ALL_SCOPES, role_scopes
from core.domain.frozen import frozen
from core.store.control import audit
from core.store.database import Database
from core.store.organizations import api_keys, members, organizations
from core.store.transaction import EVERY_ORGANIZATION, Transaction

APPROVER = "approver@example.com"
_FIRST_ORGANIZATION_LOCK = 0x6472_6972  # any number that nobody else locks


@frozen
class Provisioned:
    """A new organization, and the secrets of its first keys: they are stored nowhere."""

    org_id: str
    api_key: str
    agent_key: str
    approver_key: str


async def create_organization(database: Database, display_name: str, timezone: str = "UTC") -> Provisioned:
    """Create an organization and its first keys: a service's, an agent's and an approver's."""
    org_id = ids.mint("org", database.clock.now())
    async with database.write(org_id) as tx:
        await _create(tx, org_id, display_name, timezone)
    return Provisioned(org_id, *[await mint(database, org_id) for mint in BOOTSTRAP_KEYS])


async def _create(tx: Transaction, org_id: str, display_name: str, timezone: str) -> None:
    row = {"org_id": org_id, "display_name": display_name, "timezone": timezone, "created_at": tx.now}
    await tx.insert(organizations.organizations, [row])
    await audit.by_system(tx, org_id, "CreateOrganization", subject_id=org_id, summary="created the organization")


async def create_service_key(database: Database, org_id: str) -> str:
    """Mint a key with every scope and return its secret, which is stored nowhere."""
    return await mint_key(database, org_id, "Bootstrap key", "service", "", ALL_SCOPES)


async def create_agent_key(database: Database, org_id: str) -> str:
    """Mint an agent's key: it works with records and workflows, decides nothing, administers nothing."""
    return await mint_key(database, org_id, "Agent key", "agent", "", AGENT_SCOPES)


async def create_approver_key(database: Database, org_id: str) -> str:
    """Mint the key of a member who may decide approvals; the member is made when there is none."""
    async with database.write(org_id) as tx:
        row = {
            "id": ids.mint("mem", tx.now),
            "email": APPROVER,
            "display_name": "Grace Approver",
            "role": "approver",
            "created_at": tx.now,
        }
        if await tx.insert(members.members, [row], on_conflict="ignore"):
            summary = "added the member who decides approvals"
            await audit.by_system(tx, org_id, "CreateMember", subject_id=str(row["id"]), summary=summary)
        member = (await members.active_by_email(tx, [APPROVER]))[APPROVER]
    return await mint_key(database, org_id, "Grace Approver", "member", member.id, role_scopes("approver"))


BOOTSTRAP_KEYS = (create_service_key, create_agent_key, create_approver_key)
"""What makes the three keys of `connection.json`, in its order."""


async def mint_key(
    database: Database, org_id: str, display_name: str, kind: str, principal_id: str, scopes: frozenset[str]
) -> str:
    """Mint a key and return its secret; a key without a member speaks for itself."""
    secret = ids.new_api_key()
    async with database.write(org_id) as tx:
        key_id = ids.mint("key", tx.now)
        row = {
            "id": key_id,
            "digest": api_keys.digest(secret),
            "prefix": api_keys.shown_prefix(secret),
            "display_name": display_name,
            "principal_kind": kind,
            "principal_id": principal_id or key_id,
            "scopes": sorted(scopes),
            "created_at": tx.now,
        }
        await tx.insert(api_keys.api_keys, [row])
        summary = f"minted a key for {'an agent' if kind == 'agent' else f'a {kind}'}, outside of any call"
        await audit.by_system(tx, org_id, "CreateApiKey", subject_id=key_id, summary=summary)
    return secret


async def first_organization(database: Database, display_name: str) -> str:
    """Return the oldest organization's id; make one when there is none, also when several processes ask at once."""
    async with database.system() as tx:
        if tx.dialect == "postgresql":
            await tx.fetch("SELECT pg_advisory_xact_lock($1)", _FIRST_ORGANIZATION_LOCK)
        row = await tx.first(
            select(organizations.organizations.c.org_id).order_by(organizations.organizations.c.created_at).limit(1)
        )
        if row is not None:
            return str(row.org_id)
        org_id = ids.mint("org", tx.now)
        await _create(tx, org_id, display_name, "UTC")
    return org_id


async def key_works(database: Database, secret: str) -> bool:
    """Tell whether a key is known and valid."""
    async with database.read(EVERY_ORGANIZATION) as tx:
        return await api_keys.find(tx, secret) is not None
