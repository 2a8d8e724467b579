"""Writing down what became of messages, with everything that follows, in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from core.domain import names
from core.domain.effects import Emit
from core.domain.enrollment import MessageEnded
from core.domain.webhooks.classify import Outcome
from core.store.events import refusing
from core.store.events.refusing import Said
from core.store.messages import outgoing
from core.store.messages.outgoing import ClaimedMessage, Completion, MessageState
from core.store.transaction import Transaction
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission

EndedMessage = tuple[str, str, MessageEnded]
"""Organization, enrollment, and what it is told."""

OnEnded = Callable[[Transaction, list[EndedMessage]], Awaitable[None]]
"""Told, in the transaction that records it, which messages got their outcome, whether or not somebody waits for it."""

NOBODY_CARRIES = "no webhook endpoint takes message.requested"

NOBODY_IS_ON = "every webhook endpoint that takes message.requested is disabled"

REFUSED_BY_RECIPIENT = "recipient_server"
"""Who says that an address is dead, where its own server does."""

_DM = "dm"


async def record(tx: Transaction, completions: Sequence[Completion], on_ended: OnEnded) -> None:
    """Record tries whose lease still holds, in a system transaction.

    What nobody here carries is handed over here, as an event that somebody's endpoint takes.
    """
    held = await outgoing.still_leased(tx, (one.message for one in completions))
    kept = [one for one in completions if (one.message.org_id, one.message.id) in held]
    kept = await _handed_over(tx, kept)
    await outgoing.complete(tx, kept)
    final = [one for one in kept if one.state.final]
    await deliveries.emit(tx, [emission for one in final for emission in _told(tx, one)])
    for one in final:
        if one.bounced:
            await refusing.bounce(tx.within(one.message.org_id), _bounced(one), hard=True)
    ended = [(one.message.org_id, one.message.enrollment_id, one.stimulus) for one in final]
    if ended:
        await on_ended(tx, ended)


async def _handed_over(tx: Transaction, completions: Sequence[Completion]) -> list[Completion]:
    """Emit the messages that others carry; one that nobody takes has failed, and says so."""
    requests = {
        one.message.id: _about(tx, one.message, "message.requested", to=one.message.recipient, text=one.message.text)
        for one in completions
        if one.handed_over
    }
    reached = await deliveries.emit(tx, list(requests.values()))
    unheard = {
        message: NOBODY_IS_ON if why is Outcome.ENDPOINT_DISABLED else NOBODY_CARRIES
        for message, emission in requests.items()
        if (why := reached[emission.effect.id].silence)
    }
    return [
        replace(one, state=MessageState.FAILED, outcome=unheard[one.message.id]) if one.message.id in unheard else one
        for one in completions
    ]


def _told(tx: Transaction, completion: Completion) -> list[Emission]:
    message = completion.message
    if completion.state is not MessageState.SENT:
        return [_about(tx, message, "message.failed", reason=completion.outcome, attempts=message.attempts + 1)]
    told = [_about(tx, message, "message.sent")]
    if message.channel == _DM:
        told.append(_about(tx, message, "cold_dm.sent" if message.ordinal == 1 else "followup.sent"))
    return told


def _bounced(completion: Completion) -> Said:
    message = completion.message
    return Said(
        actor=REFUSED_BY_RECIPIENT,
        cause=f"message:{message.id}",
        contact_id=message.contact_id,
        address=message.recipient,
        channel=message.channel,
        reason=completion.outcome,
        message_id=message.id,
        enrollment_id=message.enrollment_id,
        workflow_id=message.workflow_id,
    )


def _about(tx: Transaction, message: ClaimedMessage, event_type: str, **more: Any) -> Emission:
    data = {
        "message_id": message.id,
        "channel": message.channel,
        "purpose": message.purpose,
        "contact_id": message.contact_id,
        "enrollment_id": message.enrollment_id,
        "workflow_id": message.workflow_id,
        "step_id": message.step_id,
        "ordinal": message.ordinal,
        **more,
    }
    effect = Emit(names.derive("msg", tx.now, message.org_id, message.id, event_type), event_type, data)
    return Emission(message.org_id, effect, message.enrollment_id)
