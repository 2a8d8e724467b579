"""The one evaluator: what happens to an enrollment, as a pure function of the facts and the instant.

Live running, tests and simulation call these same two functions. They read no clock, do no I/O and raise nothing for
what a tenant did wrong: a step that cannot be carried out fails its enrollment, with the reason in the trace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from core.domain import names
from core.domain.effects import CancelApproval, Effect, Emit, RequestApproval, UpdateRecord
from core.domain.enrollment import (
    Cancelled,
    Enrollment,
    EventFacts,
    Facts,
    RecordFacts,
    State,
    Stimulus,
    TimerFired,
)
from core.domain.steps.base import Context, Decision, Fail, Go, Leave, Stay
from core.domain.trace import Outcome, TraceEntry, Transition
from core.domain.workflow.document import END
from core.domain.workflow.expressions import storable, storable_text
from core.domain.workflow.variables import event_values
from core.domain.workflow.version import Node, Version

STEP_LIMIT = 16
"""Steps in one transition; an enrollment that has more to do goes on in the next one, due at once."""

_LARGEST_INPUT = 500


def enter(
    version: Version,
    *,
    id: str,
    org_id: str,
    contact_id: str,
    key: str,
    actor: str,
    variables: Mapping[str, Any],
    event: EventFacts | Mapping[str, Any] | None,
    facts: Facts,
    now: datetime,
    limit: int = STEP_LIMIT,
) -> Transition:
    """Return the first transition of a new enrollment, which runs to its first wait; its `rev` is 1."""
    enrollment = Enrollment(
        id=id,
        org_id=org_id,
        workflow_id=version.workflow_id,
        version=version.number,
        contact_id=contact_id,
        key=key,
        actor=actor,
        state=State.ACTIVE,
        step_id=version.entry,
        rev=1,
        entered_at=now,
        moved_at=now,
        variables=storable(variables),
        event=storable(event_values(event) if isinstance(event, EventFacts) else event),
    )
    run = _Run(version, enrollment, facts, now)
    inputs = {"event.id": enrollment.event["id"]} if enrollment.event and "id" in enrollment.event else {}
    run.note(
        version.entry, "enrollment", "entered", f"Enrolled by {actor} into version {version.number}.", inputs=inputs
    )
    run.emit("created", {"actor": actor})
    run.walk(version.entry, limit)
    return run.transition()


def advance(
    version: Version,
    enrollment: Enrollment,
    stimulus: Stimulus,
    facts: Facts,
    now: datetime,
    *,
    limit: int = STEP_LIMIT,
) -> Transition | None:
    """Return what a stimulus makes of an enrollment; None when it changes nothing.

    Nothing changes once the enrollment is over, before its due time, or when the stimulus is not what it waits for.
    """
    if enrollment.state.over:
        return None
    run = _Run(version, replace(enrollment, rev=enrollment.rev + 1, moved_at=now), facts, now)
    if isinstance(stimulus, Cancelled):
        run.cancel(stimulus)
        return run.transition()
    if isinstance(stimulus, TimerFired) and (enrollment.due_at is None or now < enrollment.due_at):
        return None
    if enrollment.waiting is None:
        if not isinstance(stimulus, TimerFired):
            return None
        run.walk(enrollment.step_id, limit)
        return run.transition()
    node = version.steps.get(enrollment.step_id)
    if node is None:
        run.fail(enrollment.step_id, "step", Fail(f"Version {version.number} has no step {enrollment.step_id}."))
        return run.transition()
    decision = run.decide(node, stimulus)
    if decision is None:
        return None
    following = run.take(node, decision)
    if following is not None:
        run.walk(following, limit - 1)
    return run.transition()


@dataclass(slots=True)
class _Run:
    """One transition in the making; lives only while it is made."""

    version: Version
    enrollment: Enrollment
    facts: Facts
    now: datetime
    trace: list[TraceEntry] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    index: int = 0

    def transition(self) -> Transition:
        """Return what came of it."""
        return Transition(self.enrollment, tuple(self.trace), tuple(self.effects))

    def walk(self, step_id: str, limit: int) -> None:
        """Carry out steps until one stays, the enrollment ends, or the limit is reached."""
        following: str | None = step_id
        while following is not None:
            if following == END:
                self._complete()
                return
            self.enrollment = replace(self.enrollment, step_id=following, state=State.ACTIVE, waiting=None, due_at=None)
            if limit <= 0:
                self.enrollment = replace(self.enrollment, due_at=self.now)
                return
            node = self.version.steps.get(following)
            if node is None:
                self.fail(following, "step", Fail(f"Version {self.version.number} has no step {following}."))
                return
            limit -= 1
            decision = self.decide(node, None)
            following = self.take(node, decision) if decision is not None else None

    def decide(self, node: Node, stimulus: Stimulus | None) -> Decision | None:
        """Ask a step; one that breaks fails, it does not take others down with it."""
        context = Context(self.enrollment, self.facts, self.now, self.index, self.enrollment.rev)
        try:
            return node.step.begin(context) if stimulus is None else node.step.on(stimulus, context)
        except Exception as error:  # whatever a tenant's document provokes ends here, never in the engine
            return Fail(f"The step could not be carried out ({type(error).__name__}).")

    def take(self, node: Node, decision: Decision) -> str | None:
        """Carry out a decision and return the next step's id, or None when the enrollment stays or has ended."""
        self.index += 1
        match decision:
            case Stay():
                self._effects(decision.effects)
                self.enrollment = replace(
                    self.enrollment, state=decision.state, waiting=decision.waiting, due_at=decision.until
                )
                self._step_note(node, "waiting", decision.reason, "", decision.inputs, decision.effects)
                return None
            case Go():
                self._effects(decision.effects)
                target = node.exits.get(decision.exit, END)
                self._step_note(
                    node, decision.outcome, decision.reason, decision.exit, decision.inputs, decision.effects
                )
                self._remember(node.id, decision.outputs)
                if decision.event is not None:
                    self.enrollment = replace(self.enrollment, event=storable(decision.event))
                return target
            case Leave():
                self._remember(node.id, decision.outputs)
                self._step_note(node, "ended", decision.reason, "", decision.inputs, ())
                self._end(State.EXITED, "exited", decision.reason)
                return None
            case Fail():
                self.fail(node.id, node.step.kind, decision)
                return None

    def fail(self, step_id: str, kind: str, decision: Fail) -> None:
        """End the enrollment because a step failed."""
        self.note(step_id, kind, "failed", decision.reason, inputs=decision.inputs)
        self._withdraw()
        self._end(State.FAILED, "failed", decision.reason)

    def cancel(self, stimulus: Cancelled) -> None:
        """End the enrollment because somebody wants it."""
        reason = f"Cancelled by {stimulus.actor}" + (f": {stimulus.reason}" if stimulus.reason else "") + "."
        self._withdraw()
        self.note(self.enrollment.step_id, "enrollment", "ended", reason)
        self._end(State.CANCELLED, "exited", stimulus.reason or "cancelled")

    def emit(self, what: Literal["created", "completed", "exited", "failed"], more: Mapping[str, Any]) -> None:
        """Tell the organization's endpoints what became of the enrollment."""
        enrollment = self.enrollment
        data = {
            "enrollment_id": enrollment.id,
            "workflow_id": enrollment.workflow_id,
            "version": enrollment.version,
            "contact_id": enrollment.contact_id,
            "key": enrollment.key,
            "step_id": enrollment.step_id,
            **more,
        }
        message = names.derive("msg", self.now, enrollment.id, enrollment.rev, what)
        self.effects.append(Emit(message, f"enrollment.{what}", storable(data)))

    def note(
        self,
        step_id: str,
        kind: str,
        outcome: Outcome,
        reason: str,
        exit: str = "",
        inputs: Mapping[str, Any] | None = None,
        effects: tuple[str, ...] = (),
    ) -> None:
        """Write one entry into the trace."""
        seq = self.enrollment.trace_count + 1
        self.enrollment = replace(self.enrollment, trace_count=seq)
        shown = storable({path: _shown(value) for path, value in (inputs or {}).items()})
        told = storable_text(reason)
        self.trace.append(TraceEntry(seq, step_id, kind, outcome, self.now, exit, told, shown, effects))

    def _step_note(
        self,
        node: Node,
        outcome: Outcome,
        reason: str,
        exit: str,
        inputs: Mapping[str, Any],
        effects: tuple[Effect, ...],
    ) -> None:
        caused = tuple(effect.record_id if isinstance(effect, UpdateRecord) else effect.id for effect in effects)
        self.note(node.id, node.step.kind, outcome, reason, exit, inputs, caused)

    def _remember(self, step_id: str, outputs: Mapping[str, Any]) -> None:
        if outputs:
            kept = {**self.enrollment.outputs, step_id: storable(outputs)}
            self.enrollment = replace(self.enrollment, outputs=kept)

    def _effects(self, effects: tuple[Effect, ...]) -> None:
        for effect in map(_storable_effect, effects):
            self.effects.append(effect)
            match effect:
                case UpdateRecord(record_type="contact"):
                    self.facts = replace(self.facts, contact=_updated(self.facts.contact, effect))
                case UpdateRecord() if self.facts.lead is not None:
                    self.facts = replace(self.facts, lead=_updated(self.facts.lead, effect))
                case UpdateRecord() | Emit() | RequestApproval() | CancelApproval():
                    pass

    def _withdraw(self) -> None:
        waiting = self.enrollment.waiting
        if waiting is not None and waiting.kind == "approval":
            self.effects.append(CancelApproval(waiting.subject))

    def _complete(self) -> None:
        last = self.enrollment.step_id
        self.note(last, "enrollment", "ended", "Went through to the end.")
        self._end(State.COMPLETED, "completed", "completed")

    def _end(self, state: State, event: Literal["completed", "exited", "failed"], reason: str) -> None:
        reason = storable_text(reason)
        self.enrollment = replace(
            self.enrollment, state=state, waiting=None, due_at=None, end_reason=reason, ended_at=self.now
        )
        self.emit(event, {} if event == "completed" else {"reason": reason})


