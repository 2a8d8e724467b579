"""Approvals: requested in the transaction that needs them, decided and used under a row lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Column, ColumnElement, Index, Row, Table, and_, literal_column, select, text, update

from core.domain import names
from core.domain.control.approval import Approval, ApprovalState, withdraw
from core.domain.effects import Emit, RequestApproval
from core.domain.enrollment import Enrollment
from core.store import deliveries
from core.store.deliveries import Emission
from core.store.keys import these
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction

approvals = Table(
    "approvals",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("subject_kind", Name, nullable=False),
    Column("subject_id", Name, nullable=False),
    Column("title", Name, nullable=False),
    Column("details", Json, nullable=False),
    Column("subject_hash", Name, nullable=False),
    Column("state", Name, nullable=False),
    Column("requester_id", Name, nullable=False),
    Column("decider_id", Name, nullable=False),
    Column("comment", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("decided_at", Instant),
    Column("expires_at", Instant),
    Index("approvals_subject", "org_id", "subject_kind", "subject_id"),
    Index("approvals_state", "org_id", "state", "id"),
    Index(
        "approvals_expiring",
        "expires_at",
        sqlite_where=text("state = 'pending' AND expires_at IS NOT NULL"),
        postgresql_where=text("state = 'pending' AND expires_at IS NOT NULL"),
    ),
)

_COLUMNS = (
    *("org_id", "id", "subject_kind", "subject_id", "title", "details", "subject_hash", "state"),
    *("requester_id", "decider_id", "comment", "created_at", "expires_at"),
)
_CLOSED_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class NewApproval:
    """A request to write."""

    org_id: str
    id: str
    subject_kind: str
    """`step` or `plan`."""
    subject_id: str
    title: str
    subject_hash: str
    requester_id: str
    details: Mapping[str, Any] = field(default_factory=dict)
    expires_at: datetime | None = None

    @classmethod
    def of_step(cls, enrollment: Enrollment, effect: RequestApproval) -> NewApproval:
        """Return the request of a step: asked for by whoever enrolled the contact, good for this transition alone."""
        return cls(
            org_id=enrollment.org_id,
            id=effect.id,
            subject_kind="step",
            subject_id=enrollment.id,
            title=effect.title,
            subject_hash=f"{enrollment.id}/{enrollment.rev}",
            requester_id=enrollment.actor,
            details={
                **effect.details,
                "workflow_id": enrollment.workflow_id,
                "workflow_version": enrollment.version,
                "step_id": enrollment.step_id,
                "contact_id": enrollment.contact_id,
            },
            expires_at=effect.expires_at,
        )

    def announcement(self, now: datetime) -> Emission:
        """Return the event that tells the organization of the request."""
        data: dict[str, Any] = {
            "approval_id": self.id,
            "title": self.title,
            "subject_kind": self.subject_kind,
            "subject_id": self.subject_id,
            "requester_id": self.requester_id,
            "details": dict(self.details),
        }
        if self.expires_at is not None:
            data["expires_at"] = self.expires_at.isoformat()
        message_id = names.derive("msg", now, self.id, "requested")
        return Emission(self.org_id, Emit(message_id, "approval.requested", data))


def to_domain(row: Row[Any]) -> Approval:
    """Return a row as the rules see it."""
    return Approval(
        id=row.id,
        subject_kind=row.subject_kind,
        subject_id=row.subject_id,
        subject_hash=row.subject_hash,
        requester_id=row.requester_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        state=ApprovalState(row.state),
        decider_id=row.decider_id,
        comment=row.comment,
        decided_at=row.decided_at,
    )


async def create_many(tx: Transaction, requests: Sequence[NewApproval]) -> None:
    """Write requests; each names its organization. The caller announces them."""
    rows = [
        (
            *(one.org_id, one.id, one.subject_kind, one.subject_id, one.title, one.details, one.subject_hash),
            *(ApprovalState.PENDING.value, one.requester_id, "", "", tx.now, one.expires_at),
        )
        for one in requests
    ]
    await tx.bulk_insert(approvals, _COLUMNS, rows)


async def get(tx: Transaction, approval_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return an approval, or None; `lock` holds it until the transaction ends."""
    statement = select(approvals).where(approvals.c.id == approval_id)
    return await tx.first(statement.with_for_update() if lock else statement)


