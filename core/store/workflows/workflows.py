"""Workflows and their published versions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Select, Table, select, text, update

from core.domain.errors import NotFound
from core.domain.steps.shapes import Lookups
from core.domain.workflow import own_kinds
from core.domain.workflow.version import Version
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction
from core.store.workflows import compiling, drafts, listeners, schedules


class WorkflowState(StrEnum):
    """Where a workflow is in its life."""

    DRAFT = "draft"
    ACTIVE = "active"
    ARCHIVED = "archived"
    PAUSED = "paused"


workflows = Table(
    "workflows",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("title", Name, nullable=False),
    Column("state", Name, nullable=False),
    Column("draft_source", Name, nullable=False),
    Column("draft_document", Json, nullable=False),
    Column("draft_author", Name, nullable=False),
    Column("draft_at", Instant, nullable=False),
    # The published version that the draft is the text of; 0 for none.
    Column("draft_version", Integer, nullable=False),
    # Newest version; 0 for none.
    Column("published_version", Integer, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
    Column("paused_at", Instant),
    # When it last went on: the circuit breaker looks at what happened since.
    Column("resumed_at", Instant),
    Column("pause_reason", Name, nullable=False),
    # NULL for none.
    Column("project_id", Name),
    # The engine asks with every batch which workflows are paused.
    Index(
        "workflows_paused",
        "org_id",
        "id",
        sqlite_where=text("state = 'paused'"),
        postgresql_where=text("state = 'paused'"),
    ),
    Index(
        "workflows_project",
        "org_id",
        "project_id",
        "id",
        sqlite_where=text("project_id IS NOT NULL"),
        postgresql_where=text("project_id IS NOT NULL"),
    ),
)

workflow_versions = Table(
    "workflow_versions",
    metadata,
    org_id(),
    Column("workflow_id", Name, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Json, nullable=False),
    Column("source", Name, nullable=False),
    # The kinds of own fields it was checked with, by whole name: what is defined later changes nothing.
    Column("own_kinds", Json, nullable=False),
    Column("published_by", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
)


async def create(
    tx: Transaction,
    workflow_id: str,
    *,
    title: str,
    source: str,
    document: Mapping[str, Any],
    author: str = "",
    project_id: str | None = None,
) -> Row[Any] | None:
    """Insert a draft and return it; None when the id is taken."""
    row = {
        "id": workflow_id,
        "title": title,
        "state": WorkflowState.DRAFT,
        "draft_source": source,
        "draft_document": document,
        "draft_author": author,
        "draft_at": tx.now,
        "draft_version": 0,
        "published_version": 0,
        "rev": 1,
        "created_at": tx.now,
        "updated_at": tx.now,
        "pause_reason": "",
        "project_id": project_id,
    }
    if not await tx.insert(workflows, [row], on_conflict="ignore"):
        return None
    return await get(tx, workflow_id)


async def get(tx: Transaction, workflow_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a workflow with its draft, or None; `lock` keeps others from changing it meanwhile."""
    statement = select(workflows).where(workflows.c.id == workflow_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def known(tx: Transaction, workflow_ids: Collection[str]) -> set[str]:
    """Return those of these ids that name a workflow."""
    return {row.id for row in await tx.all(select(workflows.c.id).where(workflows.c.id.in_(sorted(workflow_ids))))}


async def titles(tx: Transaction, workflow_ids: Collection[str]) -> dict[str, str]:
    """Return what workflows are called, by id."""
    c = workflows.c
    return {row.id: row.title for row in await tx.all(select(c.id, c.title).where(c.id.in_(sorted(workflow_ids))))}


async def move(tx: Transaction, workflow_id: str, project_id: str | None) -> Row[Any]:
    """Put a workflow into a project, or into none, and return it."""
    return await _change(tx, workflow_id, {"project_id": project_id})


async def is_paused(tx: Transaction, workflow_id: str) -> bool:
    """Tell whether a workflow is paused."""
    row = await tx.first(select(workflows.c.state).where(workflows.c.id == workflow_id))
    return row is not None and row.state == WorkflowState.PAUSED


def listing() -> Select[Any]:
    """Return the query of workflows without their documents."""
    return select(*[column for column in workflows.c if column.name not in ("draft_source", "draft_document")])


async def update_draft(
    tx: Transaction, was: Row[Any], *, title: str, source: str, document: Mapping[str, Any], author: str = ""
) -> Row[Any]:
    """Replace the draft of a workflow that is held, keep the old one, and return the workflow."""
    if source == was.draft_source:  # written again, it is still whose it was
        return await _change(tx, was.id, {"title": title})
    await drafts.keep(tx, was)
    draft = {"draft_source": source, "draft_document": document, "draft_author": author, "draft_at": tx.now}
    published = await get_version(tx, tx.org_id, was.id, was.published_version)
    version = was.published_version if published is not None and published.source == source else 0
    return await _change(tx, was.id, {"title": title, **draft, "draft_version": version})


async def publish(
    tx: Transaction, draft: Row[Any], version: Version, published_by: str, *, source: str = ""
) -> Row[Any]:
    """Write a version, make it the newest, let it listen and fire, and return the workflow; a paused one stays so.

    `source` is the version's, where it is another than the draft's.
    """
    row = {
        "workflow_id": draft.id,
        "version": version.number,
        "document": version.document,
        "source": source or draft.draft_source,
        "own_kinds": own_kinds.as_json(version.own),
        "published_by": published_by,
        "created_at": tx.now,
    }
    await tx.insert(workflow_versions, [row])
    await listeners.publish(tx, version)
    await schedules.publish(tx, version)
    state = WorkflowState.PAUSED if draft.state == WorkflowState.PAUSED else WorkflowState.ACTIVE
    numbers = {"published_version": version.number, "draft_version": version.number}
    return await _change(tx, draft.id, {"state": state, **numbers, "title": version.title})


async def archive(tx: Transaction, workflow_id: str) -> Row[Any]:
    """Close a workflow to new enrollments and return it; those that run go on."""
    await listeners.stop(tx, workflow_id)
    await schedules.remove(tx, workflow_id)
    return await _change(tx, workflow_id, {"state": WorkflowState.ARCHIVED})


async def _change(tx: Transaction, workflow_id: str, values: Mapping[str, Any]) -> Row[Any]:
    table = workflows
    await tx.run(
        update(table).where(table.c.id == workflow_id).values(**values, rev=table.c.rev + 1, updated_at=tx.now)
    )
    changed = await get(tx, workflow_id)
    if changed is None:
        raise NotFound(kind="workflow", id=workflow_id)
    return changed


async def get_version(tx: Transaction, org_id: str, workflow_id: str, number: int) -> Row[Any] | None:
    """Return a published version, or None; works in a loop's transaction too."""
    table = workflow_versions
    return await tx.first(
        select(table).where(table.c.org_id == org_id, table.c.workflow_id == workflow_id, table.c.version == number)
    )


class VersionUnusable(Exception):
    """A published version cannot be run by this core: only a newer, stricter one can find fault with it."""


class VersionCache:
    """Keeps compiled versions, the least recently used go first; versions never change, so nothing goes stale."""

    def __init__(self, size: int = 1_000):
        self._size = size
        self._versions: OrderedDict[tuple[str, str, int], Version] = OrderedDict()

    async def load(self, tx: Transaction, org_id: str, workflow_id: str, number: int) -> Version:
        """Return a compiled version, in a caller's or in a loop's transaction.

        Raises NotFound when it was never published, and VersionUnusable when this core finds fault with it.
        """
        key = (org_id, workflow_id, number)
        version = self._versions.get(key)
        if version is None:
            row = await get_version(tx, org_id, workflow_id, number)
            if row is None:
                raise NotFound(kind="workflow version", id=f"{workflow_id} version {number}")
            lookups = Lookups(published_with=own_kinds.from_json(row.own_kinds))
            compiled = await compiling.compiled(row.document, lookups, workflow_id=workflow_id, number=number)
            if compiled.version is None:
                reasons = [f"{one.field} {one.reason}" for one in compiled.problems[:3]]
                raise VersionUnusable(f"{workflow_id} version {number} no longer compiles: {', '.join(reasons)}")
            version = compiled.version
            self._versions[key] = version
            if len(self._versions) > self._size:
                self._versions.popitem(last=False)
        self._versions.move_to_end(key)
        return version
