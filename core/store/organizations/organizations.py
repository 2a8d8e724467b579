"""Organizations: the tenants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Boolean, Column, Integer, Row, Table, false, select, update

from core.store.metadata import Instant, Name, metadata, org_id
from core.store.transaction import Transaction

organizations = Table(
    "organizations",
    metadata,
    org_id(),
    Column("display_name", Name, nullable=False),
    Column("timezone", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("rev", Integer, nullable=False, server_default="1"),
    # What units of cost are, such as EUR; empty for not said.
    Column("cost_currency", Name, nullable=False, server_default=""),
    # Every workflow that does not say otherwise begins with an approval.
    Column("require_default_approval_gate", Boolean, nullable=False, server_default=false()),
)


async def get(tx: Transaction) -> Row[Any]:
    """Return the transaction's own organization."""
    row = await tx.first(select(organizations))
    if row is None:
        raise LookupError(f"organization {tx.org_id} is gone")
    return row


async def wants_gate(tx: Transaction) -> bool:
    """Tell whether the organization wants an approval before its workflows that do not say otherwise."""
    row = await tx.first(select(organizations.c.require_default_approval_gate))
    return row is not None and bool(row.require_default_approval_gate)


async def hold(tx: Transaction) -> None:
    """Hold the organization until the transaction ends: of two that look and then add, the second sees the first."""
    await tx.first(select(organizations.c.org_id).with_for_update(key_share=True))


async def change(tx: Transaction, values: Mapping[str, Any]) -> Row[Any]:
    """Set columns of the transaction's own organization and return it."""
    await tx.run(update(organizations).values(**values, rev=organizations.c.rev + 1))
    return await get(tx)
