"""Leads one portion after the other, newest first, for what looks at very many: no portion holds a transaction long."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, func, select

from core.domain.filters import Expression
from core.domain.frozen import frozen
from core.store.filtering import to_sql
from core.store.records.record_rows import Record, records, to_record
from core.store.records.records import filter_columns
from core.store.transaction import Transaction


@frozen
class Which:
    """Which leads are meant."""

    where: Expression | None = None
    ids: Sequence[str] = ()
    """In place of the condition, where there are any."""


async def count(tx: Transaction, which: Which) -> int:
    """Return how many there are."""
    row = await tx.first(_which(tx, select(func.count().label("there")).select_from(records), which))
    assert row is not None
    return int(row.there)


async def portion(tx: Transaction, which: Which, before: str, limit: int) -> list[Record]:
    """Return the leads after those whose last had the id `before`, or the first ones."""
    statement = _which(tx, select(records), which).order_by(records.c.id.desc()).limit(limit)
    if before:
        statement = statement.where(records.c.id < before)
    return [to_record(row) for row in await tx.all(statement)]


def _which(tx: Transaction, statement: Select[Any], which: Which) -> Select[Any]:
    statement = statement.where(records.c.type == "lead", records.c.deleted_at.is_(None))
    if which.ids:
        return statement.where(records.c.id.in_(sorted(set(which.ids))))
    if which.where is not None:
        return statement.where(to_sql(which.where, filter_columns("lead"), tx.dialect))
    return statement
