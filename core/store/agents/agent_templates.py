"""Templates of agents; every change is a version of its own, and deployed agents keep theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Integer, Row, Table, func, select

from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.organizations import organizations
from core.store.paging import page
from core.store.transaction import Transaction

agent_templates = Table(
    "agent_templates",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("version", Integer, primary_key=True),
    # The template as it was put, in the names of the contract.
    Column("content", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
)


async def put(tx: Transaction, template_id: str, content: Mapping[str, Any]) -> int:
    """Keep a template as its newest version and return the number; what is as it was stays that version."""
    await organizations.hold(tx)  # of two calls at once, the second one sees the first one's version
    newest = await get(tx, template_id)
    if newest is not None and newest.content == content:
        return int(newest.version)
    version = 1 if newest is None else int(newest.version) + 1
    row = {"id": template_id, "version": version, "content": dict(content), "created_at": tx.now}
    await tx.insert(agent_templates, [row])
    return version


async def get(tx: Transaction, template_id: str, version: int = 0) -> Row[Any] | None:
    """Return a version of a template, 0 for the newest; None where there is none."""
    c = agent_templates.c
    statement = select(agent_templates).where(c.id == template_id).order_by(c.version.desc()).limit(1)
    return await tx.first(statement.where(c.version == version) if version else statement)


async def listed(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of templates in their newest version, by id from the last one."""
    c = agent_templates.c
    inner = agent_templates.alias()
    latest = select(func.max(inner.c.version)).where(inner.c.org_id == c.org_id, inner.c.id == c.id).scalar_subquery()
    return await page(tx, select(agent_templates).where(c.version == latest), c.id, size, token)
