"""The pure machine as the measure of what a crowd of processes did: the same inputs, no database, no second process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from core.domain import machine
from core.domain.effects import Effect
from core.domain.enrollment import (
    DeliveryEnded,
    Enrollment,
    EventArrived,
    EventFacts,
    Facts,
    RecordFacts,
    Stimulus,
    TimerFired,
)
from core.domain.trace import TraceEntry
from core.domain.workflow.version import Version

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
_LATER = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What must have become of an enrollment."""

    enrollment: Enrollment
    trace: Sequence[TraceEntry]
    effects: Sequence[Effect]


def replay(
    version: Version,
    enrollment_id: str,
    contact: RecordFacts,
    answers: Callable[[int], object],
    replies: Callable[[Enrollment], str],
) -> Replayed:
    """Carry an enrollment to its end.

    `answers` says what the receiver answers the first time it is asked, the second time …; `replies` names the event
    that comes while an enrollment waits, or nothing where its time runs out.
    """
    now, facts = START, Facts(contact)
    done = machine.enter(
        version, id=enrollment_id, org_id="org_1", contact_id=contact.id, key="", actor="key_1", variables={},
        event=None, facts=facts, now=now,
    )  # fmt: skip
    trace, effects, asked = list(done.trace), list(done.effects), 0
    while not done.enrollment.state.over:
        current = done.enrollment
        now = max(now + _LATER, current.due_at or now)
        stimulus: Stimulus = TimerFired()
        if current.waiting is not None and current.waiting.kind == "delivery":
            asked += 1
            stimulus = DeliveryEnded(current.waiting.subject, True, "delivered", 200, answers(asked))
        elif current.waiting is not None and current.waiting.kind == "event" and (name := replies(current)):
            now = done.enrollment.moved_at + _LATER
            stimulus = EventArrived(EventFacts("evt_1", name, "action", {}, now, now))
        moved = machine.advance(version, current, stimulus, facts, now)
        assert moved is not None, f"the machine stands still at {current.step_id}"
        done = moved
        trace += done.trace
        effects += done.effects
    return Replayed(done.enrollment, trace, effects)
