"""An enrollment and everything that can happen to it, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Literal

from core.domain.frozen import frozen
from core.domain.messaging.consent import NOTHING_STORED, Consent
from core.domain.records.pipelines import Pipeline


class State(StrEnum):
    """Where an enrollment is in its life."""

    ACTIVE = "active"
    AWAITING_APPROVAL = "awaiting_approval"
    COMPLETED = "completed"
    EXITED = "exited"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def over(self) -> bool:
        """Tell whether nothing more will happen."""
        return self not in _RUNNING


_RUNNING = (State.ACTIVE, State.AWAITING_APPROVAL)

WaitKind = Literal["timer", "event", "condition", "approval", "delivery", "message", "task", "answer", "retry"]
"""What a wait is for: time, an event, a condition over records, a decision, an outcome of a message, an agent's work,
the core's own answer to a question (in the same transaction), or the next try of a step that failed."""


@frozen
class Waiting:
    """What holds an enrollment where it stands."""

    kind: WaitKind
    subject: str = ""
    """The id of the approval, message, task or question; the names of events, one a line; the condition; empty for a
    timer."""
    since: datetime | None = None
    """When the wait began; events received before do not end it."""
    key: str = ""
    """Whose event ends it: the contact's id, or a field and its value such as `order_id=123`; empty for other waits."""

    @property
    def events(self) -> tuple[str, ...]:
        """Return the names of the events that may end it."""
        return tuple(self.subject.split("\n")) if self.kind == "event" else ()


@frozen
class Enrollment:
    """One contact in one workflow under one key."""

    id: str
    org_id: str
    workflow_id: str
    version: int
    contact_id: str
    key: str
    actor: str
    """Who enrolled: a principal's id, or `trigger:<event id>`."""
    state: State
    step_id: str
    """The step it stands in, or last stood in."""
    rev: int
    """Counts transitions; a writer that saw another rev changes nothing."""
    entered_at: datetime
    moved_at: datetime
    occurrence: int = 1
    """Which time under this key: re-entry after an exit is the next one."""
    trace_count: int = 0
    """Trace entries so far."""
    due_at: datetime | None = None
    """When the engine must look at it again; None while only a stimulus can move it."""
    waiting: Waiting | None = None
    variables: Mapping[str, Any] = field(default_factory=dict)
    """Values given at entry, seen by expressions as `vars`."""
    event: Mapping[str, Any] | None = None
    """The event that enrolled or last woke it, seen by expressions as `event`."""
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What steps left behind, by step id, seen by expressions as `steps`."""
    end_reason: str = ""
    ended_at: datetime | None = None
    attempts: int = 0
    """Failed tries of the step it stands in."""
    hops: int = 0
    """How many workflows in a row led here, each by enrolling or by an event; a ring of them ends at a limit."""
    converted: str = ""
    """The goal it reached first; empty before."""
    messages: Mapping[str, int] = field(default_factory=dict)
    """Messages sent so far, by channel."""
    skipping: bool = False
    """It passes over what acts outward until its next wait: it fell due while the workflow was paused."""
    held: tuple[Stimulus, ...] = ()
    """What happened to it while its workflow was paused, oldest first."""
    begun: Mapping[str, datetime] = field(default_factory=dict)
    """When it came into steps from which waits for events count."""
    shifted: timedelta = timedelta()
    """By how much resumptions have moved its timer since the wait began."""
    again: bool = False
    """The contact had been in the workflow when it entered, under whichever key."""
    began_at: datetime | None = None
    """When it began to wait, where it listens since an earlier instant."""
    about: Mapping[str, str] = field(default_factory=dict)
    """The record whose change enrolled the contact, id by type, where it is none that the contact has one of."""
    led: int = 0
    """How many workflows in a row led to the event that moved it, as long as neither time nor people came between."""

    @property
    def in_a_row(self) -> int:
        """Return how many workflows in a row led to what it does now."""
        return max(self.hops, self.led)

    @property
    def catches_up(self) -> bool:
        """Tell whether it listens since before it began to: events that were matched meanwhile may be its own."""
        return self.began_at is not None

    @property
    def waits_since(self) -> datetime | None:
        """Return when it began to wait, since whenever it listens; None where it does not wait."""
        return None if self.waiting is None else self.began_at or self.waiting.since


@frozen
class RecordFacts:
    """A record as a decision sees it."""

    id: str
    type: str
    fields: Mapping[str, Any]


@frozen
class EventFacts:
    """An event as a decision sees it."""

    id: str
    name: str
    type: str
    fields: Mapping[str, Any]
    occurred_at: datetime
    received_at: datetime
    source_id: str = ""
    hops: int = 0
    """How many workflows in a row led to it."""


@frozen
class Sent:
    """A message that went to the contact, as frequency caps count it."""

    channel: str
    at: datetime
    workflow_id: str = ""


@frozen
class Facts:
    """Everything outside the enrollment that a decision may look at."""

    contact: RecordFacts
    lead: RecordFacts | None = None
    """The contact's newest lead."""
    arrived: tuple[EventFacts, ...] = ()
    """Events of the contact received since the wait began, oldest first; read when a wait for an event times out."""
    company: RecordFacts | None = None
    """The contact's company, where the version reads it."""
    lists: frozenset[str] = frozenset()
    """Names of the lists the contact is on, where the version reads them."""
    sent: tuple[Sent, ...] = ()
    """Messages sent to the contact lately, by any workflow, where the version has frequency caps."""
    organization_timezone: str = ""
    """IANA zone of the organization; empty for none."""
    consent: Consent = NOTHING_STORED
    """What the contact may be sent, where the version sends messages."""
    records: Mapping[str, RecordFacts] = field(default_factory=dict)
    """Opportunities and own objects, where the version reads them: by id those that enrollments are about, by type the
    newest of the contact."""
    pipelines: tuple[Pipeline, ...] = ()
    """The organization's pipelines, the oldest first, where the version sets stages."""

    def in_hand(self, record_type: str, about: Mapping[str, str]) -> RecordFacts | None:
        """Return the record of a type that a decision is about; without one in `about`, the newest of the contact."""
        match record_type:
            case "contact":
                return self.contact
            case "lead":
                return self.lead
            case "company":
                return self.company
            case _:
                newest, own = self.records.get(record_type), about.get(record_type)
                return newest if own is None or (newest is not None and newest.id == own) else self.records.get(own)


