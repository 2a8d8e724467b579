"""What a member who is removed leaves behind goes to somebody else: at once where it is little, else in slices."""

from __future__ import annotations

from sqlalchemy import func, select, update

from core.store.organizations import members
from core.store.records import records
from core.store.records.record_rows import records as rows
from core.store.records.records import RecordUpdate
from core.store.transaction import Transaction

_SLICE = 500
_MEMBERS_A_TURN = 20


async def count(tx: Transaction, member_id: str) -> int:
    """Return how many records a member owns."""
    owned = (rows.c.deleted_at.is_(None), rows.c.owner_id == member_id)
    row = await tx.first(select(func.count()).select_from(rows).where(*owned))
    assert row is not None
    return int(row[0])


async def hand_over(tx: Transaction, member_id: str, successor_id: str, *, actor: str) -> None:
    """Give the next slice of a removed member's records to the successor, or to nobody; note when it was the last."""
    found = await tx.all(
        select(rows.c.id)
        .where(rows.c.deleted_at.is_(None), rows.c.owner_id == member_id)
        .order_by(rows.c.id)
        .limit(_SLICE)
    )
    new_owner = successor_id if successor_id and await members.get_active(tx, successor_id) is not None else None
    await records.apply_updates(
        tx,
        [RecordUpdate(tx.org_id, row.id, {"owner_id": new_owner}, actor, f"removal:{member_id}") for row in found],
    )
    if len(found) < _SLICE:
        table = members.members
        await tx.run(update(table).where(table.c.id == member_id).values(successor_id=None))


async def go_on(tx: Transaction) -> int:
    """Hand over the next slices of members who were removed, in a system transaction; return how many wait."""
    waiting = await members.handing_over(tx, _MEMBERS_A_TURN)
    for member in waiting:
        await hand_over(tx.within(member.org_id), member.id, member.successor_id, actor="system")
    return len(waiting)
