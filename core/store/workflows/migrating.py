"""The running enrollments that a migration would move, as much of them as a plan needs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import select

from core.domain.enrollment import Enrollment, Waiting
from core.domain.frozen import frozen
from core.store.metadata import from_micros
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments, to_domain, waiting_of

MOST = 10_000
"""Enrollments that one plan moves: one transaction, of which others notice at most a second."""

_RUNNING = (
    "SELECT id, rev, version, step_id, wait_kind, wait_subject, wait_key, wait_since, deadline FROM enrollments "
    "WHERE org_id = $1 AND workflow_id = $2 AND version <> $3 AND ($4 = 0 OR version = $4) "
    "AND state IN ('active', 'awaiting_approval') ORDER BY id LIMIT $5"
)


@frozen
class Running:
    """A running enrollment as a migration sees it."""

    id: str
    rev: int
    version: int
    step_id: str
    waiting: Waiting | None
    due_at: datetime | None


async def running(tx: Transaction, org: str, workflow_id: str, *, other_than: int, only: int = 0) -> Sequence[Running]:
    """Return the running enrollments of other versions than one, or of one alone; one more than a plan may move."""
    parameters = (org, workflow_id, other_than, only, MOST + 1)
    casts = _RUNNING.replace("$4 = 0", "$4::int = 0") if tx.dialect == "postgresql" else _RUNNING
    return [
        Running(id_, rev, version, step, waiting_of(kind, subject, _instant(since), key), _instant(due))
        for id_, rev, version, step, kind, subject, key, since, due in await tx.fetch(casts, *parameters)
    ]


async def whole(tx: Transaction, enrollment_ids: Sequence[str]) -> list[Enrollment]:
    """Return these enrollments of the caller's organization as they are; nobody is held."""
    return [to_domain(row) for row in await tx.all(select(enrollments).where(enrollments.c.id.in_(enrollment_ids)))]


def _instant(micros: int | None) -> datetime | None:
    return None if micros is None else from_micros(micros)
