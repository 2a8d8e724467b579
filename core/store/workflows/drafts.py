"""Drafts of workflows that others were put in place of: nobody's unpublished work is lost by being written over."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Integer, Row, Table, delete, select

from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction

KEPT = 20
"""Replaced drafts of each workflow."""

workflow_drafts = Table(
    "workflow_drafts",
    metadata,
    org_id(),
    Column("workflow_id", Name, primary_key=True),
    # The workflow's revision at which the draft was replaced: the last one that showed it.
    Column("rev", Integer, primary_key=True),
    Column("source", Name, nullable=False),
    Column("document", Json, nullable=False),
    Column("author", Name, nullable=False),
    Column("written_at", Instant, nullable=False),
)


async def keep(tx: Transaction, workflow: Row[Any]) -> None:
    """Keep the draft of a workflow that another one takes the place of; of older ones, the newest."""
    row = {
        "workflow_id": workflow.id,
        "rev": workflow.rev,
        "source": workflow.draft_source,
        "document": workflow.draft_document,
        "author": workflow.draft_author,
        "written_at": workflow.draft_at,
    }
    await tx.insert(workflow_drafts, [row])
    c = workflow_drafts.c
    newest = select(c.rev).where(c.workflow_id == workflow.id).order_by(c.rev.desc()).limit(KEPT + 1)
    revs = [one.rev for one in await tx.all(newest)]
    if len(revs) > KEPT:
        await tx.run(delete(workflow_drafts).where(c.workflow_id == workflow.id, c.rev <= revs[-1]))


async def get(tx: Transaction, workflow_id: str, rev: int) -> Row[Any] | None:
    """Return the draft that was replaced at a revision, or None."""
    c = workflow_drafts.c
    return await tx.first(select(workflow_drafts).where(c.workflow_id == workflow_id, c.rev == rev))
