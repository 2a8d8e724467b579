"""Members: the people of an organization. One who was removed stays as a name for history, and nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Select, Table, func, or_, select, text, update

from core.store.metadata import Instant, Name, metadata, org_id
from core.store.paging import page
from core.store.transaction import Transaction


class MemberState(StrEnum):
    """Whether a person is there."""

    ACTIVE = "active"
    REMOVED = "removed"


members = Table(
    "members",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("email", Name, nullable=False),
    Column("display_name", Name, nullable=False),
    Column("role", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("state", Name, nullable=False, server_default=MemberState.ACTIVE.value),
    Column("rev", Integer, nullable=False, server_default="1"),
    Column("last_seen_at", Instant),
    Column("removed_at", Instant),
    # Who gets the records of one who was removed: empty for nobody, NULL once all are handed over.
    Column("successor_id", Name),
    # An address is free again once its owner is removed: who comes back is a new member.
    Index(
        "members_email",
        "org_id",
        "email",
        unique=True,
        sqlite_where=text("state = 'active'"),
        postgresql_where=text("state = 'active'"),
    ),
    Index(
        "members_handing_over",
        "org_id",
        "id",
        sqlite_where=text("successor_id IS NOT NULL"),
        postgresql_where=text("successor_id IS NOT NULL"),
    ),
)

_SEEN_IS_NOTED_EVERY = timedelta(hours=1)


def _active() -> Select[Any]:
    return select(members).where(members.c.state == MemberState.ACTIVE)


async def get(tx: Transaction, member_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a member, also one who was removed, or None."""
    statement = select(members).where(members.c.id == member_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def display_names(tx: Transaction, member_ids: Collection[str]) -> dict[str, str]:
    """Return how people are called, also those who have left, by id."""
    rows = await tx.all(select(members.c.id, members.c.display_name).where(members.c.id.in_(sorted(member_ids))))
    return {row.id: row.display_name for row in rows}


async def get_active(tx: Transaction, member_id: str) -> Row[Any] | None:
    """Return a member who is there, or None."""
    return await tx.first(_active().where(members.c.id == member_id))


async def active_by_id(tx: Transaction, member_ids: Iterable[str]) -> dict[str, Row[Any]]:
    """Return those of these members who are there, by id."""
    rows = await tx.all(_active().where(members.c.id.in_(sorted(set(member_ids)))))
    return {row.id: row for row in rows}


async def active_by_email(tx: Transaction, emails: Sequence[str]) -> dict[str, Row[Any]]:
    """Return the members with these e-mails who are there, by e-mail."""
    rows = await tx.all(_active().where(members.c.email.in_([email.lower() for email in emails])))
    return {row.email: row for row in rows}


async def listed(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of the members who are there, newest first."""
    return await page(tx, _active(), members.c.id, size, token)


async def other_admins(tx: Transaction, member_id: str) -> int:
    """Return how many active admins there are beside one; whoever acts on it holds the organization."""
    statement = select(func.count()).select_from(members)
    row = await tx.first(
        statement.where(members.c.state == MemberState.ACTIVE, members.c.role == "admin", members.c.id != member_id)
    )
    return 0 if row is None else int(row[0])


async def change(tx: Transaction, member_id: str, **values: Any) -> Row[Any]:
    """Set columns of a member and return it."""
    await tx.run(update(members).where(members.c.id == member_id).values(**values, rev=members.c.rev + 1))
    changed = await get(tx, member_id)
    assert changed is not None, "the member is held by this transaction"
    return changed


def sight_is_worth_noting(last_seen_at: datetime | None, now: datetime) -> bool:
    """Tell whether the last noted call of a member is more than an hour old."""
    return last_seen_at is None or now - last_seen_at >= _SEEN_IS_NOTED_EVERY


async def note_sight(tx: Transaction, org: str, member_id: str) -> None:
    """Remember that a member calls now, in a system transaction."""
    stale = or_(members.c.last_seen_at.is_(None), members.c.last_seen_at <= tx.now - _SEEN_IS_NOTED_EVERY)
    await tx.run(
        update(members).where(members.c.org_id == org, members.c.id == member_id, stale).values(last_seen_at=tx.now)
    )


async def handing_over(tx: Transaction, limit: int) -> Sequence[Row[Any]]:
    """Return members of any organization whose records still wait for their new owner, in a system transaction."""
    statement = select(members).where(members.c.successor_id.is_not(None))
    return await tx.all(statement.order_by(members.c.org_id, members.c.id).limit(limit))
