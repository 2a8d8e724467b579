"""API keys: the credentials by which programs and people act for an organization. Only digests are stored."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Table, and_, or_, select, text, update

from core.store.agents.agents import agents
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.organizations.members import MemberState, members
from core.store.organizations.organizations import organizations
from core.store.paging import page
from core.store.transaction import Transaction

CHANGED = "keys"
"""What is signalled when who may do what has changed: every process then asks anew."""

api_keys = Table(
    "api_keys",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("digest", Name, nullable=False),
    Column("prefix", Name, nullable=False),
    Column("display_name", Name, nullable=False),
    Column("principal_kind", Name, nullable=False),
    Column("principal_id", Name, nullable=False),
    Column("scopes", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant),
    Column("revoked_at", Instant),
    Column("last_used_at", Instant),
    # The lists that narrow something; NULL for none.
    Column("limits", Json),
    Column("rev", Integer, nullable=False, server_default="1"),
    # The secret before the last rotation, as long as it still works.
    Column("previous_digest", Name),
    Column("previous_expires_at", Instant),
    # The agent it speaks for; empty for none.
    Column("agent_id", Name, nullable=False, server_default=""),
    # The principal that minted it; empty for one of the organization's first.
    Column("created_by", Name, nullable=False, server_default=""),
    # Principals who learnt its secret, and those behind them: they can act by it. NULL where nobody else did.
    Column("known_by", Json),
    # A key is looked up before its organization is known; a digest of 179 random bits names one key.
    Index("api_keys_digest", "digest"),
    Index(
        "api_keys_previous_digest",
        "previous_digest",
        sqlite_where=text("previous_digest IS NOT NULL"),
        postgresql_where=text("previous_digest IS NOT NULL"),
    ),
    Index("api_keys_principal", "org_id", "principal_id"),
    Index(
        "api_keys_agent",
        "org_id",
        "agent_id",
        sqlite_where=text("agent_id <> ''"),
        postgresql_where=text("agent_id <> ''"),
    ),
)

_USE_IS_NOTED_EVERY = timedelta(minutes=1)
_SHOWN_CHARACTERS = 21


def digest(secret: str) -> str:
    """Return what is stored of a key: the secret is random, so a fast hash keeps it safe."""
    return hashlib.sha256(secret.encode()).hexdigest()


def shown_prefix(secret: str) -> str:
    """Return the part of a key that may be shown."""
    return secret[:_SHOWN_CHARACTERS]


async def find(tx: Transaction, secret: str) -> Row[Any] | None:
    """Return the key with this secret, its organization's name and its member, or None if it does not work now.

    Asks every organization.
    """
    sought = digest(secret)
    found = await tx.first(
        select(
            api_keys,
            organizations.c.display_name.label("organization_name"),
            members.c.role.label("role"),
            members.c.state.label("member_state"),
            members.c.last_seen_at.label("member_seen_at"),
            agents.c.state.label("agent_state"),
        )
        .join(organizations, organizations.c.org_id == api_keys.c.org_id)
        .outerjoin(members, and_(members.c.org_id == api_keys.c.org_id, members.c.id == api_keys.c.principal_id))
        .outerjoin(agents, and_(agents.c.org_id == api_keys.c.org_id, agents.c.id == api_keys.c.agent_id))
        .where(or_(api_keys.c.digest == sought, api_keys.c.previous_digest == sought))
    )
    if found is None or not _works(found, tx.now):
        return None
    if found.digest != sought and (found.previous_expires_at is None or found.previous_expires_at <= tx.now):
        return None
    if found.principal_kind == "member" and found.member_state != MemberState.ACTIVE:
        return None
    return found


def _works(key: Row[Any], now: datetime) -> bool:
    return key.revoked_at is None and (key.expires_at is None or key.expires_at > now)


async def is_valid(tx: Transaction, key_id: str) -> bool:
    """Tell whether a key of the organization works now."""
    found = await tx.first(select(api_keys.c.revoked_at, api_keys.c.expires_at).where(api_keys.c.id == key_id))
    return found is not None and _works(found, tx.now)


def use_is_worth_noting(key: Row[Any], now: datetime) -> bool:
    """Tell whether the last noted use of a key is more than a minute old."""
    return key.last_used_at is None or now - key.last_used_at >= _USE_IS_NOTED_EVERY


async def note_use(tx: Transaction, key: Row[Any]) -> None:
    """Remember that a key is used now, in a system transaction."""
    await tx.run(
        update(api_keys).where(api_keys.c.org_id == key.org_id, api_keys.c.id == key.id).values(last_used_at=tx.now)
    )


async def get(tx: Transaction, key_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a key, or None."""
    statement = select(api_keys).where(api_keys.c.id == key_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def known_by(tx: Transaction, key_id: str) -> frozenset[str]:
    """Return who learnt the secret of a key, besides those whom it speaks for."""
    row = await get(tx, key_id) if key_id else None
    return frozenset(row.known_by or ()) if row is not None else frozenset()


async def listed(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of keys, newest first."""
    return await page(tx, select(api_keys), api_keys.c.id, size, token)


async def change(tx: Transaction, key_id: str, **values: Any) -> Row[Any]:
    """Set columns of a key and return it; every process asks for it anew."""
    await tx.run(update(api_keys).where(api_keys.c.id == key_id).values(**values, rev=api_keys.c.rev + 1))
    tx.wake(CHANGED)
    changed = await get(tx, key_id)
    assert changed is not None, "the key is held by this transaction"
    return changed


async def revoke(tx: Transaction, key_id: str) -> bool:
    """Revoke a key and tell whether there was one; a revoked key keeps its first instant."""
    if await tx.first(select(api_keys.c.id).where(api_keys.c.id == key_id)) is None:
        return False
    await _revoke(tx, api_keys.c.id == key_id)
    return True


async def of_principal(tx: Transaction, principal_id: str) -> Sequence[Row[Any]]:
    """Return the keys of a principal that work now, the newest first."""
    k = api_keys.c
    works = and_(k.revoked_at.is_(None), or_(k.expires_at.is_(None), k.expires_at > tx.now))
    return await tx.all(select(api_keys).where(k.principal_id == principal_id, works).order_by(k.id.desc()))


async def display_names(tx: Transaction, principal_ids: Collection[str]) -> dict[str, str]:
    """Return how the keys are called that are principals themselves, by id."""
    rows = await tx.all(select(api_keys.c.id, api_keys.c.display_name).where(api_keys.c.id.in_(sorted(principal_ids))))
    return {row.id: row.display_name for row in rows}


async def principals_of_agent(tx: Transaction, agent_id: str) -> list[str]:
    """Return the principals that have spoken for an agent."""
    k = api_keys.c
    rows = await tx.all(select(k.principal_id).where(k.agent_id == agent_id, k.agent_id != "").distinct())
    return sorted(row.principal_id for row in rows)


async def of_agents(tx: Transaction, agent_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return the ids of keys that speak for agents and are not revoked, by agent."""
    k = api_keys.c
    speaking = and_(k.agent_id.in_(sorted(agent_ids)), k.agent_id != "", k.revoked_at.is_(None))
    found: dict[str, list[str]] = {}
    for row in await tx.all(select(k.agent_id, k.id).where(speaking).order_by(k.id)):
        found.setdefault(row.agent_id, []).append(row.id)
    return found


async def revoke_of_principal(tx: Transaction, principal_id: str) -> int:
    """Revoke every key of a principal and return how many worked."""
    return await _revoke(tx, api_keys.c.principal_id == principal_id)


async def revoke_of_agent(tx: Transaction, agent_id: str) -> int:
    """Revoke every key of an agent and return how many worked."""
    return await _revoke(tx, and_(api_keys.c.agent_id == agent_id, api_keys.c.agent_id != ""))


async def _revoke(tx: Transaction, which: Any) -> int:
    tx.wake(CHANGED)
    return await tx.run(update(api_keys).where(which, api_keys.c.revoked_at.is_(None)).values(revoked_at=tx.now))
