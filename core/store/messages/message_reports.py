"""Heeding what others report of messages: events that came in named message.bounced, .complained or .unsubscribed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row

from core.domain.frozen import frozen
from core.domain.messaging import reports
from core.domain.messaging.consent import EVERY, TRANSACTIONAL
from core.domain.messaging.reports import Report
from core.store.events import refusing
from core.store.events.refusing import Said
from core.store.messages import outgoing
from core.store.transaction import Transaction


@frozen
class Heard:
    """An event that was stored in this transaction."""

    event_id: str
    name: str
    fields: Mapping[str, Any]
    source_id: str
    contact_id: str
    """Empty for nobody's."""
    occurred_at: datetime


async def heed(tx: Transaction, heard: Iterable[Heard]) -> None:
    """Suppress, store and tell what these events report; most events report nothing of messages."""
    for event in heard:
        report = reports.read(event.name, event.fields)
        if report is not None:
            message = await outgoing.about(tx, report.message_id)
            await _heed(tx, report, _said(event, report, message), event)


async def _heed(tx: Transaction, report: Report, said: Said, event: Heard) -> None:
    match report.what:
        case "unsubscribed":
            await refusing.unsubscribe(tx, said, at=event.occurred_at)
        case "complained":
            await refusing.complain(tx, said)
        case "bounced":
            # Whose event it is, their workflows see it already.
            await refusing.bounce(tx, said, hard=report.hard, as_event=event.contact_id != said.contact_id)


def _said(event: Heard, report: Report, message: Row[Any] | None) -> Said:
    """Return who refuses what: the message knows best to whom it went, whatever the report calls the address."""
    if message is None:
        about: dict[str, str] = {
            "contact_id": event.contact_id,
            "address": report.address,
            "channel": report.channel,
            "message_id": report.message_id,
        }
    else:
        about = {
            "contact_id": message.contact_id,
            "address": message.recipient,
            "channel": message.channel,
            "message_id": message.id,
            "enrollment_id": message.enrollment_id,
            "workflow_id": message.workflow_id,
        }
    own = "" if message is None or message.purpose == TRANSACTIONAL else message.purpose
    return Said(
        actor=refusing.by_source(event.source_id),
        cause=f"event:{event.event_id}",
        purpose=report.purpose or own or EVERY,
        reason=f"reported as {event.name}",
        event_id=event.event_id,
        **about,
    )
