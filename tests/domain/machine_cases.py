"""What the tests of the evaluator share: a version, facts, an enrollment that enters and moves on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from core.domain import machine
from core.domain.effects import Emit
from core.domain.enrollment import (
    Enrollment,
    EventFacts,
    Facts,
    RecordFacts,
    State,
    Stimulus,
)
from core.domain.trace import Transition
from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse
from core.domain.workflow.version import Version

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

WAIT = "steps: [{id: pause, kind: wait, for: 2d}]"
EVENT = """
steps:
  - id: reply
    kind: wait_for_event
    event: reply.received
    when: event.fields.channel == "email"
    timeout: 3d
    exits: {matched: thanks, timeout: end}
  - {id: thanks, kind: log, message: "{{ event.fields.channel }} {{ steps.reply.event_id }}"}
"""
APPROVAL = """
steps:
  - id: ask
    kind: approval
    title: "Offer for {{ contact.email }}?"
    details: {tier: "{{ lead.tier }}"}
    timeout: 1d
    exits: {approved: yes, rejected: no}
  - {id: yes, kind: exit, reason: "{{ steps.ask.decider }} said yes"}
  - {id: no, kind: exit, reason: "{{ steps.ask.decision }}"}
"""
AWAITED = """
steps:
  - {id: tell, kind: webhook, event_type: nurture.hot, await: true, exits: {delivered: end, failed: sad}}
  - {id: sad, kind: exit, reason: 'not delivered ({{ steps.tell.status_code }})'}
"""


def compiled(text: str) -> Version:
    result = compile_document(parse(text), workflow_id="nurture", number=3)
    assert result.version is not None, result.problems
    return result.version


def known(tier: str | None = "B", arrived: tuple[EventFacts, ...] = (), **fields: Any) -> Facts:
    lead = RecordFacts("lead_1", "lead", {"tier": tier}) if tier else None
    contact = RecordFacts("cnt_1", "contact", {"email": "ada@example.com", **fields})
    return Facts(contact, lead, arrived)


def entered(version: Version, facts: Facts | None = None, **changed: Any) -> Transition:
    given: dict[str, Any] = {
        "id": "enr_1",
        "org_id": "org_1",
        "contact_id": "cnt_1",
        "key": "",
        "actor": "key_1",
        "variables": {},
        "event": None,
        "facts": facts or known(),
        "now": START,
    }
    return machine.enter(version, **{**given, **changed})


def moved(
    version: Version, enrollment: Enrollment, stimulus: Stimulus, now: datetime, facts: Facts | None = None
) -> Transition:
    transition = machine.advance(version, enrollment, stimulus, facts or known(), now)
    assert transition is not None
    return transition


def settled(transition: Transition) -> tuple[State, str]:
    """Return how an enrollment ended."""
    return transition.enrollment.state, transition.enrollment.end_reason


def happened(name: str, at: datetime, **fields: Any) -> EventFacts:
    return EventFacts(f"evt_{at:%d%H%M}", name, "action", fields, at, at)


def told(transition: Transition) -> list[tuple[str, str, str]]:
    return [(entry.step_id, entry.outcome, entry.reason) for entry in transition.trace]


def types(transition: Transition) -> list[str]:
    return [effect.event_type for effect in transition.effects if isinstance(effect, Emit)]
