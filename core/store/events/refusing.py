"""What follows when somebody wants no more messages, reports spam, or cannot be reached: all of it in one transaction.

The answer and the suppression are stored, endpoints and workflows are told, and what is on its way is stopped. What is
known already changes nothing and tells nobody.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Row, select

from core import ids
from core.domain.effects import Emit
from core.domain.frozen import frozen
from core.domain.messaging.addresses import EMAIL
from core.domain.messaging.consent import EVERY, Cause
from core.store.events import events
from core.store.events.events import NewEvent
from core.store.merging import merges
from core.store.messages import consent, outgoing_due, suppressions
from core.store.messages.suppressions import NewSuppression
from core.store.records import record_events
from core.store.records.record_rows import Draft, Record, hold, records, save, to_record
from core.store.transaction import Transaction
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission

SOURCE = "core:messages"
"""The source of the events that workflows see; no source of an organization can be called so."""

FIELD = "unsubscribed"
"""Of a contact: true while they want nothing by any channel, save what they need. It goes with the answer."""

PAGE = "unsubscribe_page"
ONE_CLICK = "one_click"
_REPORTED = "source:"


def by_source(source_id: str) -> str:
    """Return the actor of what a source reports."""
    return f"{_REPORTED}{source_id}"


def is_own(actor: str) -> bool:
    """Tell whether an answer is the contact's own, and not somebody's word for them."""
    return actor in (PAGE, ONE_CLICK) or actor.startswith(_REPORTED)


@frozen
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
    said, contact = await _whose(tx, said)
    channel, purpose = (EVERY, EVERY) if everything else (said.channel, said.purpose)
    new = False
    if contact is not None:
        if at is not None and await _granted_since(tx, contact.id, channel, purpose, at):
            return False
        new = await refuse(tx, contact, channel, purpose, said)
        new |= everything and await _mark(tx, contact, True, said)
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
    everything = channel == EVERY and purpose == EVERY
    new = await refuse(tx, contact, channel, purpose, said)
    new |= everything and await _mark(tx, contact, True, said)
    if new:
        more = {"channel": channel, "purpose": purpose, "everything": everything}
        await _tell(tx, "contact.unsubscribed", said, contact, more)
        await _stop(tx, contact, channel, purpose)
    return new


async def grant(tx: Transaction, contact: Record, channel: str, purpose: str, said: Said) -> None:
    """Store that somebody else says a contact that is held may be sent messages; what its address refused stays."""
    of_whom = {"actor": said.actor, "reason": said.reason, "cause": said.cause}
    await consent.answer(tx, contact.id, channel, purpose, True, **of_whom)
    if channel == EVERY and purpose == EVERY:
        await _mark(tx, contact, None, said)


async def own_refusals(
    tx: Transaction, contacts: Iterable[tuple[str, str]], channel: str = EVERY, purpose: str = EVERY
) -> dict[tuple[str, str], Row[Any]]:
    """Return what contacts, each `(organization, id)`, refused themselves of a channel and a purpose."""
    wanted = set(contacts)
    refusals = await consent.refusals_of(tx, wanted)
    own = [one for one in refusals if is_own(one.actor) and _meet(one.channel, channel) and _meet(one.purpose, purpose)]
    return {(one.org_id, one.contact_id): one for one in reversed(own) if (one.org_id, one.contact_id) in wanted}


async def complain(tx: Transaction, said: Said) -> bool:
    """Store that a person reported spam: nothing more goes there by this channel, save what is transactional."""
    said, contact = await _whose(tx, said)
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
    said, contact = await _whose(tx, said, lock=False)
    new = await _suppress(tx, said, EVERY, Cause.BOUNCED) if hard else True
    if new:
        more = {"kind": "hard" if hard else "soft"}
        await _tell(tx, "message.bounced", said, contact, more, as_event=as_event)
        if hard:
            await _stop(tx, contact, said.channel, EVERY, also_transactional=True)
    return new


async def resubscribe(tx: Transaction, said: Said) -> None:
    """Store that a person wants messages of a purpose again; what stops them for another reason stays."""
    said, contact = await _whose(tx, said)
    if contact is not None:
        of_whom = {"actor": said.actor, "reason": said.reason, "cause": said.cause}
        await consent.answer(tx, contact.id, said.channel, said.purpose, True, **of_whom)
        await _mark(tx, contact, None, said)
    if said.address:
        key = suppressions.key_of(tx, said.channel, said.address)
        over = [
            row.id
            for row in await suppressions.standing(tx, "", [key])
            if row.reason == Cause.UNSUBSCRIBED and row.purpose in (EVERY, said.purpose)
        ]
        await suppressions.lift(tx, over, actor=said.actor, reason=said.reason)


async def _mark(tx: Transaction, contact: Record, refused: bool | None, said: Said) -> bool:
    """Set the field of a contact that is held, and tell whether that changed it."""
    if (contact.fields.get(FIELD) is True) is (refused is True):
        return False
    draft = Draft(contact)
    draft.patch({FIELD: refused}, said.actor, said.cause)
    await record_events.announce(tx, await save(tx, [draft]))
    return True


def _meet(one: str, other: str) -> bool:
    return one == other or EVERY in (one, other)


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


async def _whose(tx: Transaction, said: Said, *, lock: bool = True) -> tuple[Said, Record | None]:
    """Return what was said as its contact's, and the contact; one that was merged meanwhile is the kept one now."""
    contact = await _contact(tx, said.contact_id, lock=lock)
    if contact is None and said.contact_id:
        contact = await _contact(tx, await merges.kept_now(tx, said.contact_id), lock=lock)
        if contact is not None:
            said = replace(said, contact_id=contact.id)
    return said, contact


async def _contact(tx: Transaction, contact_id: str, *, lock: bool) -> Record | None:
    if not contact_id:
        return None
    if lock:
        found = (await hold(tx, [(tx.org_id, contact_id)])).get((tx.org_id, contact_id))
    else:
        row = await tx.first(select(records).where(records.c.id == contact_id, records.c.deleted_at.is_(None)))
        found = None if row is None else to_record(row)
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
