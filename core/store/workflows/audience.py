"""Contacts of an audience, page by page: what a schedule or a pool takes, in order of their ids, oldest first.

And where one contact stands among them. Both look at a bounded number of contacts however few of them fit, so that no
audience holds up a transaction.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, exists, func, select

from core.domain import names
from core.domain.frozen import frozen
from core.domain.workflow.trigger_kinds import Audience
from core.store.filtering import to_sql
from core.store.records.lists import list_members
from core.store.records.records import filter_columns, records
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments

MOST_LOOKED_AT = 5_000
MOST_BEFORE = 20_000
"""Contacts that are looked at to tell how many stand before one."""
_HIGHEST = (1 << 80) - 1


@frozen
class Page:
    """Some contacts of an audience."""

    contact_ids: tuple[str, ...]
    after: str
    """Where the next page goes on."""
    last: bool
    """There is no further page."""


@frozen
class Place:
    """Where a contact stands in an audience."""

    before: int
    """How many of those that are still to be taken are taken earlier."""
    at_least: bool = False
    """There may be more of them: there are too many contacts to look at all."""


async def place(tx: Transaction, audience: Audience, contact_id: str, *, never_in: str = "") -> Place | None:
    """Return where a contact stands; None where it is not of the audience. Works in an organization's transaction."""
    conditions = [
        records.c.type == "contact",
        records.c.deleted_at.is_(None),
        *_conditions(tx.org_id, audience, never_in, tx.dialect),
    ]
    if await tx.first(select(records.c.id).where(records.c.id == contact_id, *conditions)) is None:
        return None
    earlier = (
        select(records.c.org_id, records.c.id)
        .where(records.c.org_id == tx.org_id, records.c.type == "contact", records.c.id < contact_id)
        .order_by(records.c.id.desc())
        .limit(MOST_BEFORE)
        .subquery()
    )
    looked_at = await tx.first(select(func.count().label("number"), func.min(earlier.c.id).label("first")))
    if looked_at is None or looked_at.first is None:
        return Place(0)
    span = (records.c.id >= looked_at.first, records.c.id < contact_id)
    found = await tx.first(select(func.count().label("number")).select_from(records).where(*span, *conditions))
    return Place(found.number if found is not None else 0, looked_at.number == MOST_BEFORE)


async def count(tx: Transaction, audience: Audience, *, never_in: str = "") -> int:
    """Return how many contacts an audience has, of the oldest that are looked at."""
    source: Any = list_members if audience.list else records
    id_column = list_members.c.contact_id if audience.list else records.c.id
    scope = source.c.list_name == audience.list if audience.list else records.c.type == "contact"
    of_org = (source.c.org_id == tx.org_id, scope)
    first = select(id_column.label("id")).where(*of_org).order_by(id_column).limit(MOST_BEFORE)
    fitting = (
        records.c.org_id == tx.org_id,
        records.c.id.in_(first),
        records.c.type == "contact",
        records.c.deleted_at.is_(None),
        *_conditions(tx.org_id, audience, never_in, tx.dialect),
    )
    found = await tx.first(select(func.count().label("fitting")).select_from(records).where(*fitting))
    return 0 if found is None else int(found.fitting)


async def page(
    tx: Transaction,
    org: str,
    audience: Audience,
    *,
    after: str,
    until: datetime,
    limit: int,
    never_in: str = "",
) -> Page:
    """Return at most so many contacts after an id, of those that were there at an instant.

    With `never_in`, only those that have never been enrolled in that workflow. Works in a loop's transaction.
    """
    source: Any = list_members if audience.list else records
    id_column = list_members.c.contact_id if audience.list else records.c.id
    scope = [source.c.org_id == org, id_column > after, id_column <= names.compose("cnt", until, _HIGHEST)]
    scope.append(source.c.list_name == audience.list if audience.list else records.c.type == "contact")
    ahead = select(id_column.label("id")).where(*scope).order_by(id_column).limit(MOST_LOOKED_AT).subquery()
    bounds = await tx.first(select(func.max(ahead.c.id).label("boundary"), func.count().label("looked_at")))
    if bounds is None or bounds.boundary is None:
        return Page((), after, True)
    fitting = (
        select(records.c.id)
        .where(
            records.c.org_id == org,
            records.c.type == "contact",
            records.c.deleted_at.is_(None),
            records.c.id > after,
            records.c.id <= bounds.boundary,
            *_conditions(org, audience, never_in, tx.dialect),
        )
        .order_by(records.c.id)
        .limit(limit)
    )
    found = tuple(row.id for row in await tx.all(fitting))
    if len(found) == limit:
        return Page(found, found[-1], False)
    return Page(found, bounds.boundary, bounds.looked_at < MOST_LOOKED_AT)


def _conditions(org: str, audience: Audience, never_in: str, dialect: str) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if audience.where is not None:
        conditions.append(to_sql(audience.where, filter_columns("contact"), dialect))
    if audience.list:
        member = list_members.c
        on_it = (member.org_id == org, member.list_name == audience.list, member.contact_id == records.c.id)
        conditions.append(exists().where(*on_it))
    if never_in:
        there = enrollments.c
        entered = (there.org_id == org, there.workflow_id == never_in, there.contact_id == records.c.id)
        conditions.append(~exists().where(*entered))
    return conditions
