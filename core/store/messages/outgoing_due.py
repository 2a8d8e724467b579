"""Messages that are due: claimed under a lease, set aside while their workflow is paused, dropped when unwanted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, literal_column, select, update

from core.domain.enrollment import State
from core.domain.frozen import frozen
from core.domain.messaging import addresses
from core.domain.messaging.consent import EVERY, NOTHING_STORED, TRANSACTIONAL, objection
from core.store.keys import these
from core.store.messages import consent
from core.store.messages.outgoing import PARKED, UNDER_WAY, WITHDRAWN, ClaimedMessage, MessageState, outgoing_messages
from core.store.metadata import to_micros
from core.store.organizations.organizations import organizations
from core.store.records.record_rows import records
from core.store.transaction import Transaction
from core.store.workflows.enrollments import enrollments
from core.store.workflows.workflows import WorkflowState, workflows

_PARKED_AT_ONCE = 500
_DUE = f"m.{UNDER_WAY} AND m.due_at <= $2"
_READY = (
    f"SELECT o.org_id FROM {organizations.name} o WHERE "  # noqa: S608
    f"(SELECT m.due_at FROM outgoing_messages m WHERE m.org_id = o.org_id AND m.{UNDER_WAY} AND m.due_at <= $1 "
    "ORDER BY m.due_at LIMIT 1) IS NOT NULL ORDER BY o.org_id"
)
_PAUSED = (
    f"SELECT 1 FROM {workflows.name} f WHERE f.org_id = m.org_id AND f.id = m.workflow_id "  # noqa: S608
    f"AND f.state = '{WorkflowState.PAUSED}'"
)
_CHOSEN_SQLITE = (
    f"SELECT m.org_id, m.id, m.workflow_id, EXISTS ({_PAUSED}) FROM outgoing_messages m "  # noqa: S608
    f"WHERE m.org_id = $1 AND {_DUE} ORDER BY m.due_at LIMIT $3"
)
_CHOSEN_POSTGRESQL = (
    "SELECT d.* FROM unnest($1::text[]) AS w(org_id) CROSS JOIN LATERAL "  # noqa: S608
    f"(SELECT m.org_id, m.id, m.workflow_id, EXISTS ({_PAUSED}) FROM outgoing_messages m "
    f"WHERE m.org_id = w.org_id AND {_DUE} ORDER BY m.due_at LIMIT $3 FOR UPDATE OF m SKIP LOCKED) d"
)
_UNPARK = (
    "UPDATE outgoing_messages SET due_at = created_at "  # noqa: S608
    f"WHERE org_id = $1 AND workflow_id = $2 AND {PARKED} RETURNING id"
)


async def claim(tx: Transaction, *, limit: int, lease: timedelta, token: str, offset: int = 0) -> list[ClaimedMessage]:
    """Lease up to `limit` messages that are due, in a system transaction; organizations share them evenly.

    Those of paused workflows leave the index of what is due, so that they are met once in a pause. `offset` rotates
    who comes first when there are more than fit.
    """
    ready = [row[0] for row in await tx.fetch(_READY, to_micros(tx.now))]
    if not ready or limit <= 0:
        return []
    start = offset % len(ready)
    turn = (ready[start:] + ready[:start])[:limit]
    share = max(1, limit // len(turn))
    chosen = await _due(tx, turn, share)
    if any(one.paused for one in chosen):
        await _park(tx, sorted({one.org_id for one in chosen if one.paused}))
        chosen = await _due(tx, turn, share)
    keys = [(one.org_id, one.id) for one in chosen if not one.paused]
    if not keys:
        return []
    leased = await tx.all(
        update(outgoing_messages)
        .where(these(outgoing_messages, keys))
        .values(state=MessageState.SENDING.value, due_at=tx.now + lease, lease_token=token)
        .returning(*outgoing_messages.c)
    )
    return [_claimed(row) for row in sorted(leased, key=lambda row: (row.created_at, row.id))]


@frozen
class _Due:
    """A message that is due."""

    org_id: str
    id: str
    workflow_id: str
    paused: bool


async def _due(tx: Transaction, orgs: Sequence[str], each: int) -> list[_Due]:
    """Return the first messages that are due in each of these organizations, held to the end of the transaction."""
    now = to_micros(tx.now)
    if tx.dialect == "postgresql":
        return [_Due(*row) for row in await tx.fetch(_CHOSEN_POSTGRESQL, orgs, now, each)]
    return [_Due(*row) for org in orgs for row in await tx.fetch(_CHOSEN_SQLITE, org, now, each)]


async def _park(tx: Transaction, orgs: Sequence[str]) -> None:
    """Take messages of paused workflows out of the index of what is due; resuming brings them back.

    The pauses are held to the commit, so that none ends in between and leaves its messages behind. One that is about
    to end is let alone: its messages are sent in a moment.
    """
    table = workflows
    held = await tx.all(
        select(table.c.org_id, table.c.id)
        .where(table.c.org_id.in_(orgs), table.c.state == literal_column(f"'{WorkflowState.PAUSED}'"))
        .with_for_update(read=True, skip_locked=True)
    )
    paused = {(row.org_id, row.id) for row in held}
    parked = [one for one in await _due(tx, orgs, _PARKED_AT_ONCE) if (one.org_id, one.workflow_id) in paused]
    if parked:
        here = these(outgoing_messages, [(one.org_id, one.id) for one in parked])
        await tx.run(update(outgoing_messages).where(here).values(due_at=None))
        tx.wake("mailer")  # there may be more behind these


async def unpark(tx: Transaction, org: str, workflow_id: str) -> int:
    """Let messages that a pause held go out, the oldest first; return how many."""
    released = len(await tx.fetch(_UNPARK, org, workflow_id))
    if released:
        tx.wake("mailer")
    return released


def _claimed(row: Row[Any]) -> ClaimedMessage:
    names = ClaimedMessage.__dataclass_fields__
    return ClaimedMessage(**{name: value for name, value in row._mapping.items() if name in names})


async def look_again(tx: Transaction, contact_id: str, channel: str, purpose: str, *, also_transactional: bool) -> int:
    """Make the messages that a refusal covers due now, so that the mailer ends them at once; return how many.

    What is being sent this moment cannot be called back. What a paused workflow holds is looked at when it goes on.
    """
    c = outgoing_messages.c
    covered = [c.contact_id == contact_id, c.state == MessageState.PENDING.value, c.due_at > tx.now]
    if channel != EVERY:
        covered.append(c.channel == channel)
    if purpose != EVERY:
        covered.append(c.purpose == purpose)
    elif not also_transactional:
        covered.append(c.purpose != TRANSACTIONAL)
    # In one order, and not those that a mailer is claiming: it will see the refusal, or has them in its hands.
    found = await tx.all(select(c.id).where(*covered).order_by(c.id).with_for_update(skip_locked=True))
    if found:
        due = update(outgoing_messages).where(c.id.in_([row.id for row in found])).values(due_at=tx.now)
        await tx.run(due)
        tx.wake("mailer")
    return len(found)


async def unwanted(tx: Transaction, claimed: Sequence[ClaimedMessage]) -> dict[str, str]:
    """Return which messages must not go out any more, by id, and why: much may have happened since they were written.

    A held or retried message can be days old; who unsubscribes, or whose enrollment is cancelled, gets nothing more.
    """
    if not claimed:
        return {}
    people = await tx.all(
        select(records.c.org_id, records.c.id, records.c.fields).where(
            these(records, [(one.org_id, one.contact_id) for one in claimed]), records.c.deleted_at.is_(None)
        )
    )
    fields = {(row.org_id, row.id): row.fields for row in people}
    running = await tx.all(
        select(enrollments.c.org_id, enrollments.c.id, enrollments.c.state).where(
            these(enrollments, [(one.org_id, one.enrollment_id) for one in claimed])
        )
    )
    states = {(row.org_id, row.id): row.state for row in running}
    keys: dict[tuple[str, str], set[str]] = {}
    for one in claimed:
        key = addresses.key(one.org_id, one.channel, one.recipient)
        keys.setdefault((one.org_id, one.contact_id), set()).add(key)
    known = await consent.of_contacts(tx, keys)
    found: dict[str, str] = {}
    for one in claimed:
        person = fields.get((one.org_id, one.contact_id))
        state = states.get((one.org_id, one.enrollment_id))
        against = objection(
            known.get((one.org_id, one.contact_id), NOTHING_STORED),
            unsubscribed=person is not None and person.get("unsubscribed") is True,
            channel=one.channel,
            purpose=one.purpose,
            address=one.recipient,
        )
        if person is None:
            found[one.id] = "skipped: the contact was deleted"
        elif against is not None:
            found[one.id] = f"skipped: {against.told}"
        elif one.outcome.startswith(WITHDRAWN):
            found[one.id] = one.outcome
        elif state is None or state == State.CANCELLED:
            found[one.id] = "skipped: the enrollment was cancelled"
    return found
