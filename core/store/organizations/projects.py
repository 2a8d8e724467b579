"""Projects, which group the workflows of an organization."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, Integer, Row, Table, delete, func, select, update

from core.store.metadata import Instant, Name, metadata, org_id
from core.store.paging import page
from core.store.transaction import Transaction
from core.store.workflows.workflows import workflows

projects = Table(
    "projects",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("display_name", Name, nullable=False),
    Column("description", Name, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
)


async def create(tx: Transaction, project_id: str, display_name: str, description: str) -> Row[Any] | None:
    """Insert a project and return it; None when the id is taken."""
    row = {
        "id": project_id,
        "display_name": display_name,
        "description": description,
        "rev": 1,
        "created_at": tx.now,
    }
    if not await tx.insert(projects, [row], on_conflict="ignore"):
        return None
    return await get(tx, project_id)


async def get(tx: Transaction, project_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a project, or None; `lock` keeps others from deleting it meanwhile."""
    statement = select(projects).where(projects.c.id == project_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def known(tx: Transaction, project_ids: Collection[str]) -> set[str]:
    """Return those of these ids that name a project."""
    return {row.id for row in await tx.all(select(projects.c.id).where(projects.c.id.in_(sorted(project_ids))))}


async def listed(tx: Transaction, size: int, token: str) -> tuple[Sequence[Row[Any]], str]:
    """Return a page of projects, newest first; ids of one's own choice come in their order."""
    return await page(tx, select(projects), projects.c.id, size, token)


async def workflow_counts(tx: Transaction, project_ids: Collection[str]) -> Mapping[str, int]:
    """Return how many workflows each project has; projects without any are left out."""
    rows = await tx.all(
        select(workflows.c.project_id, func.count().label("number"))
        .where(workflows.c.project_id.in_(sorted(project_ids)))
        .group_by(workflows.c.project_id)
    )
    return {row.project_id: row.number for row in rows}


async def change(tx: Transaction, project_id: str, values: Mapping[str, Any]) -> None:
    """Set columns of a project."""
    await tx.run(update(projects).where(projects.c.id == project_id).values(**values, rev=projects.c.rev + 1))


async def remove(tx: Transaction, project_id: str) -> None:
    """Delete a project."""
    await tx.run(delete(projects).where(projects.c.id == project_id))
