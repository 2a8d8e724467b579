"""Policies as rows, in the order in which they are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Boolean, Column, Index, Integer, Row, Table, delete, func, select, update

from core.domain.control.approval_rule import Rule, from_plain
from core.domain.control.policy import MOST, Effect, Policy
from core.domain.errors import EtagMismatch, TooManyPolicies
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.paging import decode_token, encode_token, page_size
from core.store.transaction import Transaction

CHANGED = "policies"
"""What is signalled when policies or budgets have changed: every process then reads them anew."""

policies = Table(
    "policies",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    # Priority and id as one text that sorts in the order of asking.
    Column("place", Name, nullable=False),
    Column("description", Name, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("methods", Json, nullable=False),
    # CEL; empty for always.
    Column("condition", Name, nullable=False),
    Column("effect", Name, nullable=False),
    Column("rule", Json, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("policies_place", "org_id", "place", unique=True),
)

_LOWEST = -(2**31)


def to_domain(row: Row[Any]) -> Policy:
    """Return a row as the rules see it."""
    return Policy(
        id=row.id,
        description=row.description,
        effect=Effect(row.effect),
        methods=tuple(row.methods),
        condition=row.condition,
        rule=from_plain(row.rule),
        priority=row.priority,
        enabled=row.enabled,
    )


async def put(tx: Transaction, policy: Policy, etag: str) -> Row[Any]:
    """Write a policy and return it.

    Raises EtagMismatch when it was written for another version, TooManyPolicies when a new one has no place.
    """
    there = await get(tx, policy.id, lock=True)
    if etag and (there is None or str(there.rev) != etag):
        current = str(there.rev) if there is not None else "(deleted)"
        raise EtagMismatch(kind="policy", id=policy.id, current=current, given=etag)
    values = {
        "place": f"{policy.priority - _LOWEST:010d}:{policy.id}",
        "description": policy.description,
        "priority": policy.priority,
        "methods": list(policy.methods),
        "condition": policy.condition,
        "effect": policy.effect.value,
        "rule": {} if policy.rule == Rule() else policy.rule.plain(),
        "enabled": policy.enabled,
        "updated_at": tx.now,
    }
    if there is None:
        await _check_room(tx)
        await tx.insert(policies, [{"id": policy.id, "rev": 1, **values}])
    else:
        await tx.run(update(policies).where(policies.c.id == policy.id).values(**values, rev=there.rev + 1))
    tx.wake(CHANGED)
    found = await get(tx, policy.id)
    assert found is not None
    return found


async def _check_room(tx: Transaction) -> None:
    counted = await tx.first(select(func.count()).select_from(policies))
    if counted is not None and counted[0] >= MOST:
        raise TooManyPolicies(limit=MOST)


async def get(tx: Transaction, policy_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a policy, or None; `lock` holds it until the transaction ends."""
    statement = select(policies).where(policies.c.id == policy_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def listed(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of policies in the order in which they are asked, and the token of the next."""
    statement = select(policies)
    if token:
        statement = statement.where(policies.c.place > decode_token(token))
    size = page_size(size)
    rows = await tx.all(statement.order_by(policies.c.place).limit(size + 1))
    return rows[:size], encode_token(rows[size - 1].place) if len(rows) > size else ""


async def in_force(tx: Transaction) -> tuple[Policy, ...]:
    """Return the policies in force, in the order in which they are asked."""
    rows = await tx.all(select(policies).where(policies.c.enabled).order_by(policies.c.place))
    return tuple(to_domain(row) for row in rows)


async def remove(tx: Transaction, policy_id: str) -> bool:
    """Delete a policy and tell whether there was one."""
    tx.wake(CHANGED)
    return bool(await tx.run(delete(policies).where(policies.c.id == policy_id)))
