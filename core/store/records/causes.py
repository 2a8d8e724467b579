"""Finding changes by what caused them, without walking through the history of everything."""

from __future__ import annotations

from sqlalchemy import ColumnElement, TextClause, and_, or_, select

from core.store.merging import merges
from core.store.records.record_rows import NOT_OF_ENROLLMENTS, record_changes, records
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments

_ENROLLMENT = "enrollment:"


def is_of(cause: str, wanted: str) -> bool:
    """Tell whether a change's cause is the wanted one, whatever reason or step is told with it."""
    return cause == wanted or cause.startswith((f"{wanted} (", f"{wanted}/"))


def of(cause: str) -> ColumnElement[bool]:
    """Return the condition for changes of a cause, whatever reason or step is told with it."""
    c = record_changes.c
    return or_(
        c.cause == cause,
        and_(c.cause >= f"{cause} (", c.cause < f"{cause} )"),
        and_(c.cause >= f"{cause}/", c.cause < f"{cause}0"),
    )


async def where(tx: Transaction, cause: str) -> ColumnElement[bool] | TextClause:
    """Return the condition by which an index leads to changes of a cause.

    What enrollments did is found by the records that they can write, for they write more than all others.
    """
    if not cause.startswith(_ENROLLMENT):
        return NOT_OF_ENROLLMENTS  # as in the partial index, word for word
    enrollment_id = cause.removeprefix(_ENROLLMENT).partition("/")[0]
    row = await tx.first(select(enrollments.c.contact_id).where(enrollments.c.id == enrollment_id))
    return record_changes.c.record_id.in_([] if row is None else await _written(tx, row.contact_id))


async def _written(tx: Transaction, contact_id: str) -> list[str]:
    """Return what an enrollment of a contact can have written.

    That is the contact, whatever it was merged with since, their companies of then and now, and what belongs to them.
    """
    contacts = sorted(await merges.ever_one(tx, contact_id))
    r, c = records.c, record_changes.c
    found = set(contacts)
    found |= {row.company_id for row in await tx.all(select(r.company_id).where(r.id.in_(contacts)))}
    moves = select(c.old_value, c.new_value).where(c.record_id.in_(contacts), c.field == "company_id")
    found |= {value for row in await tx.all(moves) for value in row}
    found |= {row.id for row in await tx.all(select(r.id).where(r.contact_id.in_(contacts)))}
    return sorted(one for one in found if isinstance(one, str) and one)