def _storable_effect(effect: Effect) -> Effect:
    """Return an effect that every database keeps; one poisonous row would hold up all that is written with it."""
    match effect:
        case Emit():
            return replace(effect, data=storable(effect.data))
        case UpdateRecord():
            return replace(effect, fields=storable(effect.fields))
        case RequestApproval():
            return replace(effect, title=storable_text(effect.title), details=storable(effect.details))
        case CancelApproval():
            return effect


def _updated(record: RecordFacts, effect: UpdateRecord) -> RecordFacts:
    fields = dict(record.fields)
    for path, value in effect.fields.items():
        _set(fields, path.split("."), value)
    return replace(record, fields=fields)


def _set(fields: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        inner = fields.get(name)
        fields[name] = dict(inner) if isinstance(inner, Mapping) else {}
        fields = fields[name]
    if value is None:
        fields.pop(path[-1], None)
    else:
        fields[path[-1]] = value


def _shown(value: Any) -> Any:
    """Return an input as the trace keeps it: a whole payload would outgrow what it explains."""
    match value:
        case str() if len(value) > _LARGEST_INPUT:
            return f"{value[:_LARGEST_INPUT]}… ({len(value):,} characters)"
        case Mapping() | list() if len(str(value)) > _LARGEST_INPUT:
            return f"({len(value):,} {'fields' if isinstance(value, Mapping) else 'items'})"
        case datetime():
            return value.isoformat()
        case _:
            return value