async def of_subject(tx: Transaction, kind: str, subject_id: str, *, lock: bool = False) -> Row[Any] | None:
    """Return the newest approval asked for a subject, or None."""
    statement = (
        select(approvals)
        .where(approvals.c.subject_kind == kind, approvals.c.subject_id == subject_id)
        .order_by(approvals.c.id.desc())
        .limit(1)
    )
    return await tx.first(statement.with_for_update() if lock else statement)


async def save(tx: Transaction, approval: Approval) -> None:
    """Write an approval's new state; the caller holds its row."""
    await tx.run(
        update(approvals)
        .where(approvals.c.id == approval.id)
        .values(
            state=approval.state.value,
            decider_id=approval.decider_id,
            comment=approval.comment,
            decided_at=approval.decided_at,
        )
    )


async def announce_decision(tx: Transaction, rows: Sequence[Row[Any]], decision: str, **said: str) -> None:
    """Tell the organizations what became of requests; `decision` is that of the event type."""
    await deliveries.emit(tx, [_decided(row, decision, said, tx.now) for row in rows])


def _decided(row: Row[Any], decision: str, said: Mapping[str, str], now: datetime) -> Emission:
    data = {
        "approval_id": row.id,
        "title": row.title,
        "decision": decision,
        "subject_kind": row.subject_kind,
        "subject_id": row.subject_id,
        "requester_id": row.requester_id,
        **said,
    }
    return Emission(row.org_id, Emit(names.derive("msg", now, row.id, "decided"), "approval.decided", data))


async def cancel(tx: Transaction, ids: Sequence[tuple[str, str]]) -> int:
    """Withdraw requests `(organization, id)` that are still open and say so; return how many.

    One whose time is over was not withdrawn: it has expired.
    """
    if not ids:
        return 0
    rows = await _pending(tx, these(approvals, ids))
    for state in (ApprovalState.EXPIRED, ApprovalState.CANCELLED):
        await _close(tx, [row for row in rows if withdraw(to_domain(row), tx.now).state is state], state)
    return len(rows)


# Nobody is late while a workflow is paused: resuming says what becomes of them.
_GOES_ON = text(
    "(subject_kind <> 'step' OR NOT EXISTS (SELECT 1 FROM workflows w WHERE w.org_id = approvals.org_id "
    "AND w.id = approvals.details ->> 'workflow_id' AND w.state = 'paused'))"
)


async def expire_due(tx: Transaction, now: datetime) -> int:
    """Close requests that nobody decided in time and say so, in a system transaction; return how many."""
    rows = await _pending(tx, and_(approvals.c.expires_at <= now, _GOES_ON))
    await _close(tx, rows, ApprovalState.EXPIRED)
    return len(rows)


async def _pending(tx: Transaction, which: ColumnElement[bool]) -> Sequence[Row[Any]]:
    return await tx.all(
        select(approvals)
        .where(approvals.c.state == literal_column("'pending'"), which)  # as in the partial index
        .order_by(approvals.c.org_id, approvals.c.id)
        .limit(_CLOSED_AT_ONCE)
        .with_for_update()
    )


async def _close(tx: Transaction, rows: Sequence[Row[Any]], state: ApprovalState) -> None:
    if not rows:
        return
    statement = update(approvals).where(these(approvals, [(row.org_id, row.id) for row in rows]))
    await tx.run(statement.values(state=state.value, decided_at=tx.now))
    await announce_decision(tx, rows, state.value)
