"""Messages to contacts on their way out: written with what sends them, claimed under a lease, ended once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
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
    case,
    literal,
    null,
    or_,
    select,
    text,
    update,
)

from core.domain.effects import SendMessage, WithdrawMessages
from core.domain.enrollment import Enrollment, MessageEnded, Sent
from core.domain.frozen import frozen
from core.domain.trace import Transition
from core.store.metadata import Instant, Json, Name, dump_json, from_micros, metadata, org_id, to_micros
from core.store.transaction import Transaction, values_by_column


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


UNDER_WAY = "state IN ('pending', 'sending')"
PARKED = f"{UNDER_WAY} AND due_at IS NULL"
ELSEWHERE = "provider_id <> ''"

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
    # When it may leave, whenever it is tried; see core.domain.messaging.terms.
    Column("terms", Json, nullable=False),
    Column("state", Name, nullable=False),
    Column("attempts", Integer, nullable=False),
    # When to send; while it is being sent, when the lease ends. NULL while its workflow is paused, once that was met.
    Column("due_at", Instant),
    Column("lease_token", Name),
    Column("outcome", Name, nullable=False),
    # What the channel's own system calls it.
    Column("provider_id", Name, nullable=False, server_default=""),
    Column("created_at", Instant, nullable=False),
    Column("ended_at", Instant),
    Index("outgoing_due", "org_id", "due_at", sqlite_where=text(UNDER_WAY), postgresql_where=text(UNDER_WAY)),
    # Frequency caps ask what a contact got lately, by any workflow. The organization not first: see `enrollments`.
    Index("outgoing_contact", "contact_id", "org_id", "created_at"),
    Index("outgoing_enrollment", "enrollment_id", "org_id", "id"),
    # Other systems tell what became of a message under their own id of it.
    Index("outgoing_provider", "org_id", "provider_id", sqlite_where=text(ELSEWHERE), postgresql_where=text(ELSEWHERE)),
    Index("outgoing_workflow", "workflow_id", "org_id", "id"),
    # Resuming a workflow brings its own back.
    Index("outgoing_parked", "org_id", "workflow_id", sqlite_where=text(PARKED), postgresql_where=text(PARKED)),
)

_NEW_COLUMNS = (
    "org_id id enrollment_id workflow_id step_id contact_id channel purpose recipient subject text html ordinal "
    "awaited terms state attempts due_at outcome created_at"
).split()
_SENT = "m.created_at >= $2 AND m.state IN ('pending', 'sending', 'sent')"
_COUNTED = "m.org_id, m.contact_id, m.channel, coalesce(m.ended_at, m.created_at), m.workflow_id"
_LATELY_SQLITE = (
    f"SELECT {_COUNTED} FROM json_each($1) w "  # noqa: S608
    f"CROSS JOIN outgoing_messages m ON m.org_id = (w.value ->> 0) AND m.contact_id = (w.value ->> 1) AND {_SENT} "
    "ORDER BY m.created_at, m.id"
)
_LATELY_POSTGRESQL = (
    f"SELECT {_COUNTED} "  # noqa: S608
    "FROM unnest($1::text[], $3::text[]) AS w(org_id, contact_id) "
    f"JOIN outgoing_messages m ON m.org_id = w.org_id AND m.contact_id = w.contact_id AND {_SENT} "
    "ORDER BY m.created_at, m.id"
)

ContactKey = tuple[str, str]
"""Organization and contact."""


@frozen
class NewMessage:
    """A message to write."""

    org_id: str
    enrollment_id: str
    workflow_id: str
    step_id: str
    effect: SendMessage

    @classmethod
    def of(cls, transition: Transition, effect: SendMessage) -> NewMessage:
        """Return the message of a decision."""
        enrollment = transition.enrollment
        step_id = effect.step_id or enrollment.step_id
        return cls(enrollment.org_id, enrollment.id, enrollment.workflow_id, step_id, effect)


@frozen
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
    terms: Mapping[str, Any]
    """When it may leave; empty for at any time."""
    attempts: int
    """Made before this one."""
    outcome: str
    """Why it was held before; where it was withdrawn, that."""
    created_at: datetime
    lease_token: str
    unsubscribe_url: str = ""
    """Where one click ends messages of its purpose to its contact; empty for nowhere."""


@frozen
class Completion:
    """What became of a try to send."""

    message: ClaimedMessage
    state: MessageState
    outcome: str
    """What was answered, in a few words."""
    due_at: datetime | None = None
    """When to try again; None in a final state."""
    provider_id: str = ""
    """What the channel's own system calls the message."""
    tried: bool = True
    """False where it was held without a try."""
    handed_over: bool = False
    """True where nobody here carries its channel, and an event asks others to."""
    bounced: bool = False
    """True where the address was refused for good."""

    @property
    def id(self) -> str:
        """Return the message's id."""
        return self.message.id

    @property
    def stimulus(self) -> MessageEnded:
        """Return it as the enrollment is told."""
        message = self.message
        told = f"message {message.ordinal} on {message.channel} to {message.recipient}"
        tries = message.attempts + int(self.tried)
        return MessageEnded(message.id, self.state is MessageState.SENT, self.outcome, message.step_id, told, tries)


async def create_many(tx: Transaction, new: Sequence[NewMessage]) -> None:
    """Write messages, of any organizations, to be sent once this transaction is committed."""
    rows = [
        (
            *(one.org_id, one.effect.id, one.enrollment_id, one.workflow_id, one.step_id, one.effect.contact_id),
            *(one.effect.channel, one.effect.purpose, one.effect.to, one.effect.subject, one.effect.text),
            *(one.effect.html, one.effect.ordinal, one.effect.awaited, one.effect.terms),
            *(MessageState.PENDING.value, 0, tx.now, ""),
            tx.now,
        )
        for one in new
    ]
    await tx.bulk_insert(outgoing_messages, _NEW_COLUMNS, rows)
    if rows:
        tx.wake("mailer")


