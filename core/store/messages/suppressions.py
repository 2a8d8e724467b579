"""Addresses that get nothing: one row for an address, a channel, a purpose and a cause, until somebody lifts it.

The key outlives the address: what is left of a person who was erased is a hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Column, Index, Row, Select, Table, and_, or_, select, text, update

from core import ids
from core.domain.filters import And, Comparison, Expression, Not, Or
from core.domain.frozen import frozen
from core.domain.messaging import addresses
from core.domain.messaging.consent import Cause
from core.store import paging
from core.store.filtering import to_sql
from core.store.metadata import Instant, Name, metadata, org_id
from core.store.transaction import Transaction

_STANDING = "lifted_at IS NULL"
_OF_SOMEBODY = f"{_STANDING} AND contact_id <> ''"

suppressions = Table(
    "suppressions",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    # Hash of channel and address.
    Column("key", Name, nullable=False),
    Column("channel", Name, nullable=False),
    # Empty once only the hash may be kept.
    Column("address", Name, nullable=False),
    # `*` for every one.
    Column("purpose", Name, nullable=False),
    Column("reason", Name, nullable=False),
    # What led to it: a message, an event, a call.
    Column("cause", Name, nullable=False),
    Column("actor", Name, nullable=False),
    # Whose address it was; empty where nobody knows.
    Column("contact_id", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("lifted_at", Instant),
    Column("lifted_by", Name, nullable=False),
    Column("lift_reason", Name, nullable=False),
    Index(
        "suppressions_standing",
        "org_id",
        "key",
        "purpose",
        "reason",
        unique=True,
        sqlite_where=text(_STANDING),
        postgresql_where=text(_STANDING),
    ),
    # Of all, not of those alone that stand: merges look for every one. The organization not first: see `enrollments`.
    Index("suppressions_contact", "contact_id", "org_id"),
)


@frozen
class NewSuppression:
    """An address to suppress."""

    channel: str
    address: str
    purpose: str
    reason: Cause
    cause: str
    actor: str
    contact_id: str = ""


def key_of(tx: Transaction, channel: str, address: str) -> str:
    """Return what stands for an address in the organization of the transaction."""
    return addresses.key(tx.org_id, channel, address)


async def add(tx: Transaction, new: NewSuppression) -> bool:
    """Suppress an address and tell whether that is new; two at once are one."""
    return await tx.insert(suppressions, [_row(tx, new)], on_conflict="ignore") == 1


def _row(tx: Transaction, new: NewSuppression) -> dict[str, Any]:
    return {
        "id": ids.mint("sup", tx.now),
        "key": key_of(tx, new.channel, new.address),
        "channel": new.channel,
        "address": addresses.normal(new.channel, new.address),
        "purpose": new.purpose,
        "reason": new.reason.value,
        "cause": new.cause,
        "actor": new.actor,
        "contact_id": new.contact_id,
        "created_at": tx.now,
        "lifted_by": "",
        "lift_reason": "",
        "org_id": tx.org_id,
    }


async def get(tx: Transaction, suppression_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a suppression, lifted or not, or None."""
    statement = select(suppressions).where(suppressions.c.id == suppression_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def standing(tx: Transaction, contact_id: str, keys: Iterable[str]) -> Sequence[Row[Any]]:
    """Return what stands against these addresses, or came by this contact, newest first."""
    c = suppressions.c
    named = and_(c.key.in_(sorted(set(keys))), text(_STANDING))
    whose = or_(named, and_(c.contact_id == contact_id, text(_OF_SOMEBODY))) if contact_id else named
    return await tx.all(select(suppressions).where(whose).order_by(c.id.desc()))


async def lift(tx: Transaction, suppression_ids: Sequence[str], *, actor: str, reason: str) -> int:
    """Let addresses get messages again and return how many suppressions ended."""
    c = suppressions.c
    statement = update(suppressions).where(c.id.in_(suppression_ids), c.lifted_at.is_(None))
    return await tx.run(statement.values(lifted_at=tx.now, lifted_by=actor, lift_reason=reason))


async def forget_person(tx: Transaction, contact_id: str, known: Sequence[tuple[str, str]], *, actor: str) -> None:
    """Keep only the hash of an erased person's addresses, `(channel, address)` each: nothing is sent there any more."""
    cause = f"erased:{contact_id}"
    rows = [_row(tx, NewSuppression(*one, "*", Cause.ERASED, cause, actor, contact_id)) for one in known]
    await tx.insert(suppressions, rows, on_conflict="ignore")
    keys = [key_of(tx, channel, address) for channel, address in known]
    c = suppressions.c
    # Each by its index; what was lifted long ago is looked for with all that mentions the person.
    for which in (and_(c.key.in_(keys), text(_STANDING)), and_(c.contact_id == contact_id, text(_OF_SOMEBODY))):
        await tx.run(update(suppressions).where(which).values(address="", contact_id=""))


async def erased(tx: Transaction, known: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return which of these addresses, as `(channel, address)`, belonged to a person who was erased."""
    by_key = {key_of(tx, *one): one for one in known}
    c = suppressions.c
    rows = await tx.all(
        select(c.key).where(c.key.in_(sorted(by_key)), c.reason == Cause.ERASED.value, c.lifted_at.is_(None))
    )
    return {by_key[row.key] for row in rows}


async def page(
    tx: Transaction, size: int, token: str, *, filter_text: str = "", where: Expression | None = None
) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of the suppressions that stand, newest first, and the next token; `where` is what the text says."""
    statement: Select[Any] = select(suppressions).where(suppressions.c.lifted_at.is_(None))
    if where is not None:
        columns = {column.name: column for column in suppressions.c}
        statement = statement.where(to_sql(_normalised(where), columns, tx.dialect))
    return await paging.page(tx, statement, suppressions.c.id, size, token, filter_text=f"suppressions|{filter_text}")


def _normalised(where: Expression) -> Expression:
    """Return a filter that asks for addresses in the form in which they are kept."""
    match where:
        case Comparison("address", operator, str() as address, kind):
            form = addresses.normal(addresses.EMAIL if "@" in address.strip("@") else "", address)
            return Comparison("address", operator, form, kind)
        case Not(inner):
            return Not(_normalised(inner))
        case And(items):
            return And(tuple(_normalised(item) for item in items))
        case Or(items):
            return Or(tuple(_normalised(item) for item in items))
    return where
