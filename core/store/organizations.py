"""Organizations, their members and the keys by which programs act for them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Index, Row, Table, select, update

from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.paging import page
from core.store.transaction import Transaction

organizations = Table(
    "organizations",
    metadata,
    org_id(),
    Column("display_name", Name, nullable=False),
    Column("timezone", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
)

members = Table(
    "members",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("email", Name, nullable=False),
    Column("display_name", Name, nullable=False),
    Column("role", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("members_email", "org_id", "email", unique=True),
)

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
    # A key is looked up before its organization is known; a digest of 179 random bits names one key.
    Index("api_keys_digest", "digest"),
)

_USE_IS_NOTED_EVERY = timedelta(minutes=1)
_SHOWN_CHARACTERS = 21


def digest(secret: str) -> str:
    """Return what is stored of a key: the secret is random, so a fast hash keeps it safe."""
    return hashlib.sha256(secret.encode()).hexdigest()


def shown_prefix(secret: str) -> str:
    """Return the part of a key that may be shown."""
    return secret[:_SHOWN_CHARACTERS]


async def find_key(tx: Transaction, secret: str) -> Row[Any] | None:
    """Return the key with this secret, or None if it does not work now. Asks every organization."""
    found = await tx.first(
        select(api_keys, organizations.c.display_name.label("organization_name"))
        .join(organizations, organizations.c.org_id == api_keys.c.org_id)
        .where(api_keys.c.digest == digest(secret))
    )
    if found is None or found.revoked_at is not None or (found.expires_at is not None and found.expires_at <= tx.now):
        return None
    return found


async def key_is_valid(tx: Transaction, key_id: str) -> bool:
    """Tell whether a key of the organization works now."""
    found = await tx.first(select(api_keys.c.revoked_at, api_keys.c.expires_at).where(api_keys.c.id == key_id))
    return found is not None and found.revoked_at is None and (found.expires_at is None or found.expires_at > tx.now)


def use_is_worth_noting(key: Row[Any], now: datetime) -> bool:
    """Tell whether the last noted use of a key is more than a minute old."""
    return key.last_used_at is None or now - key.last_used_at >= _USE_IS_NOTED_EVERY


async def note_use(tx: Transaction, key: Row[Any]) -> None:
    """Remember that a key is used now, in a system transaction."""
    await tx.run(
        update(api_keys).where(api_keys.c.org_id == key.org_id, api_keys.c.id == key.id).values(last_used_at=tx.now)
    )


async def get(tx: Transaction) -> Row[Any]:
    """Return the transaction's own organization."""
    row = await tx.first(select(organizations))
    if row is None:
        raise LookupError(f"organization {tx.org_id} is gone")
    return row


async def hold(tx: Transaction) -> None:
    """Hold the organization until the transaction ends: of two that look and then add, the second sees the first."""
    await tx.first(select(organizations.c.org_id).with_for_update(key_share=True))


async def get_member(tx: Transaction, member_id: str) -> Row[Any] | None:
    """Return a member, or None."""
    return await tx.first(select(members).where(members.c.id == member_id))


async def members_by_id(tx: Transaction, member_ids: Iterable[str]) -> dict[str, Row[Any]]:
    """Return the members with these ids, by id."""
    rows = await tx.all(select(members).where(members.c.id.in_(sorted(set(member_ids)))))
    return {row.id: row for row in rows}


async def members_by_email(tx: Transaction, emails: Sequence[str]) -> dict[str, Row[Any]]:
    """Return the members with these e-mails, by e-mail."""
    rows = await tx.all(select(members).where(members.c.email.in_([email.lower() for email in emails])))
    return {row.email: row for row in rows}


async def list_members(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of members, newest first."""
    return await page(tx, select(members), members.c.id, size, token)


async def list_keys(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of keys, newest first."""
    return await page(tx, select(api_keys), api_keys.c.id, size, token)


async def revoke_key(tx: Transaction, key_id: str, at: datetime) -> bool:
    """Revoke a key and tell whether there was one; a revoked key keeps its first instant."""
    if await tx.first(select(api_keys.c.id).where(api_keys.c.id == key_id)) is None:
        return False
    await tx.run(update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None)).values(revoked_at=at))
    return True
