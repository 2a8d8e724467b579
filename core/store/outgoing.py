"""Messages to contacts on their way out: written with what sends them, claimed under a lease, ended once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Index,
    Integer,
    Row,
    Select,
    Table,
    and_,
    bindparam,
    or_,
    select,
    text,
    tuple_,
    update,
)

from core.domain.effects import SendMessage
from core.domain.enrollment import MessageEnded, Sent, State
from core.domain.steps.message import TRANSACTIONAL
from core.domain.trace import Transition
from core.store.enrollments import enrollments
from core.store.metadata import Instant, Name, dump_json, from_micros, metadata, org_id, to_micros
from core.store.organizations import organizations
from core.store.record_rows import records
from core.store.transaction import Transaction, values_by_column
from core.store.workflows import WorkflowState, workflows


class MessageState(StrEnum):
    """Where a message is in its life."""

    PENDING = "pending"
    SENDING = "sending"
    """A worker has it; where its lease ends before the outcome is written, it is sent again under the same id."""
    SENT = "sent"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Not sent on purpose, although it had been written."""

    @property
    def final(self) -> bool:
        """Tell whether nothing more will happen."""
        return self not in (MessageState.PENDING, MessageState.SENDING)


_UNDER_WAY = "state IN ('pending', 'sending')"

