"""What follows when somebody wants no more messages, reports spam, or cannot be reached: all of it in one transaction.

The answer and the suppression are stored, endpoints and workflows are told, and what is on its way is stopped. What is
known already changes nothing and tells nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core import ids
from core.domain.effects import Emit
from core.domain.messaging.addresses import EMAIL
from core.domain.messaging.consent import EVERY, Cause
from core.store import consent, deliveries, events, outgoing_due, records, suppressions
from core.store.deliveries import Emission
from core.store.events import NewEvent
from core.store.records import Record
from core.store.suppressions import NewSuppression
from core.store.transaction import Transaction

SOURCE = "core:messages"
"""The source of the events that workflows see; no source of an organization can be called so."""

PAGE = "unsubscribe_page"
ONE_CLICK = "one_click"
_REPORTED = "source:"


def by_source(source_id: str) -> str:
    """Return the actor of what a source reports."""
    return f"{_REPORTED}{source_id}"


def is_own(actor: str) -> bool:
    """Tell whether an answer is the contact's own, and not somebody's word for them."""
    return actor in (PAGE, ONE_CLICK) or actor.startswith(_REPORTED)


@dataclass(frozen=True, slots=True)
class Said:
    """Who refuses what, and how that came to be known."""

    actor: str
    """A principal, `unsubscribe_page`, `one_click`, `recipient_server`, or `source:<id>`."""
    cause: str
    """What led to it, such as `message:msg_…` or `event:evt_…`."""
    contact_id: str = ""
    address: str = ""
    channel: str = EMAIL
    purpose: str = EVERY
    reason: str = ""
    message_id: str = ""
    enrollment_id: str = ""
    workflow_id: str = ""
    event_id: str = ""
    """The event that reported it."""

    @property
    def about(self) -> dict[str, Any]:
        """Return what is told of it beside the contact."""
        told = {
            "channel": self.channel,
            "purpose": self.purpose,
            "reason": self.reason,
            "message_id": self.message_id,
            "enrollment_id": self.enrollment_id,
            "workflow_id": self.workflow_id,
            "actor": self.actor,
            "cause": self.cause,
        }
        return {name: value for name, value in told.items() if value}


async def unsubscribe(tx: Transaction, said: Said, *, everything: bool = False, at: datetime | None = None) -> bool:
    """Store that a person wants no more messages of a purpose, or none at all, and tell whether that is new.

    `at` is when they said so, where that is told late: what they granted since goes before it.
    """
    contact = await _held(tx, said.contact_id)
    channel, purpose = (EVERY, EVERY) if everything else (said.channel, said.purpose)
    new = False
    if contact is not None:
        if at is not None and await _granted_since(tx, contact.id, channel, purpose, at):
            return False
        new = await refuse(tx, contact, channel, purpose, said)
        if everything and contact.fields.get("unsubscribed") is not True:
            new = True
            await records.update(tx, contact.id, {"unsubscribed": True}, actor=said.actor, cause=said.cause)
    new |= await _suppress(tx, said, EVERY if everything else said.purpose, Cause.UNSUBSCRIBED)
    if new:
        more = {"everything": everything, **({"purpose": EVERY, "channel": EVERY} if everything else {})}
        await _tell(tx, "contact.unsubscribed", said, contact, more)
        await _stop(tx, contact, channel, purpose)
    return new


async def refuse(tx: Transaction, contact: Record, channel: str, purpose: str, said: Said) -> bool:
    """Store a refusal, of a contact that is held, and tell whether it is new."""
    if _stands(await consent.answers_of(tx, contact.id), channel, purpose):
        return False
    of_whom = {"actor": said.actor, "reason": said.reason, "cause": said.cause}
    await consent.answer(tx, contact.id, channel, purpose, False, **of_whom)
    return True


async def withdraw(tx: Transaction, contact: Record, channel: str, purpose: str, said: Said) -> bool:
    """Store what somebody else says for a contact that is held; the address itself stays free for others."""
    new = await refuse(tx, contact, channel, purpose, said)
    if new:
        more = {"channel": channel, "purpose": purpose, "everything": channel == EVERY and purpose == EVERY}
        await _tell(tx, "contact.unsubscribed", said, contact, more)
        await _stop(tx, contact, channel, purpose)
    return new


async def complain(tx: Transaction, said: Said) -> bool:
    """Store that a person reported spam: nothing more goes there by this channel, save what is transactional."""
    contact = await _held(tx, said.contact_id)
    new = False
    if contact is not None:
        new = await refuse(tx, contact, said.channel, EVERY, said)
    new |= await _suppress(tx, said, EVERY, Cause.COMPLAINED)
    if new:
        await _tell(tx, "contact.spam_complaint", said, contact, {})
        await _stop(tx, contact, said.channel, EVERY)
    return new


async def bounce(tx: Transaction, said: Said, *, hard: bool, as_event: bool = True) -> bool:
    """Store that an address gave a message back and tell whether that is new; only a hard bounce suppresses it.

    `as_event` is False where the event that reported it tells the contact's workflows already.
    """
    new = await _suppress(tx, said, EVERY, Cause.BOUNCED) if hard else True
    if new:
        contact = await records.get(tx, said.contact_id) if said.contact_id else None
        more = {"kind": "hard" if hard else "soft"}
        await _tell(tx, "message.bounced", said, contact, more, as_event=as_event)
        if hard:
            await _stop(tx, contact, said.channel, EVERY, also_transactional=True)
    return new


async def resubscribe(tx: Transaction, said: Said) -> None:
    """Store that a person wants messages of a purpose again; what stops them for another reason stays."""
    contact = await _held(tx, said.contact_id)
    if contact is not None:
        of_whom = {"actor": said.actor, "reason": said.reason, "cause": said.cause}
        await consent.answer(tx, contact.id, said.channel, said.purpose, True, **of_whom)
        if contact.fields.get("unsubscribed") is True:
            await records.update(tx, contact.id, {"unsubscribed": None}, actor=said.actor, cause=said.cause)
    if said.address:
        key = suppressions.key_of(tx, said.channel, said.address)
        over = [
            row.id
            for row in await suppressions.standing(tx, "", [key])
            if row.reason == Cause.UNSUBSCRIBED and row.purpose in (EVERY, said.purpose)
        ]
        await suppressions.lift(tx, over, actor=said.actor, reason=said.reason)


def _stands(answers: Any, channel: str, purpose: str) -> bool:
    """Tell whether exactly this refusal is stored, and no newer answer speaks against it."""
    exact = next((one for one in answers if (one.channel, one.purpose) == (channel, purpose)), None)
    if exact is None or exact.granted:
        return False
    return not any(one.granted and one.updated_at > exact.updated_at for one in answers)


async def _granted_since(tx: Transaction, contact_id: str, channel: str, purpose: str, at: datetime) -> bool:
    answers = await consent.answers_of(tx, contact_id)
    return any(
        one.granted and one.updated_at > at and one.channel in (channel, EVERY) and one.purpose in (purpose, EVERY)
        for one in answers
    )


async def _held(tx: Transaction, contact_id: str) -> Record | None:
    if not contact_id:
        return None
    found = (await records.hold(tx, [(tx.org_id, contact_id)])).get((tx.org_id, contact_id))
    return found if found is not None and found.type == "contact" else None


async def _suppress(tx: Transaction, said: Said, purpose: str, cause: Cause) -> bool:
    if not said.address:
        return False
    new = NewSuppression(said.channel, said.address, purpose, cause, said.cause, said.actor, said.contact_id)
    return await suppressions.add(tx, new)


async def _stop(
    tx: Transaction, contact: Record | None, channel: str, purpose: str, *, also_transactional: bool = False
) -> None:
    if contact is not None:
        await outgoing_due.look_again(tx, contact.id, channel, purpose, also_transactional=also_transactional)


async def _tell(
    tx: Transaction, name: str, said: Said, contact: Record | None, more: dict[str, Any], *, as_event: bool = True
) -> None:
    """Tell the organization's endpoints, and the workflows that the contact is in or may enter."""
    if contact is None and name != "message.bounced":
        return
    about = {**said.about, **more}
    data = {**about, "contact_id": contact.id} if contact is not None else dict(about)
    if said.address:
        data["address"] = said.address
    if said.event_id:
        data["event_id"] = said.event_id
    effect = Emit(ids.mint("msg", tx.now), name, data)
    await deliveries.emit(tx, [Emission(tx.org_id, effect, said.enrollment_id)])
    if contact is not None and as_event:
        told = NewEvent(ids.mint("evt", tx.now), SOURCE, "action", name, about, contact.id, tx.now, "")
        await events.store(tx, [told])
