"""What failed for good: kept until somebody has looked at it and let it be tried again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Select, Table, func, select, update

from core.domain.effects import KeepDeadLetter
from core.domain.enrollment import Enrollment
from core.store.metadata import Instant, Name, metadata, org_id
from core.store.records.record_rows import records
from core.store.transaction import Transaction


class LetterState(StrEnum):
    """Where a dead letter is in its life."""

    OPEN = "open"
    REDRIVEN = "redriven"
    PASSED = "passed"
    """`on_error` let the enrollment go on: the step can be carried out again, and nothing after it."""


dead_letters = Table(
    "dead_letters",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("enrollment_id", Name, nullable=False),
    Column("workflow_id", Name, nullable=False),
    Column("version", Integer, nullable=False),
    Column("contact_id", Name, nullable=False),
    Column("step_id", Name, nullable=False),
    Column("kind", Name, nullable=False),
    Column("failure", Name, nullable=False),
    Column("reason", Name, nullable=False),
    # The message that was not sent; empty where a step failed.
    Column("message_id", Name, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("state", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("redriven_at", Instant),
    Column("redriven_by", Name, nullable=False),
    Index("dead_letters_enrollment", "org_id", "enrollment_id"),
    Index("dead_letters_workflow", "org_id", "workflow_id", "state", "id"),
)

_COLUMNS = (
    "org_id id enrollment_id workflow_id version contact_id step_id kind failure reason message_id attempts state "
    "created_at redriven_at redriven_by"
).split()


async def keep(tx: Transaction, letters: Sequence[tuple[Enrollment, KeepDeadLetter]]) -> None:
    """Write dead letters of enrollments, of any organization."""
    rows = [
        (
            e.org_id, letter.id, e.id, e.workflow_id, e.version, e.contact_id, letter.step_id, letter.kind,
            letter.failure, letter.reason, letter.message_id, letter.attempts,
            LetterState.OPEN if letter.ended or letter.message_id else LetterState.PASSED, tx.now, None, "",
        )
        for e, letter in letters
    ]  # fmt: skip
    await tx.bulk_insert(dead_letters, _COLUMNS, rows)


def listing(workflow_id: str = "") -> Select[Any]:
    """Return the query of dead letters, of one workflow where it is named."""
    statement = select(dead_letters)
    return statement.where(dead_letters.c.workflow_id == workflow_id) if workflow_id else statement


async def by_id(tx: Transaction, letter_ids: Collection[str]) -> dict[str, Row[Any]]:
    """Return the letters with these ids, held until the transaction ends."""
    if not letter_ids:
        return {}
    statement = select(dead_letters).where(dead_letters.c.id.in_(sorted(letter_ids))).order_by(dead_letters.c.id)
    return {row.id: row for row in await tx.all(statement.with_for_update())}


async def of_steps(tx: Transaction, enrollment_ids: Collection[str]) -> Sequence[Row[Any]]:
    """Return the letters of steps, not of messages, that these enrollments have left and nobody has redriven."""
    if not enrollment_ids:
        return []
    c = dead_letters.c
    here = (c.enrollment_id.in_(sorted(enrollment_ids)), c.state != LetterState.REDRIVEN, c.message_id == "")
    return await tx.all(select(dead_letters).where(*here))


async def contacts_there(tx: Transaction, contact_ids: Collection[str]) -> set[str]:
    """Return which of these contacts are neither deleted nor erased nor merged into another.

    Whoever lets one go holds its enrollments first: of those that are held here it stays true until the end.
    """
    if not contact_ids:
        return set()
    c = records.c
    rows = await tx.all(select(c.id).where(c.id.in_(sorted(contact_ids)), c.deleted_at.is_(None)))
    return {row.id for row in rows}


async def redriven(tx: Transaction, letter_ids: Collection[str], by: str) -> None:
    """Note that letters have been tried again."""
    if letter_ids:
        values = {"state": LetterState.REDRIVEN, "redriven_at": tx.now, "redriven_by": by}
        await tx.run(update(dead_letters).where(dead_letters.c.id.in_(sorted(letter_ids))).values(values))


async def count(tx: Transaction, statement: Select[Any]) -> int:
    """Return how many letters a query of letters finds."""
    row = await tx.first(statement.with_only_columns(func.count(), maintain_column_froms=True))
    return 0 if row is None else int(row[0])