outgoing_messages = Table(
    "outgoing_messages",
    metadata,
    org_id(),
    Column("id", Name, primary_key=True),
    Column("enrollment_id", Name, nullable=False),
    Column("workflow_id", Name, nullable=False),
    Column("step_id", Name, nullable=False),
    Column("contact_id", Name, nullable=False),
    Column("channel", Name, nullable=False),
    Column("purpose", Name, nullable=False),
    Column("recipient", Name, nullable=False),
    Column("subject", Name, nullable=False),
    Column("text", Name, nullable=False),
    Column("html", Name, nullable=False),
    # Which message on its channel in its enrollment, from 1.
    Column("ordinal", Integer, nullable=False),
    Column("awaited", Boolean, nullable=False),
    Column("state", Name, nullable=False),
    Column("attempts", Integer, nullable=False),
    # When to send; while it is being sent, when the lease ends.
    Column("due_at", Instant),
    Column("lease_token", Name),
    Column("outcome", Name, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("outgoing_due", "org_id", "due_at", sqlite_where=text(_UNDER_WAY), postgresql_where=text(_UNDER_WAY)),
    # Frequency caps ask what a contact got lately, by any workflow.
    Index("outgoing_contact", "org_id", "contact_id", "created_at"),
    Index("outgoing_enrollment", "org_id", "enrollment_id", "id"),
)

_NEW_COLUMNS = (
    "org_id id enrollment_id workflow_id step_id contact_id channel purpose recipient subject text html ordinal "
    "awaited state attempts due_at outcome created_at"
).split()
_DUE = (
    f"FROM outgoing_messages m WHERE m.org_id = {{org}} AND m.{_UNDER_WAY} AND m.due_at <= {{now}} AND NOT EXISTS "  # noqa: S608
    f"(SELECT 1 FROM {workflows.name} f WHERE f.org_id = m.org_id AND f.id = m.workflow_id "
    f"AND f.state = '{WorkflowState.PAUSED}')"
)
_READY = (
    f"SELECT o.org_id FROM {organizations.name} o WHERE EXISTS "  # noqa: S608
    f"(SELECT 1 {_DUE.format(org='o.org_id', now='$1')}) "
    "ORDER BY o.org_id"
)
_CHOSEN_SQLITE = f"SELECT m.org_id, m.id {_DUE.format(org='$1', now='$2')} ORDER BY m.due_at LIMIT $3"
_CHOSEN_POSTGRESQL = (
    "SELECT d.org_id, d.id FROM unnest($1::text[]) AS w(org_id) CROSS JOIN LATERAL "  # noqa: S608
    f"(SELECT m.org_id, m.id {_DUE.format(org='w.org_id', now='$2')} "
    "ORDER BY m.due_at LIMIT $3 FOR UPDATE OF m SKIP LOCKED) d"
)
_SENT = "m.created_at >= $2 AND m.state IN ('pending', 'sending', 'sent')"
_LATELY_SQLITE = (
    "SELECT m.org_id, m.contact_id, m.channel, m.created_at, m.workflow_id FROM json_each($1) w "  # noqa: S608
    f"CROSS JOIN outgoing_messages m ON m.org_id = (w.value ->> 0) AND m.contact_id = (w.value ->> 1) AND {_SENT} "
    "ORDER BY m.created_at, m.id"
)
_LATELY_POSTGRESQL = (
    "SELECT m.org_id, m.contact_id, m.channel, m.created_at, m.workflow_id "  # noqa: S608
    "FROM unnest($1::text[], $3::text[]) AS w(org_id, contact_id) "
    f"JOIN outgoing_messages m ON m.org_id = w.org_id AND m.contact_id = w.contact_id AND {_SENT} "
    "ORDER BY m.created_at, m.id"
)

ContactKey = tuple[str, str]
"""Organization and contact."""


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to write."""

    org_id: str
    enrollment_id: str
    workflow_id: str
    step_id: str
    effect: SendMessage

    @classmethod
    def of(cls, transition: Transition, effect: SendMessage) -> NewMessage:
        """Return the message of a decision; the trace tells which step sends it."""
        enrollment = transition.enrollment
        step_id = next((entry.step_id for entry in transition.trace if effect.id in entry.effects), enrollment.step_id)
        return cls(enrollment.org_id, enrollment.id, enrollment.workflow_id, step_id, effect)


@dataclass(frozen=True, slots=True)
class ClaimedMessage:
    """A message to send now."""

    org_id: str
    id: str
    enrollment_id: str
    workflow_id: str
    step_id: str
    contact_id: str
    channel: str
    purpose: str
    recipient: str
    subject: str
    text: str
    html: str
    ordinal: int
    awaited: bool
    attempts: int
    """Made before this one."""
    created_at: datetime
    lease_token: str


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of a try to send."""

    message: ClaimedMessage
    state: MessageState
    outcome: str
    """What was answered, in a few words."""
    due_at: datetime | None = None
    """When to try again; None in a final state."""

    @property
    def stimulus(self) -> MessageEnded:
        """Return it as the enrollment is told."""
        return MessageEnded(self.message.id, self.state is MessageState.SENT, self.outcome)


async def create_many(tx: Transaction, new: Sequence[NewMessage]) -> None:
    """Write messages, of any organizations, to be sent once this transaction is committed."""
    rows = [
        (
            *(one.org_id, one.effect.id, one.enrollment_id, one.workflow_id, one.step_id, one.effect.contact_id),
            *(one.effect.channel, one.effect.purpose, one.effect.to, one.effect.subject, one.effect.text),
            *(one.effect.html, one.effect.ordinal, one.effect.awaited, MessageState.PENDING.value, 0, tx.now, ""),
            tx.now,
        )
        for one in new
    ]
    await tx.bulk_insert(outgoing_messages, _NEW_COLUMNS, rows)
    if rows:
        tx.wake("mailer")


async def claim(tx: Transaction, *, limit: int, lease: timedelta, token: str, offset: int = 0) -> list[ClaimedMessage]:
    """Lease up to `limit` messages that are due, in a system transaction; organizations share them evenly.

    Messages of paused workflows stay where they are. `offset` rotates who comes first when there are more than fit.
    """
    now = to_micros(tx.now)
    ready = [row[0] for row in await tx.fetch(_READY, now)]
    if not ready or limit <= 0:
        return []
    start = offset % len(ready)
    turn = (ready[start:] + ready[:start])[:limit]
    share = max(1, limit // len(turn))
    if tx.dialect == "postgresql":
        keys = [tuple(row) for row in await tx.fetch(_CHOSEN_POSTGRESQL, turn, now, share)]
    else:
        keys = [tuple(row) for org in turn for row in await tx.fetch(_CHOSEN_SQLITE, org, now, share)]
    if not keys:
        return []
    leased = await tx.all(
        update(outgoing_messages)
        .where(or_(*(_is(org, message) for org, message in keys)))
        .values(state=MessageState.SENDING.value, due_at=tx.now + lease, lease_token=token)
        .returning(*outgoing_messages.c)
    )
    return [_claimed(row) for row in sorted(leased, key=lambda row: (row.created_at, row.id))]


def _is(org: str, message: str) -> Any:
    return and_(outgoing_messages.c.org_id == org, outgoing_messages.c.id == message)


def _claimed(row: Row[Any]) -> ClaimedMessage:
    names = ClaimedMessage.__dataclass_fields__
    return ClaimedMessage(**{name: value for name, value in row._mapping.items() if name in names})


async def unwanted(tx: Transaction, claimed: Sequence[ClaimedMessage]) -> dict[str, str]:
    """Return which messages must not go out any more, by id, and why: much may have happened since they were written.

    A held or retried message can be days old; who unsubscribes, or whose enrollment is cancelled, gets nothing more.
    """
    if not claimed:
        return {}
    contacts = sorted({(one.org_id, one.contact_id) for one in claimed})
    people = await tx.all(
        select(records.c.org_id, records.c.id, records.c.fields).where(
            tuple_(records.c.org_id, records.c.id).in_(contacts), records.c.deleted_at.is_(None)
        )
    )
    fields = {(row.org_id, row.id): row.fields for row in people}
    sources = sorted({(one.org_id, one.enrollment_id) for one in claimed})
    running = await tx.all(
        select(enrollments.c.org_id, enrollments.c.id, enrollments.c.state).where(
            tuple_(enrollments.c.org_id, enrollments.c.id).in_(sources)
        )
    )
    states = {(row.org_id, row.id): row.state for row in running}
    found: dict[str, str] = {}
    for one in claimed:
        person = fields.get((one.org_id, one.contact_id))
        state = states.get((one.org_id, one.enrollment_id))
        if person is None:
            found[one.id] = "skipped: the contact was deleted"
        elif one.purpose != TRANSACTIONAL and person.get("unsubscribed") is True:
            found[one.id] = "skipped: the contact has unsubscribed"
        elif state is None or state == State.CANCELLED:
            found[one.id] = "skipped: the enrollment was cancelled"
    return found


async def still_leased(tx: Transaction, messages: Iterable[ClaimedMessage]) -> set[ContactKey]:
    """Return which of these, as `(organization, id)`, are still this worker's, and hold them until the commit."""
    tokens = {(one.org_id, one.id): one.lease_token for one in messages}
    if not tokens:
        return set()
    c = outgoing_messages.c
    rows = await tx.all(
        select(c.org_id, c.id, c.lease_token)
        .where(or_(*(_is(org, message) for org, message in sorted(tokens))), c.state == MessageState.SENDING.value)
        .order_by(c.org_id, c.id)
        .with_for_update()
    )
    return {(row.org_id, row.id) for row in rows if tokens[row.org_id, row.id] == row.lease_token}


async def complete(tx: Transaction, completions: Sequence[Completion]) -> None:
    """Record tries in a system transaction; the caller holds the rows (`still_leased`)."""
    if not completions:
        return
    c = outgoing_messages.c
    statement = (
        update(outgoing_messages)
        .where(c.org_id == bindparam("the_org"), c.id == bindparam("the_id"))
        .values(
            state=bindparam("new_state"),
            attempts=c.attempts + 1,
            due_at=bindparam("new_due_at"),
            lease_token=None,
            outcome=bindparam("new_outcome"),
            ended_at=bindparam("new_ended_at"),
        )
    )
    values = [
        {
            "the_org": one.message.org_id,
            "the_id": one.message.id,
            "new_state": one.state.value,
            "new_due_at": one.due_at,
            "new_outcome": one.outcome,
            "new_ended_at": tx.now if one.state.final else None,
        }
        for one in completions
    ]
    await tx.connection.execute(statement, values)


async def release(tx: Transaction, abandoned: Iterable[ClaimedMessage]) -> int:
    """Give back leases that will not be completed, in a system transaction."""
    held = [and_(_is(one.org_id, one.id), outgoing_messages.c.lease_token == one.lease_token) for one in abandoned]
    return await _give_back(tx, or_(*held)) if held else 0


async def release_all(tx: Transaction) -> int:
    """Give back every lease, in a system transaction: only right while no other process sends, as on SQLite."""
    return await _give_back(tx, outgoing_messages.c.lease_token.is_not(None))


async def _give_back(tx: Transaction, which: Any) -> int:
    statement = update(outgoing_messages).where(outgoing_messages.c.state == MessageState.SENDING.value, which)
    return await tx.run(statement.values(state=MessageState.PENDING.value, due_at=tx.now, lease_token=None))


async def sent_lately(
    tx: Transaction, contacts: Iterable[ContactKey], since: datetime
) -> dict[ContactKey, tuple[Sent, ...]]:
    """Return what each of these contacts was sent since an instant, oldest first; what is on its way counts."""
    wanted = sorted(set(contacts))
    if not wanted:
        return {}
    if tx.dialect == "postgresql":
        orgs, ids = values_by_column(wanted)
        rows = await tx.fetch(_LATELY_POSTGRESQL, orgs, to_micros(since), ids)
    else:
        rows = await tx.fetch(_LATELY_SQLITE, dump_json(wanted), to_micros(since))
    found: Mapping[ContactKey, list[Sent]] = defaultdict(list)
    for org, contact, channel, created_at, workflow_id in rows:
        found[org, contact].append(Sent(channel, from_micros(created_at), workflow_id))
    return {key: tuple(found[key]) for key in wanted}


def listing(*, enrollment_id: str = "", contact_id: str = "") -> Select[Any]:
    """Return the query of messages, of one enrollment or one contact where it is named."""
    statement = select(outgoing_messages)
    if enrollment_id:
        statement = statement.where(outgoing_messages.c.enrollment_id == enrollment_id)
    return statement.where(outgoing_messages.c.contact_id == contact_id) if contact_id else statement