@frozen
class TimerFired:
    """The due time has come."""


@frozen
class EventArrived:
    """An event came in: of the contact, or one that names what the enrollment waits for."""

    event: EventFacts


@frozen
class ApprovalDecided:
    """A person decided."""

    approval_id: str
    approved: bool
    decider: str
    comment: str = ""


@frozen
class DeliveryEnded:
    """An awaited message to an endpoint got its final outcome."""

    message_id: str
    delivered: bool
    outcome: str
    status_code: int = 0
    answer: Any = None
    """What the receiver answered, where it was JSON."""


@frozen
class MessageEnded:
    """A message to the contact got its final outcome."""

    message_id: str
    sent: bool
    outcome: str = ""
    step_id: str = ""
    """The step that sent it."""
    told: str = ""
    """Which one, as it stands in a sentence, such as `message 1 on email to ada@example.com`."""
    attempts: int = 0
    """How often it was tried."""

    @property
    def skipped(self) -> bool:
        """Tell whether it was not sent on purpose."""
        return self.outcome.startswith("skipped")


@frozen
class TaskAnswered:
    """An agent answered a task; the answer fits the task's schema."""

    task_id: str
    output: Any
    agent: str


@frozen
class Answered:
    """The core answered a question, in the transaction that asked it."""

    id: str
    ok: bool
    outputs: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    exit: str = "next"
    retryable: bool = False


@frozen
class Cancelled:
    """Somebody ended it."""

    actor: str
    reason: str = ""


@frozen
class Redriven:
    """Somebody lets a failed step be tried again."""

    actor: str
    step_id: str = ""
    """Carry out this step alone: the enrollment has gone on; empty to go on from where it failed."""


WaitPolicy = Literal["keep", "recompute", "restart"]
"""What becomes of a wait in another version: it goes on as it was begun, it is made again as if the new version had
begun it when it began, or the step begins anew."""


@frozen
class Migrated:
    """A plan moves it to another version; the version given to `advance` is the new one."""

    step_id: str
    wait: WaitPolicy
    """What becomes of its wait; without one it begins the step."""
    actor: str
    plan_id: str = ""


Stimulus = (
    TimerFired
    | EventArrived
    | ApprovalDecided
    | DeliveryEnded
    | MessageEnded
    | TaskAnswered
    | Answered
    | Cancelled
    | Redriven
    | Migrated
)