WITHDRAWN = "skipped: "
"""Begins the outcome of a message that is not to be sent any more; the mailer ends it, as it ends every message."""


async def withdraw(tx: Transaction, unsent: Sequence[tuple[Enrollment, WithdrawMessages]]) -> None:
    """Take back what was written for enrollments, of any organizations, and has not left: all of it, or one message.

    What is being sent this moment cannot be called back. What a paused workflow holds is looked at when it goes on.
    """
    because: dict[str, list[tuple[str, str, str]]] = {}
    for enrollment, effect in unsent:
        because.setdefault(effect.reason, []).append((enrollment.org_id, enrollment.id, effect.message_id))
    c = outgoing_messages.c
    for reason, keys in sorted(because.items()):
        theirs = or_(
            *(
                and_(c.org_id == org, c.enrollment_id == enrollment, *([c.id == message] if message else []))
                for org, enrollment, message in sorted(keys)
            )
        )
        due = case((c.due_at.is_(None), null()), else_=literal(tx.now, Instant()))
        values = {"due_at": due, "outcome": f"{WITHDRAWN}{reason}"}
        await tx.run(update(outgoing_messages).where(theirs, c.state == MessageState.PENDING.value).values(values))
    tx.wake("mailer")


def _is(org: str, message: str) -> Any:
    return and_(outgoing_messages.c.org_id == org, outgoing_messages.c.id == message)


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
            attempts=c.attempts + bindparam("tries"),
            due_at=bindparam("new_due_at"),
            lease_token=None,
            outcome=bindparam("new_outcome"),
            provider_id=bindparam("new_provider_id"),
            ended_at=bindparam("new_ended_at"),
        )
    )
    values = [
        {
            "the_org": one.message.org_id,
            "the_id": one.message.id,
            "new_state": one.state.value,
            "tries": int(one.tried),
            "new_due_at": one.due_at,
            "new_outcome": one.outcome,
            "new_provider_id": one.provider_id,
            "new_ended_at": tx.now if one.state.final else None,
        }
        for one in completions
    ]
    await tx.run_many(statement, values)


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
    """Return what each of these contacts was sent since an instant, oldest first; what is on its way counts.

    It counts for when it left, which may be long after it was written.
    """
    wanted = sorted(set(contacts))
    if not wanted:
        return {}
    if tx.dialect == "postgresql":
        orgs, ids = values_by_column(wanted)
        rows = await tx.fetch(_LATELY_POSTGRESQL, orgs, to_micros(since), ids)
    else:
        rows = await tx.fetch(_LATELY_SQLITE, dump_json(wanted), to_micros(since))
    found: Mapping[ContactKey, list[Sent]] = defaultdict(list)
    for org, contact, channel, at, workflow_id in rows:
        found[org, contact].append(Sent(channel, from_micros(at), workflow_id))
    return {key: tuple(sorted(found[key], key=lambda one: one.at)) for key in wanted}


async def about(tx: Transaction, message_id: str) -> Row[Any] | None:
    """Return a message by its id, or by what another system calls it; None for one that is not known, or two of them.

    The transaction names the organization.
    """
    c = outgoing_messages.c
    if message_id.startswith("msg_"):
        return await tx.first(select(outgoing_messages).where(c.id == message_id))
    named = select(outgoing_messages).where(c.provider_id == message_id, text(ELSEWHERE))
    rows = await tx.all(named.limit(2)) if message_id else []
    return rows[0] if len(rows) == 1 else None


async def send_again(tx: Transaction, message_ids: Iterable[str]) -> set[str]:
    """Let messages that failed go out once more, as they were written, and return which; the others are not there.

    The transaction names the organization.
    """
    c = outgoing_messages.c
    values = {"state": MessageState.PENDING.value, "attempts": 0, "due_at": tx.now, "outcome": "", "ended_at": None}
    here = (c.id.in_(sorted(message_ids)), c.state == MessageState.FAILED.value, c.recipient != "")
    rows = await tx.all(update(outgoing_messages).where(*here).values(values).returning(c.id))
    if rows:
        tx.wake("mailer")
    return {row.id for row in rows}


async def under_way(tx: Transaction, enrollment_id: str, at_most: int) -> Sequence[Row[Any]]:
    """Return what was written for an enrollment and has no outcome yet, oldest first."""
    statement = listing(enrollment_id=enrollment_id).where(text(UNDER_WAY))
    return await tx.all(statement.order_by(outgoing_messages.c.id).limit(at_most))


async def lost(tx: Transaction, enrollment_id: str, at_most: int) -> Sequence[Row[Any]]:
    """Return the newest messages of an enrollment that failed or were skipped, oldest first."""
    c = outgoing_messages.c
    unsent = c.state.in_((MessageState.FAILED.value, MessageState.SKIPPED.value))
    statement = listing(enrollment_id=enrollment_id).where(unsent).order_by(c.id.desc()).limit(at_most)
    return list(reversed(await tx.all(statement)))


def listing(**named: str) -> Select[Any]:
    """Return the query of messages, of one enrollment, contact or workflow where `enrollment_id` or the like is given.

    Raises KeyError for a column that there is not.
    """
    statement = select(outgoing_messages)
    for column, value in named.items():
        if value:
            statement = statement.where(outgoing_messages.c[column] == value)
    return statement
