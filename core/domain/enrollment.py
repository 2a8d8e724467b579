"""An enrollment and everything that can happen to it, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal


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
        return self not in (State.ACTIVE, State.AWAITING_APPROVAL)


@dataclass(frozen=True, slots=True)
class Waiting:
    """What holds an enrollment where it stands."""

    kind: Literal["timer", "event", "approval", "delivery"]
    subject: str = ""
    """The event's name, the approval's id, the message's id; empty for a timer."""
    since: datetime | None = None
    """When the wait began; events received before do not end it."""


@dataclass(frozen=True, slots=True)
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


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """A record as a decision sees it."""

    id: str
    type: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class EventFacts:
    """An event as a decision sees it."""

    id: str
    name: str
    type: str
    fields: Mapping[str, Any]
    occurred_at: datetime
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything outside the enrollment that a decision may look at."""

    contact: RecordFacts
    lead: RecordFacts | None = None
    """The contact's newest lead."""
    arrived: tuple[EventFacts, ...] = ()
    """Events of the contact received since the wait began, oldest first; read when a wait for an event times out."""


@dataclass(frozen=True, slots=True)
class TimerFired:
    """The due time has come."""


@dataclass(frozen=True, slots=True)
class EventArrived:
    """An event of the contact came in."""

    event: EventFacts


@dataclass(frozen=True, slots=True)
class ApprovalDecided:
    """A person decided."""

    approval_id: str
    approved: bool
    decider: str
    comment: str = ""


@dataclass(frozen=True, slots=True)
class DeliveryEnded:
    """An awaited message got its final outcome."""

    message_id: str
    delivered: bool
    outcome: str
    status_code: int = 0


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody ended it."""

    actor: str
    reason: str = ""


Stimulus = TimerFired | EventArrived | ApprovalDecided | DeliveryEnded | Cancelled
