"""The end of what runs for contacts that go: their enrollments are over in the transaction that deletes them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from sqlalchemy import select

from core.domain.enrollment import Cancelled
from core.engine.driver import EnrollmentDriver, Move
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments, to_domain

_RUNNING = ("active", "awaiting_approval")
_AT_ONCE = 200


async def end_enrollments(
    tx: Transaction, driver: EnrollmentDriver, contact_ids: Sequence[str], actor: str, reason: str
) -> None:
    """End what runs for contacts; their work is held."""
    c = enrollments.c
    for start in range(0, len(contact_ids), _AT_ONCE):
        some = contact_ids[start : start + _AT_ONCE]
        which = (c.contact_id.in_(some), c.state.in_(_RUNNING))
        rows = await tx.all(select(enrollments).where(*which).order_by(c.id).with_for_update())
        if rows:
            await driver.move(tx, [Move(to_domain(row), Cancelled(actor, reason)) for row in rows])


def contacts_leave(driver: EnrollmentDriver) -> Callable[[Transaction, Sequence[str], str, str], Awaitable[None]]:
    """Return the hook that the syncer calls inside the transaction that deletes contacts."""

    async def leave(tx: Transaction, contact_ids: Sequence[str], actor: str, reason: str) -> None:
        await end_enrollments(tx, driver, contact_ids, actor, reason)

    return leave
