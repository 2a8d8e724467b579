"""Approvals: requested in the transaction that needs them, decided and used under a row lock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Index,
    Row,
    Table,
    Text,
    and_,
    cast,
    func,
    literal_column,
    select,
    text,
    update,
)

from core.domain import names
from core.domain.control.approval import Approval, ApprovalState, Rule, Vote, time_out, withdraw
from core.domain.control.approval_rule import OnTimeout, from_plain
from core.domain.effects import Emit, RequestApproval
from core.domain.enrollment import Enrollment
from core.domain.frozen import frozen
from core.store.control import approval_subjects
from core.store.control.approval_subjects import Settlement
from core.store.keys import these
from core.store.metadata import Instant, Json, Name, metadata, org_id
from core.store.transaction import Transaction
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission

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
    # Who decides and by when; empty for the usual rule.
    Column("rule", Json, nullable=False),
    # The policy that asked for it; empty for none.
    Column("policy_id", Name, nullable=False),
    # Who decides for whom.
    Column("delegations", Json, nullable=False),
    Column("escalated_at", Instant),
    # The organization not first: see `enrollments`.
    Index("approvals_subject", "subject_id", "org_id", "subject_kind"),
    Index("approvals_state", "state", "org_id", "id"),
    Index(
        "approvals_expiring",
        "expires_at",
        sqlite_where=text("state = 'pending' AND expires_at IS NOT NULL"),
        postgresql_where=text("state = 'pending' AND expires_at IS NOT NULL"),
    ),
)

_COLUMNS = (
    *("org_id", "id", "subject_kind", "subject_id", "title", "details", "subject_hash", "state"),
    *("requester_id", "decider_id", "comment", "created_at", "expires_at", "rule", "policy_id", "delegations"),
)
_CLOSED_AT_ONCE = 500
_MOST_OF_SUBJECT = 50
_EXPIRED = ApprovalState.EXPIRED
_OF_CALLS = ("call", "plan")
"""Subjects whose details are requests, with whatever they say of people: GetApproval shows that to who may see it."""
_ANNOUNCED = ("reason", "method", "kind", "risk", "item_count", "counts")
STEP = "step"
"""The kind of subject whose enrollment the engine moves."""


@frozen
class NewApproval:
    """A request to write."""

    org_id: str
    id: str
    subject_kind: str
    """`step`, `plan`, `call` or another kind that is registered with `approval_subjects`."""
    subject_id: str
    title: str
    subject_hash: str
    requester_id: str
    details: Mapping[str, Any] = field(default_factory=dict)
    expires_at: datetime | None = None
    rule: Rule = field(default_factory=Rule)
    policy_id: str = ""

    @classmethod
    def of_step(cls, enrollment: Enrollment, effect: RequestApproval) -> NewApproval:
        """Return the request of a step: asked for by whoever enrolled the contact, good for this transition alone."""
        return cls(
            org_id=enrollment.org_id,
            id=effect.id,
            subject_kind=STEP,
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
            rule=effect.rule,
        )

    def announcement(self, now: datetime) -> Emission:
        """Return the event that tells the organization of the request."""
        data: dict[str, Any] = {
            "approval_id": self.id,
            "title": self.title,
            "subject_kind": self.subject_kind,
            "subject_id": self.subject_id,
            "requester_id": self.requester_id,
            "details": _announced(self.subject_kind, self.details),
        }
        if self.expires_at is not None:
            data["expires_at"] = self.expires_at.isoformat()
        message_id = names.derive("msg", now, self.id, "requested")
        return Emission(self.org_id, Emit(message_id, "approval.requested", data))


def _announced(subject_kind: str, details: Mapping[str, Any]) -> dict[str, Any]:
    """Return what endpoints are told of a request: what a workflow's author says there, and of calls no values."""
    if subject_kind not in _OF_CALLS:
        return dict(details)
    return {name: details[name] for name in _ANNOUNCED if name in details}


def to_domain(row: Row[Any], votes: Sequence[Row[Any]] = ()) -> Approval:
    """Return a row as the rules see it, with what was voted."""
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
        rule=from_plain(row.rule),
        votes=tuple(
            Vote(one.principal_id, one.decision == "approve", frozenset(one.behind or ()))
            for one in votes
            if one.decision
        ),
        delegations=row.delegations,
        escalated_at=row.escalated_at,
    )


