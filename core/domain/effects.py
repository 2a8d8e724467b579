"""What a decision wants done, as data: `store.apply` turns each effect into rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime
from typing import Any, Literal

from core.domain.control.approval_rule import Rule
from core.domain.frozen import frozen


@frozen
class Emit:
    """Send an event to the organization's webhook endpoints."""

    id: str
    """The message's id, derived from the enrollment and its rev: a repeated decision sends the same message."""
    event_type: str
    data: Mapping[str, Any]
    endpoint_id: str | None = None
    """This endpoint alone; None for every endpoint that wants the type."""
    awaited: bool = False
    """The enrollment waits for the final outcome."""


@frozen
class UpdateRecord:
    """Set fields of a record; None removes one."""

    record_id: str
    record_type: str
    fields: Mapping[str, Any]
    """Dotted path to new value, such as `lifecycle_stage` or `custom.plan`."""


@frozen
class RequestApproval:
    """Ask a second principal."""

    id: str
    title: str
    details: Mapping[str, Any]
    expires_at: datetime | None
    rule: Rule = field(default_factory=Rule)
    """Who decides."""


@frozen
class EscalateApproval:
    """Ask others as well, with the same time again."""

    id: str
    expires_at: datetime


@frozen
class Reschedule:
    """Let an approval or a task that was asked for be open until another time."""

    id: str
    expires_at: datetime | None


@frozen
class CancelApproval:
    """Withdraw a request that no longer matters."""

    id: str


@frozen
class CreateRecord:
    """Make a record; a repeated decision makes the same one."""

    id: str
    record_type: str
    fields: Mapping[str, Any]
    """Dotted path to value, references included."""


@frozen
class SendMessage:
    """Send a message to the contact over a channel."""

    id: str
    channel: str
    """`email`, `dm`, `sms`, or a channel of the organization's own."""
    purpose: str
    """What consent it needs: `marketing`, `transactional` or the organization's own."""
    contact_id: str
    to: str
    """Address on the channel."""
    subject: str
    text: str
    html: str = ""
    ordinal: int = 1
    """Which message on this channel in this enrollment, from 1."""
    awaited: bool = False
    """The enrollment waits for the final outcome."""
    terms: Mapping[str, Any] = field(default_factory=dict)
    """When it may leave, whenever that is: see `core.domain.messaging.terms`; empty for at any time."""
    gaps: tuple[str, ...] = ()
    """What stays empty in its texts, in words."""
    step_id: str = ""
    """The step that sends it."""


@frozen
class CreateTask:
    """Hand a piece of work to an agent."""

    id: str
    title: str
    instructions: str
    input: Mapping[str, Any]
    output_schema: Mapping[str, Any]
    """JSON Schema, draft 2020-12, that the answer must fit."""
    expires_at: datetime | None


@frozen
class CancelTask:
    """Withdraw a task that no longer matters."""

    id: str


@frozen
class EmitEvent:
    """Record an event of the contact, as if it had come in: it may wake and start others."""

    id: str
    name: str
    fields: Mapping[str, Any]
    hops: int


@frozen
class ChangeList:
    """Put the contact on a list, or take it off."""

    id: str
    list_name: str
    contact_id: str
    on: bool


@frozen
class Ask:
    """Ask the core something that needs more than facts; the answer comes in the same transaction."""

    id: str
    service: Literal["qualify", "assign_owner", "enroll"]
    payload: Mapping[str, Any]


@frozen
class KeepDeadLetter:
    """Keep what failed for good, so that a person can see it and let it be tried again."""

    id: str
    step_id: str
    kind: str
    failure: str
    """Class of the failure, such as `TEMPLATE_FAILED`."""
    reason: str
    attempts: int
    ended: bool
    """The enrollment ended with it; False when `on_error` let it go on."""
    message_id: str = ""
    """The message that was not sent, where that is what failed; empty for a step."""


@frozen
class WithdrawMessages:
    """Take back what was written for the contact and has not left, because of something better."""

    id: str
    """The enrollment."""
    reason: str
    message_id: str = ""
    """This message alone; empty for all of the enrollment's."""


Effect = (
    Emit
    | UpdateRecord
    | CreateRecord
    | RequestApproval
    | EscalateApproval
    | Reschedule
    | CancelApproval
    | SendMessage
    | CreateTask
    | CancelTask
    | EmitEvent
    | ChangeList
    | Ask
    | KeepDeadLetter
    | WithdrawMessages
)
