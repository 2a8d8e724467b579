"""Keeping to when messages may leave, at the moment of sending: quiet hours and caps that they were written under."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timedelta

from sqlalchemy import and_, or_, select

from core.domain.enrollment import Sent
from core.domain.messaging import terms
from core.domain.messaging.terms import NotNow
from core.domain.workflow.frequency import LONGEST_PERIOD
from core.store.messages.outgoing import ClaimedMessage, ContactKey, MessageState, outgoing_messages
from core.store.transaction import Transaction

_LOOK_BACK = LONGEST_PERIOD + timedelta(days=31)
"""A cap's longest time, and a month in which a message was held before it was sent."""


async def early(tx: Transaction, claimed: Sequence[ClaimedMessage]) -> dict[str, NotNow]:
    """Return which of these must not leave now, by id, and until when; in a system transaction that has claimed them.

    Of two messages to one contact that a cap does not allow together, the older one goes.
    """
    bound = {one.id: terms.from_data(one.terms) for one in claimed if one.terms}
    capped = [one for one in claimed if one.id in bound and bound[one.id].caps]
    sent = await _sent(tx, capped, {one.lease_token for one in claimed}) if capped else {}
    found: dict[str, NotNow] = {}
    for one in claimed:
        mine, key = bound.get(one.id), (one.org_id, one.contact_id)
        if mine is not None:
            not_now = mine.quiet(tx.now) or mine.capped(one.channel, sent.get(key, ()), tx.now)
            if not_now is not None:
                found[one.id] = not_now
                continue
        if key in sent:
            sent[key].append(Sent(one.channel, tx.now, one.workflow_id))
    return found


async def _sent(tx: Transaction, capped: Sequence[ClaimedMessage], tokens: set[str]) -> dict[ContactKey, list[Sent]]:
    """Return what these contacts have got, and what others are sending them this moment."""
    c = outgoing_messages.c
    found: Mapping[ContactKey, list[Sent]] = defaultdict(list)
    contacts = sorted({(one.org_id, one.contact_id) for one in capped})
    theirs = or_(*(and_(c.org_id == org, c.contact_id == contact) for org, contact in contacts))
    gone = or_(
        c.state == MessageState.SENT.value,
        and_(c.state == MessageState.SENDING.value, c.lease_token.not_in(sorted(tokens))),
    )
    rows = await tx.all(
        select(c.org_id, c.contact_id, c.channel, c.workflow_id, c.ended_at).where(
            theirs, c.created_at >= tx.now - _LOOK_BACK, gone
        )
    )
    for row in rows:
        found[row.org_id, row.contact_id].append(Sent(row.channel, row.ended_at or tx.now, row.workflow_id))
    return {key: found[key] for key in contacts}
