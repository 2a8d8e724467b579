"""Workflows, their published versions, and which events start which of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Index, Integer, Row, Select, Table, delete, select, tuple_, update

from core.domain.errors import NotFound
from core.domain.workflow.compile import compile_document
from core.domain.workflow.version import Version
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction


class WorkflowState(StrEnum):
    """Where a workflow is in its life."""

    DRAFT = "draft"
    ACTIVE = "active"
    ARCHIVED = "archived"


workflows = Table(
    "workflows",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("title", Name, nullable=False),
    Column("state", Name, nullable=False),
    Column("draft_source", Name, nullable=False),
    Column("draft_document", Json, nullable=False),
    # Newest version; 0 for none.
    Column("published_version", Integer, nullable=False),
    Column("rev", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

workflow_versions = Table(
    "workflow_versions",
    metadata,
    org_id(),
    Column("workflow_id", Name, primary_key=True),
    Column("version", Integer, primary_key=True),
    Column("document", Json, nullable=False),
    Column("source", Name, nullable=False),
    Column("published_by", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
)

workflow_triggers = Table(
    "workflow_triggers",
    metadata,
    org_id(),
    Column("event_name", Name, primary_key=True),
    Column("workflow_id", Name, primary_key=True),
    # The newest version; the table holds active workflows only.
    Column("version", Integer, nullable=False),
    Index("workflow_triggers_workflow", "org_id", "workflow_id"),
)

_PAIRS_AT_ONCE = 500


async def create(
    tx: Transaction, workflow_id: str, *, title: str, source: str, document: Mapping[str, Any]
) -> Row[Any] | None:
    """Insert a draft and return it; None when the id is taken."""
    row = {
        "id": workflow_id,
        "title": title,
        "state": WorkflowState.DRAFT,
        "draft_source": source,
        "draft_document": document,
        "published_version": 0,
        "rev": 1,
        "created_at": tx.now,
        "updated_at": tx.now,
    }
    if not await tx.insert(workflows, [row], on_conflict="ignore"):
        return None
    return await get(tx, workflow_id)


async def get(tx: Transaction, workflow_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return a workflow with its draft, or None; `lock` keeps others from changing it meanwhile."""
    statement = select(workflows).where(workflows.c.id == workflow_id)
    return await tx.first(statement.with_for_update() if lock else statement)


def listing() -> Select[Any]:
    """Return the query of workflows without their documents."""
    return select(*[column for column in workflows.c if column.name not in ("draft_source", "draft_document")])


async def update_draft(
    tx: Transaction, workflow_id: str, *, title: str, source: str, document: Mapping[str, Any]
) -> Row[Any]:
    """Replace the draft and return the workflow."""
    return await _change(tx, workflow_id, {"title": title, "draft_source": source, "draft_document": document})


async def publish(tx: Transaction, draft: Row[Any], version: Version, published_by: str) -> Row[Any]:
    """Write a version, make it the newest, listen for its triggers, and return the workflow."""
    row = {
        "workflow_id": draft.id,
        "version": version.number,
        "document": draft.draft_document,
        "source": draft.draft_source,
        "published_by": published_by,
        "created_at": tx.now,
    }
    await tx.insert(workflow_versions, [row])
    await tx.run(delete(workflow_triggers).where(workflow_triggers.c.workflow_id == draft.id))
    names = dict.fromkeys(trigger.event for trigger in version.triggers)
    await tx.insert(
        workflow_triggers,
        [{"event_name": name, "workflow_id": draft.id, "version": version.number} for name in names],
    )
    return await _change(
        tx, draft.id, {"state": WorkflowState.ACTIVE, "published_version": version.number, "title": version.title}
    )


async def archive(tx: Transaction, workflow_id: str) -> Row[Any]:
    """Close a workflow to new enrollments and return it."""
    await tx.run(delete(workflow_triggers).where(workflow_triggers.c.workflow_id == workflow_id))
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


async def triggers_for(tx: Transaction, events: Collection[tuple[str, str]]) -> dict[tuple[str, str], list[Row[Any]]]:
    """Return the triggers of active workflows by `(organization, event name)`, for a loop's transaction."""
    table = workflow_triggers
    found: dict[tuple[str, str], list[Row[Any]]] = {}
    pairs = sorted(events)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        chosen: Sequence[tuple[str, str]] = pairs[start : start + _PAIRS_AT_ONCE]
        statement = select(table).where(tuple_(table.c.org_id, table.c.event_name).in_(chosen))
        for row in await tx.all(statement.order_by(table.c.workflow_id)):
            found.setdefault((row.org_id, row.event_name), []).append(row)
    return found


class VersionCache:
    """Keeps compiled versions, the least recently used go first; versions never change, so nothing goes stale."""

    def __init__(self, size: int = 1_000):
        self._size = size
        self._versions: OrderedDict[tuple[str, str, int], Version] = OrderedDict()

    async def load(self, tx: Transaction, org_id: str, workflow_id: str, number: int) -> Version:
        """Return a compiled version, in a caller's or in a loop's transaction.

        Raises NotFound when it was never published.
        """
        key = (org_id, workflow_id, number)
        version = self._versions.get(key)
        if version is None:
            row = await get_version(tx, org_id, workflow_id, number)
            if row is None:
                raise NotFound(kind="workflow version", id=f"{workflow_id} version {number}")
            compiled = compile_document(row.document, workflow_id=workflow_id, number=number)
            # What was published has been checked; only a newer, stricter core can find fault with it.
            if compiled.version is None:
                raise ValueError(f"{workflow_id} version {number} no longer compiles: {compiled.problems[:3]}")
            version = compiled.version
            self._versions[key] = version
            if len(self._versions) > self._size:
                self._versions.popitem(last=False)
        self._versions.move_to_end(key)
        return version
