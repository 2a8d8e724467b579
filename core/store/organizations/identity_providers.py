"""Who vouches for members that come with a bearer token: one OpenID Connect provider an organization."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Index, Row, Table, and_, delete, func, select

from core.store.metadata import Instant, Name, metadata, org_id
from core.store.organizations.api_keys import CHANGED
from core.store.organizations.members import MemberState, members
from core.store.organizations.organizations import organizations
from core.store.transaction import Transaction

identity_providers = Table(
    "identity_providers",
    metadata,
    org_id(),
    Column("issuer", Name, nullable=False),
    Column("audience", Name, nullable=False),
    Column("jwks_uri", Name, nullable=False),
    Column("email_claim", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    # A token names its organization by these two, so no two organizations have the same.
    Index("identity_providers_audience", "issuer", "audience", unique=True),
)


async def get(tx: Transaction) -> Row[Any] | None:
    """Return the organization's provider, or None."""
    return await tx.first(select(identity_providers))


async def put(tx: Transaction, issuer: str, audience: str, jwks_uri: str, email_claim: str) -> Row[Any] | None:
    """Set the organization's provider and return it; None when another organization has the same two names."""
    await remove(tx)
    row = {
        "issuer": issuer,
        "audience": audience,
        "jwks_uri": jwks_uri,
        "email_claim": email_claim,
        "created_at": tx.now,
    }
    return await get(tx) if await tx.insert(identity_providers, [row], on_conflict="ignore") else None


async def remove(tx: Transaction) -> int:
    """Forget the organization's provider and return how many there were; every process asks anew."""
    tx.wake(CHANGED)
    return await tx.run(delete(identity_providers))


async def issuer_of(tx: Transaction, org: str) -> str:
    """Return the issuer that an organization has its tokens from; empty for none."""
    row = await tx.first(select(identity_providers.c.issuer).where(identity_providers.c.org_id == org))
    return str(row.issuer) if row is not None else ""


async def issuer_of_all(tx: Transaction) -> str:
    """Return the issuer that every organization has its tokens from; empty where even one has none, or another."""
    issuer = identity_providers.c.issuer
    everybody = select(func.count()).select_from(organizations).scalar_subquery()
    row = await tx.first(select(issuer).group_by(issuer).having(func.count() == everybody))
    return str(row.issuer) if row is not None else ""


async def find(tx: Transaction, issuer: str, audiences: Sequence[str]) -> Sequence[Row[Any]]:
    """Return the providers, of any organization, that a token with these claims may be meant for."""
    return await tx.all(
        select(identity_providers).where(
            identity_providers.c.issuer == issuer, identity_providers.c.audience.in_(audiences)
        )
    )


async def find_member(tx: Transaction, org: str, email: str) -> Row[Any] | None:
    """Return the member of an organization with this e-mail who is there, with the organization's name."""
    return await tx.first(
        select(members, organizations.c.display_name.label("organization_name"))
        .join(organizations, and_(organizations.c.org_id == members.c.org_id))
        .where(members.c.org_id == org, members.c.email == email, members.c.state == MemberState.ACTIVE)
    )
