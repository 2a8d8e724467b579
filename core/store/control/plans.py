"""Plans and their items: previewed changes that wait to be applied, exactly once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Table, and_, delete, select, text, update

from core.domain.control.approval import ApprovalState
from core.domain.control.plan import PlanState, Weighed, plain
from core.store.control import approval_subjects
from core.store.control.approval_subjects import Settlement
from core.store.keys import these
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.paging import decode_token, encode_token, page_size
from core.store.transaction import Transaction

SUBJECT = "plan"
"""The kind of subject by which approvals of plans are asked for."""

_STANDING = text("state IN ('open', 'awaiting_approval')")
"""Not as parameters: a plan of the statement that fits any of them does without the index of what stands."""
_EXPIRED_AT_ONCE = 500
_ITEM_COLUMNS = ("org_id", "plan_id", "number", "record_id", "title", "changes", "excluded_reason")

KEPT_FOR = timedelta(days=30)
"""How long after a plan would have expired its items are kept."""
_FORGOTTEN_AT_ONCE = 20
_WITH_ITEMS = text("forgotten_at IS NULL AND state NOT IN ('open', 'awaiting_approval')")

plans = Table(
    "plans",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("kind", Name, nullable=False),
    Column("title", Name, nullable=False),
    Column("state", Name, nullable=False),
    Column("hash", Name, nullable=False),
    Column("risk", Name, nullable=False),
    Column("counts", Json, nullable=False),
    Column("item_count", Integer, nullable=False),
    Column("excluded_count", Integer, nullable=False),
    Column("approval_reason", Name, nullable=False),
    Column("approval_id", Name, nullable=False),
    # What its kind needs to weigh it again: whom it is about and what was wanted.
    Column("body", Json, nullable=False),
    Column("requester_id", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("applied_at", Instant),
    # When its items were removed.
    Column("forgotten_at", Instant),
    Index("plans_state", "org_id", "state", "id"),
    Index("plans_with_items", "expires_at", sqlite_where=_WITH_ITEMS, postgresql_where=_WITH_ITEMS),
    Index("plans_expiring", "expires_at", sqlite_where=_STANDING, postgresql_where=_STANDING),
)

plan_items = Table(
    "plan_items",
    metadata,
    org_id(),
    Column("plan_id", Name, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("record_id", Name, nullable=False),
    Column("title", Name, nullable=False),
    Column("changes", Json, nullable=False),
    Column("excluded_reason", Name, nullable=False),
)


async def keep(
    tx: Transaction, plan_id: str, kind: str, weighed: Weighed, body: Mapping[str, Any], *, by: str, until: datetime
) -> Row[Any]:
    """Store a plan with its items and return it."""
    changed = len(weighed.changed)
    row = {
        "id": plan_id,
        "kind": kind,
        "title": weighed.title,
        "state": PlanState.OPEN.value,
        "hash": weighed.hash(),
        "risk": weighed.risk.value,
        "counts": weighed.counted(),
        "item_count": changed,
        "excluded_count": len(weighed.items) - changed,
        "approval_reason": weighed.approval_reason,
        "approval_id": "",
        "body": dict(body),
        "requester_id": by,
        "created_at": tx.now,
        "expires_at": until,
        "applied_at": None,
    }
    await tx.insert(plans, [row])
    items = [
        (tx.org_id, plan_id, number, item.record_id, item.title, plain(item)["changes"], item.excluded_reason)
        for number, item in enumerate(weighed.items, 1)
    ]
    await tx.bulk_insert(plan_items, _ITEM_COLUMNS, items)
    kept = await get(tx, plan_id)
    assert kept is not None
    return kept


async def get(tx: Transaction, plan_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a plan, or None; `lock` holds it until the transaction ends."""
    statement = select(plans).where(plans.c.id == plan_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def items(
    tx: Transaction, plan_id: str, size: int, token: str = "", *, excluded: bool | None = None
) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of a plan's items in their order and the token of the next; `excluded` narrows them to one sort."""
    scope = f"{plan_id}|{excluded}"
    statement = select(plan_items).where(plan_items.c.plan_id == plan_id)
    if excluded is not None:
        left_out = plan_items.c.excluded_reason != ""
        statement = statement.where(left_out if excluded else ~left_out)
    if token:
        statement = statement.where(plan_items.c.number > int(decode_token(token, scope)))
    size = page_size(size)
    rows = await tx.all(statement.order_by(plan_items.c.number).limit(size + 1))
    following = encode_token(str(rows[size - 1].number), scope) if len(rows) > size else ""
    return rows[:size], following


async def planned(tx: Transaction, plan_id: str) -> dict[str, dict[str, Any]]:
    """Return what each item of a plan says, by record."""
    rows = await tx.all(select(plan_items).where(plan_items.c.plan_id == plan_id).order_by(plan_items.c.number))
    return {row.record_id: {"changes": row.changes, "excluded_reason": row.excluded_reason} for row in rows}


async def await_approval(tx: Transaction, plan_id: str, approval_id: str, reason: str, until: datetime) -> None:
    """Note that a person decides first; the plan lasts long enough for that."""
    changed = {"approval_id": approval_id, "approval_reason": reason, "expires_at": until}
    await _set(tx, plan_id, state=PlanState.AWAITING_APPROVAL.value, **changed)


async def set_state(tx: Transaction, plan_id: str, state: PlanState) -> None:
    """Set where a plan is; the caller holds its row."""
    await _set(tx, plan_id, state=state.value)


async def mark_applied(tx: Transaction, plan_id: str) -> bool:
    """Note that a plan is applied now and tell whether it was not before."""
    unapplied = and_(plans.c.id == plan_id, plans.c.applied_at.is_(None))
    changed = update(plans).where(unapplied).values(applied_at=tx.now, state=PlanState.APPLIED.value)
    return bool(await tx.run(changed))


async def _set(tx: Transaction, plan_id: str, **values: Any) -> None:
    await tx.run(update(plans).where(plans.c.id == plan_id).values(**values))


async def expire_due(tx: Transaction) -> int:
    """Close plans whose time is over, in a system transaction; return how many."""
    due = await tx.all(
        select(plans.c.org_id, plans.c.id)
        .where(_STANDING, plans.c.expires_at <= tx.now)
        .limit(_EXPIRED_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    if due:
        which = these(plans, [(row.org_id, row.id) for row in due])
        await tx.run(update(plans).where(which).values(state=PlanState.EXPIRED.value))
    return len(due)


async def forget_old(tx: Transaction) -> int:
    """Remove the items of plans that are over for long, in a system transaction; return how many plans.

    What they changed stands in the records' history under the plan as its cause.
    """
    c = plans.c
    old = await tx.all(
        select(c.org_id, c.id)
        .where(_WITH_ITEMS, c.expires_at < tx.now - KEPT_FOR)
        .order_by(c.expires_at)
        .limit(_FORGOTTEN_AT_ONCE)
        .with_for_update(skip_locked=True)
    )
    for row in old:
        within = tx.within(row.org_id)
        await within.run(delete(plan_items).where(plan_items.c.plan_id == row.id))
        await _set(within, row.id, forgotten_at=tx.now)
    return len(old)


_AFTER = {
    ApprovalState.APPROVED: PlanState.OPEN,
    ApprovalState.REJECTED: PlanState.CANCELLED,
    ApprovalState.EXPIRED: PlanState.EXPIRED,
    ApprovalState.CANCELLED: PlanState.CANCELLED,
}


async def _settled(tx: Transaction, approval: Row[Any], settlement: Settlement) -> None:
    """Move a plan on that waited for a decision."""
    waiting = and_(plans.c.id == approval.subject_id, plans.c.state == PlanState.AWAITING_APPROVAL.value)
    await tx.run(update(plans).where(waiting).values(state=_AFTER[settlement.state].value))


async def _hold(tx: Transaction, subjects: Sequence[tuple[str, str]]) -> None:
    wanted = select(plans.c.id).where(these(plans, subjects)).order_by(plans.c.org_id, plans.c.id)
    await tx.all(wanted.with_for_update())


approval_subjects.register(SUBJECT, _settled, hold=_hold)
