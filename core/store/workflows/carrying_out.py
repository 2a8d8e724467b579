"""What decisions want done, as rows: record changes, approvals, messages, tasks, lists, events, dead letters."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from core.domain.effects import (
    Ask,
    CancelApproval,
    CancelTask,
    ChangeList,
    CreateRecord,
    CreateTask,
    Effect,
    Emit,
    EmitEvent,
    EscalateApproval,
    KeepDeadLetter,
    RequestApproval,
    Reschedule,
    SendMessage,
    UpdateRecord,
    WithdrawMessages,
)
from core.domain.enrollment import DeliveryEnded, Enrollment
from core.domain.trace import Transition
from core.pieces import LIGHT_AT_ONCE, in_pieces
from core.store.agents import tasks
from core.store.control import approvals, askers
from core.store.events import events
from core.store.messages import outgoing
from core.store.records import lists, records
from core.store.transaction import Transaction
from core.store.webhooks import deliveries
from core.store.webhooks.deliveries import Emission
from core.store.workflows import created, dead_letters

CarriedOut = tuple[tuple[tuple[Enrollment, DeliveryEnded], ...], tuple[tuple[Enrollment, Ask], ...]]
"""Enrollments whose awaited message nobody will receive, with why, and enrollments with a question."""


@dataclass(slots=True)
class _Sorted:
    """The effects of a batch, kind by kind: each kind is written in one statement or few."""

    updates: list[records.RecordUpdate] = field(default_factory=list)
    creations: list[created.NewRecord] = field(default_factory=list)
    requested: list[approvals.NewApproval] = field(default_factory=list)
    withdrawn: list[tuple[str, str]] = field(default_factory=list)
    escalated: list[tuple[str, str, datetime]] = field(default_factory=list)
    new_limits: list[tuple[str, str, datetime | None]] = field(default_factory=list)
    emissions: list[Emission] = field(default_factory=list)
    awaited: dict[str, Enrollment] = field(default_factory=dict)
    messages: list[outgoing.NewMessage] = field(default_factory=list)
    new_tasks: list[tuple[Enrollment, CreateTask]] = field(default_factory=list)
    cancelled_tasks: list[tuple[str, str]] = field(default_factory=list)
    list_changes: list[lists.ListChange] = field(default_factory=list)
    emitted: list[tuple[Enrollment, EmitEvent]] = field(default_factory=list)
    letters: list[tuple[Enrollment, KeepDeadLetter]] = field(default_factory=list)
    unsent: list[tuple[Enrollment, WithdrawMessages]] = field(default_factory=list)
    asked: list[tuple[Enrollment, Ask]] = field(default_factory=list)

    def add(self, tx: Transaction, transition: Transition, effect: Effect) -> None:  # noqa: C901 -- a few lines a kind
        """Put one effect with others of its kind."""
        enrollment = transition.enrollment
        match effect:
            case UpdateRecord():
                cause = f"enrollment:{enrollment.id}/{enrollment.rev}"
                actor = f"workflow:{enrollment.workflow_id}"
                update = records.RecordUpdate(enrollment.org_id, effect.record_id, effect.fields, actor, cause)
                self.updates.append(update)
            case RequestApproval():
                request = approvals.NewApproval.of_step(enrollment, effect)
                self.requested.append(request)
            case CancelApproval():
                self.withdrawn.append((enrollment.org_id, effect.id))
            case EscalateApproval():
                self.escalated.append((enrollment.org_id, effect.id, effect.expires_at))
            case Reschedule():
                self.new_limits.append((enrollment.org_id, effect.id, effect.expires_at))
            case Emit():
                self.emissions.append(Emission(enrollment.org_id, effect, enrollment.id))
                if effect.awaited:
                    self.awaited[effect.id] = enrollment
            case CreateRecord():
                cause = f"enrollment:{enrollment.id}/{enrollment.rev}"
                actor = f"workflow:{enrollment.workflow_id}"
                about = (enrollment.org_id, effect.id, effect.record_type, effect.fields)
                self.creations.append(created.NewRecord(*about, actor, cause))
            case SendMessage():
                self.messages.append(outgoing.NewMessage.of(transition, effect))
            case CreateTask():
                self.new_tasks.append((enrollment, effect))
                self.emissions.append(tasks.announcement(enrollment, effect, tx.now))
            case CancelTask():
                self.cancelled_tasks.append((enrollment.org_id, effect.id))
            case ChangeList():
                actor = f"workflow:{enrollment.workflow_id}"
                cause = f"enrollment:{enrollment.id}/{enrollment.rev}"
                change = lists.ListChange(
                    enrollment.org_id, effect.list_name, effect.contact_id, effect.on, actor, cause
                )
                self.list_changes.append(change)
            case EmitEvent():
                self.emitted.append((enrollment, effect))
            case KeepDeadLetter():
                self.letters.append((enrollment, effect))
            case WithdrawMessages():
                self.unsent.append((enrollment, effect))
            case Ask():
                self.asked.append((enrollment, effect))


_WRITERS: tuple[tuple[str, Callable[[Transaction, Any], Awaitable[object]]], ...] = (
    ("updates", records.apply_updates),
    ("creations", created.create_many),
    ("requested", approvals.create_many),
    ("withdrawn", approvals.cancel),
    ("escalated", approvals.escalate),
    ("new_limits", approvals.reschedule),
    ("new_limits", tasks.reschedule),
    ("messages", outgoing.create_many),
    ("unsent", outgoing.withdraw),
    ("new_tasks", tasks.create_many),
    ("cancelled_tasks", tasks.cancel),
    ("list_changes", lists.change),
    ("emitted", events.emit_many),
    ("letters", dead_letters.keep),
)
"""Each kind of effect and what writes it, in order."""


async def carry_out(tx: Transaction, transitions: Sequence[Transition]) -> CarriedOut:
    """Write what a batch of decisions wants done."""
    found = _Sorted()
    async for piece in in_pieces(transitions, LIGHT_AT_ONCE):
        for transition in piece:
            for effect in transition.effects:
                found.add(tx, transition, effect)
    if found.requested:
        found.requested = await _asked(tx, found.requested)
        found.emissions += [request.announcement(tx.now) for request in found.requested]
    for name, write in _WRITERS:
        effects = getattr(found, name)
        if effects:
            await write(tx, effects)
    if not found.emissions:
        return (), tuple(found.asked)
    reached = await deliveries.emit(tx, found.emissions)
    unheard = tuple(
        (enrollment, DeliveryEnded(message, delivered=False, outcome=why))
        for message, enrollment in found.awaited.items()
        if (why := reached[message].silence)
    )
    return unheard, tuple(found.asked)


async def _asked(tx: Transaction, requests: Sequence[approvals.NewApproval]) -> list[approvals.NewApproval]:
    """Return requests as asked for by the principals that led to them, who must not decide them."""
    behind = await askers.of(tx, {request.requester_id for request in requests})
    return [replace(request, requester_id=behind[request.requester_id]) for request in requests]
