"""What was said about approvals: votes, remarks, decisions handed on; append-only."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Column, Integer, Row, Table, func, select

from core.domain.errors import WrongState
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction

MOST = 300
"""Votes and remarks that one approval takes."""

approval_votes = Table(
    "approval_votes",
    metadata,
    org_id(),
    Column("approval_id", Name, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("principal_id", Name, nullable=False),
    # `approve` or `reject`; empty for a remark.
    Column("decision", Name, nullable=False),
    Column("comment", Name, nullable=False),
    # For whom it decided, where that was not itself.
    Column("on_behalf_of", Name, nullable=False),
    # Who was behind it then: two of whom one acts for the other are one person. NULL for nobody.
    Column("behind", Json),
    Column("created_at", Instant, nullable=False),
)


async def of(tx: Transaction, approval_ids: Sequence[str]) -> dict[str, list[Row[Any]]]:
    """Return what was said about each of these approvals, oldest first."""
    found: dict[str, list[Row[Any]]] = {approval_id: [] for approval_id in approval_ids}
    statement = select(approval_votes).where(approval_votes.c.approval_id.in_(sorted(found)))
    for row in await tx.all(statement.order_by(approval_votes.c.approval_id, approval_votes.c.number)):
        found[row.approval_id].append(row)
    return found


async def add(
    tx: Transaction,
    approval_id: str,
    principal_id: str,
    *,
    decision: str = "",
    comment: str,
    on_behalf_of: str = "",
    behind: Collection[str] = (),
) -> None:
    """Keep what somebody said; the caller holds the approval.

    Raises WrongState when too much was said already; votes always find room.
    """
    here = select(func.count()).select_from(approval_votes).where(approval_votes.c.approval_id == approval_id)
    counted = await tx.first(here)
    before = 0 if counted is None else int(counted[0])
    if not decision and before >= MOST:
        raise WrongState(kind="approval", id=approval_id, state=f"full with {MOST} remarks", action="another")
    row = {
        "approval_id": approval_id,
        "number": before + 1,
        "principal_id": principal_id,
        "decision": decision,
        "comment": comment,
        "on_behalf_of": on_behalf_of,
        "behind": sorted(behind) or None,
        "created_at": tx.now,
    }
    await tx.insert(approval_votes, [row])
