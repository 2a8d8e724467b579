"""What the tests of the simulation share: a version, contacts, a start."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from core.domain.enrollment import RecordFacts
from core.domain.workflow.compile import compile_document
from core.domain.workflow.source import parse
from core.domain.workflow.version import Version
from core.simulation.assumptions import read_assumptions
from core.simulation.result import FunnelStep, Simulation
from core.simulation.script import read_script
from core.simulation.simulate import simulate
from core.simulation.subjects import Subject

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""A Monday morning."""
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

NURTURE = """
title: Nurture
entry: {when: contact.employees > 5}
goals: [{name: bought, event: plan.bought}]
triggers: [{event: trial.started, when: event.fields.plan == "pro"}]
steps:
  - {id: pause, kind: wait, for: 1d}
  - id: which
    kind: branch
    cases: [{name: hot, when: lead.score >= 60}]
    exits: {hot: call, else: hello}
  - {id: call, kind: update, record: lead, set: {status: working}}
  - {id: hello, kind: message, subject: Hi, text: "Hello {{ contact.first_name | default: 'you' }}"}
  - {id: reply, kind: wait_for_event, event: reply.received, timeout: 5d, exits: {matched: mark, timeout: mark}}
  - {id: mark, kind: update, set: {lifecycle_stage: engaged}}
  - {id: tell, kind: webhook, event_type: nurture.done}
"""


def compiled(text: str, workflow_id: str = "nurture") -> Version:
    result = compile_document(parse(text), workflow_id=workflow_id, number=1)
    assert result.version is not None, result.problems
    return result.version


def person(number: int, *, lead: dict[str, Any] | None = None, **fields: Any) -> Subject:
    contact = RecordFacts(f"cnt_{number}", "contact", {"email": f"p{number}@example.com", "employees": 10, **fields})
    return Subject(contact, None if lead is None else RecordFacts(f"lead_{number}", "lead", lead))


def people(count: int) -> tuple[Subject, ...]:
    return tuple(person(number, lead={"score": number * 10 % 100}) for number in range(1, count + 1))


def tried(version: Version | str, subjects: Any = 3, events: Any = (), assume: Any = None, **more: Any) -> Simulation:
    """Simulate, with everything as an author writes it."""
    chosen = compiled(version) if isinstance(version, str) else version
    options = {"start": START, "horizon": 30 * DAY, **more}
    return simulate(
        chosen,
        people(subjects) if isinstance(subjects, int) else subjects,
        read_script(list(events)),
        assumptions=read_assumptions(assume or {}, chosen),
        **options,
    )


def step(simulation: Simulation, step_id: str) -> FunnelStep:
    return next(one for one in simulation.funnel if one.step_id == step_id)


def way(simulation: Simulation, number: int = 0) -> list[tuple[str, str]]:
    """Return the turns of one contact."""
    return list(simulation.journeys[number].turns)