async def create_many(tx: Transaction, requests: Sequence[NewApproval]) -> None:
    """Write requests; each names its organization. The caller announces them."""
    rows: list[tuple[Any, ...]] = [
        (
            *(one.org_id, one.id, one.subject_kind, one.subject_id, one.title, one.details, one.subject_hash),
            *(ApprovalState.PENDING.value, one.requester_id, "", "", tx.now, one.expires_at),
            *({} if one.rule == Rule() else one.rule.plain(), one.policy_id, {}),
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


async def all_of_subject(tx: Transaction, kind: str, subject_id: str, *, lock: bool = False) -> Sequence[Row[Any]]:
    """Return the newest approvals asked for a subject, the newest first."""
    statement = (
        select(approvals)
        .where(approvals.c.subject_kind == kind, approvals.c.subject_id == subject_id)
        .order_by(approvals.c.id.desc())
        .limit(_MOST_OF_SUBJECT)
    )
    return await tx.all(statement.with_for_update() if lock else statement)


async def pending_of(tx: Transaction, kind: str, requester_id: str) -> int:
    """Return how many approvals of a kind of subject wait for a decision that a principal asked for."""
    a = approvals.c
    here = (a.state == literal_column("'pending'"), a.subject_kind == kind, a.requester_id == requester_id)
    row = await tx.first(select(func.count()).select_from(approvals).where(*here))
    return 0 if row is None else int(row[0])


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
            expires_at=approval.expires_at,
            delegations=dict(approval.delegations),
            escalated_at=approval.escalated_at,
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


async def hand_over(tx: Transaction, member_id: str, successor_id: str) -> int:
    """Let a successor decide what was asked of a member who is gone, or nobody; return how many requests changed."""
    mentioned = cast(approvals.c.rule, Text).contains(member_id, autoescape=True)
    pending = approvals.c.state == ApprovalState.PENDING.value
    named = select(approvals).where(pending, mentioned).order_by(approvals.c.id).with_for_update()
    changed = 0
    for row in await tx.all(named):
        rule = from_plain(row.rule)
        heir = () if successor_id in ("", row.requester_id) else (successor_id,)
        after = replace(
            rule,
            member_ids=_without(rule.member_ids, member_id, heir),
            escalate_to=_without(rule.escalate_to, member_id, heir),
        )
        if after != rule and not (after.is_open and not rule.is_open):  # named nobody means anybody
            changed += await tx.run(update(approvals).where(approvals.c.id == row.id).values(rule=after.plain()))
    return changed


def _without(member_ids: tuple[str, ...], gone: str, heir: tuple[str, ...]) -> tuple[str, ...]:
    if gone not in member_ids:
        return member_ids
    return tuple(dict.fromkeys((*(one for one in member_ids if one != gone), *heir)))


async def escalate(tx: Transaction, which: Sequence[tuple[str, str, datetime]]) -> None:
    """Ask others as well about requests `(organization, id, new last moment)` that are still open, and say so."""
    for org, approval_id, until in which:
        (row, *_) = await _pending(tx, these(approvals, [(org, approval_id)])) or (None,)
        if row is not None and row.escalated_at is None:
            later = replace(to_domain(row), escalated_at=tx.now, expires_at=until)
            await save(tx.within(org), later)
            await deliveries.emit(tx, [_asked_of_others(row, tx.now)])


async def reschedule(tx: Transaction, which: Sequence[tuple[str, str, datetime | None]]) -> None:
    """Let requests `(organization, id, last moment)` that are still open be decided until another time."""
    pending = approvals.c.state == ApprovalState.PENDING.value
    for org, approval_id, until in which:
        await tx.run(update(approvals).where(these(approvals, [(org, approval_id)]), pending).values(expires_at=until))


# Nobody is late while a workflow is paused: resuming says what becomes of them.
_GOES_ON = text(
    "(subject_kind <> 'step' OR NOT EXISTS (SELECT 1 FROM workflows w WHERE w.org_id = approvals.org_id "
    "AND w.id = approvals.details ->> 'workflow_id' AND w.state = 'paused'))"
)


async def expire_due(tx: Transaction, now: datetime) -> int:
    """Do what their rules say with requests that nobody decided in time, in a system transaction; return how many.

    An enrollment's own timer decides what follows for it, so a step's approval only expires here; one that is to ask
    others is left to the timer.
    """
    for kind in approval_subjects.kinds_held():
        overdue = (approvals.c.state == literal_column("'pending'"), approvals.c.expires_at <= now)
        looked_at = select(approvals.c.org_id, approvals.c.subject_id).where(*overdue, approvals.c.subject_kind == kind)
        rows = await tx.all(looked_at.order_by(approvals.c.org_id, approvals.c.id).limit(_CLOSED_AT_ONCE))
        await approval_subjects.hold(tx, kind, [(row.org_id, row.subject_id) for row in rows])
    late = await _pending(tx, and_(approvals.c.expires_at <= now, _GOES_ON))
    rows = [row for row in late if row.subject_kind != STEP or _is_last(row)]
    by_state: dict[ApprovalState, list[Row[Any]]] = {}
    for row in rows:
        after = time_out(to_domain(row), now) if row.subject_kind != STEP else replace(to_domain(row), state=_EXPIRED)
        by_state.setdefault(after.state, []).append(row)
        if after.state is ApprovalState.PENDING:
            await save(tx.within(row.org_id), after)
            await deliveries.emit(tx, [_asked_of_others(row, now)])
    for state, some in by_state.items():
        if state is not ApprovalState.PENDING:
            await _close(tx, some, state)
    return len(rows)


def _is_last(row: Row[Any]) -> bool:
    """Tell whether nobody else will be asked."""
    return row.escalated_at is not None or from_plain(row.rule).on_timeout is not OnTimeout.ESCALATE


def _asked_of_others(row: Row[Any], now: datetime) -> Emission:
    data = {
        "approval_id": row.id,
        "title": row.title,
        "subject_kind": row.subject_kind,
        "subject_id": row.subject_id,
        "requester_id": row.requester_id,
        "details": {**_announced(row.subject_kind, row.details), "escalated": True},
    }
    return Emission(row.org_id, Emit(names.derive("msg", now, row.id, "escalated"), "approval.requested", data))


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
    approved = state is ApprovalState.APPROVED
    for at_once in (False, True):
        some = [row for row in rows if (approved and approval_subjects.used_at_once(row.subject_kind)) is at_once]
        if some:
            statement = update(approvals).where(these(approvals, [(row.org_id, row.id) for row in some]))
            kept = ApprovalState.USED if at_once else state
            await tx.run(statement.values(state=kept.value, decided_at=tx.now))
    await announce_decision(tx, rows, state.value)
    for row in rows:
        await approval_subjects.settle(tx, row, Settlement(state))
