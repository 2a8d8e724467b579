"""A contact walked through a shipped template, on a clock turned by hand, with everybody else's part played here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from core.domain import machine
from core.domain.effects import Ask, ChangeList, Effect, Emit, SendMessage, UpdateRecord
from core.domain.enrollment import (
    Answered,
    ApprovalDecided,
    DeliveryEnded,
    Enrollment,
    EventArrived,
    EventFacts,
    Facts,
    MessageEnded,
    RecordFacts,
    Sent,
    State,
    Stimulus,
    TaskAnswered,
    TimerFired,
)
from core.domain.steps.shapes import Lookups
from core.domain.trace import TraceEntry, Transition
from core.domain.workflow.compile import compile_document
from core.domain.workflow.entry import judge, key_of
from core.domain.workflow.source import parse
from core.domain.workflow.variables import event_values
from core.domain.workflow.version import Version
from core.templates import templates

MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""10:00 in Berlin."""


def version_of(template: str, lookups: Lookups) -> Version:
    (found,) = (one for one in templates() if one.id == template)
    compiled = compile_document(parse(found.source), workflow_id=template, number=1, lookups=lookups)
    assert compiled.version is not None, compiled.problems
    return compiled.version


def _set(fields: Mapping[str, Any], path: str, value: Any) -> dict[str, Any]:
    name, _, rest = path.partition(".")
    return {**fields, name: _set(fields.get(name, {}), rest, value) if rest else value}


@dataclass(slots=True)
class Walk:
    """One enrollment and what has become of it."""

    template: str
    now: datetime = MONDAY
    contact: dict[str, Any] = field(default_factory=dict)
    lead: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the core answers, by service."""
    trace: list[TraceEntry] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    lists: set[str] = field(default_factory=set)
    lookups: Lookups = field(default_factory=Lookups)
    _version: Version | None = None
    _enrollment: Enrollment | None = None

    @property
    def version(self) -> Version:
        if self._version is None:
            self._version = version_of(self.template, self.lookups)
        return self._version

    @property
    def enrollment(self) -> Enrollment:
        assert self._enrollment is not None
        return self._enrollment

    @property
    def facts(self) -> Facts:
        sent = tuple(Sent(message.channel, at) for message, at in zip(self.messages, self._sent_at, strict=True))
        contact = {"email": "ada@example.com", "first_name": "Ada", "company_name": "Example", **self.contact}
        return Facts(
            RecordFacts("cnt_1", "contact", contact),
            RecordFacts("lead_1", "lead", self.lead),
            lists=frozenset(self.lists),
            sent=sent,
        )

    _sent_at: list[datetime] = field(default_factory=list)
    _happened: list[EventFacts] = field(default_factory=list)

    @property
    def messages(self) -> list[SendMessage]:
        return [effect for effect in self.effects if isinstance(effect, SendMessage)]

    @property
    def emitted(self) -> list[str]:
        """The author's own events to endpoints."""
        catalogue = ("enrollment.", "approval.", "message.", "cold_dm.", "followup.", "agent_task.")
        types = [effect.event_type for effect in self.effects if isinstance(effect, Emit)]
        return [one for one in types if not one.startswith(catalogue)]

    @property
    def path(self) -> list[str]:
        """Steps in the order in which they were left or ended."""
        return [entry.step_id for entry in self.trace if entry.exit or (entry.outcome, entry.kind) == ("ended", "exit")]

    @property
    def end(self) -> tuple[State, str]:
        return self.enrollment.state, self.enrollment.end_reason

    def event(self, name: str, **fields: Any) -> EventFacts:
        return EventFacts(f"evt_{self.now:%m%d%H%M}_{name}", name, "action", fields, self.now, self.now)

    def enter(self, event: EventFacts | None = None) -> Walk:
        values = event_values(event) if event else None
        key = key_of(self.version, self.facts, values, {}, self.now)
        judgement = judge(self.version, self.facts, self.now, event=values, variables={}, key=key, standing=None)
        assert judgement.outcome == "enrolled", judgement
        self._take(
            machine.enter(
                self.version, id="enr_1", org_id="org_1", contact_id="cnt_1", key=key, actor="key_1", variables={},
                event=event, facts=self.facts, now=self.now,
            )
        )  # fmt: skip
        return self

    def happens(self, name: str, after: timedelta = timedelta(hours=1), **fields: Any) -> Walk:
        self.now += after
        self._happened.append(self.event(name, **fields))
        return self._move(EventArrived(self._happened[-1]))

    def passes_by(self, name: str, after: timedelta = timedelta(hours=1)) -> Walk:
        """Let something happen that nobody waits for just now."""
        self.now += after
        self._happened.append(self.event(name))
        return self

    def until_due(self) -> Walk:
        """Let time pass until the next timer."""
        due = self.enrollment.due_at
        assert due is not None, f"{self.enrollment.step_id} waits for no timer"
        self.now = max(self.now, due)
        return self._move(TimerFired())

    def decided(self, approved: bool) -> Walk:
        return self._move(ApprovalDecided(self._waited_for("approval"), approved, "mem_1"))

    def answered(self, **output: Any) -> Walk:
        return self._move(TaskAnswered(self._waited_for("task"), output, "an agent"))

    def delivered(self, delivered: bool = True) -> Walk:
        return self._move(DeliveryEnded(self._waited_for("delivery"), delivered, "ok"))

    def sent(self, sent: bool = True) -> Walk:
        return self._move(MessageEnded(self._waited_for("message"), sent))

    def _waited_for(self, kind: str) -> str:
        waiting = self.enrollment.waiting
        assert waiting is not None
        assert waiting.kind == kind
        return waiting.subject

    def _move(self, stimulus: Stimulus) -> Walk:
        transition = machine.advance(self.version, self.enrollment, stimulus, self.facts, self.now)
        assert transition is not None, f"{self.enrollment.step_id} does not care for {stimulus}"
        self._take(transition)
        return self

    def _take(self, transition: Transition) -> None:
        self._enrollment = transition.enrollment
        self.trace += transition.trace
        self.effects += transition.effects
        for effect in transition.effects:
            match effect:
                case UpdateRecord("lead_1"):
                    for path, value in effect.fields.items():
                        self.lead = _set(self.lead, path, value)
                case UpdateRecord():
                    for path, value in effect.fields.items():
                        self.contact = _set(self.contact, path, value)
                case ChangeList():
                    (self.lists.add if effect.on else self.lists.discard)(effect.list_name)
                case SendMessage():
                    self._sent_at.append(self.now)
                case _:
                    pass
        waiting = self.enrollment.waiting
        if self.enrollment.catches_up and waiting is not None:
            for event in [one for one in self._happened if one.name in waiting.events]:
                caught = machine.advance(self.version, self.enrollment, EventArrived(event), self.facts, self.now)
                if caught is not None:
                    self._take(caught)
                    return
        for ask in [effect for effect in transition.effects if isinstance(effect, Ask)]:
            outputs = self.answers[ask.service]
            if ask.service == "qualify":
                self.lead |= {name: outputs[name] for name in ("score", "tier", "decision") if name in outputs}
            self._move(Answered(ask.id, True, outputs))
