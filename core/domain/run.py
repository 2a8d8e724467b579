"""One transition in the making: carrying out steps, noting what happened, collecting what shall be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

from core.domain import names
from core.domain.aftermath import after, storable_effect
from core.domain.effects import (
    CancelApproval,
    CancelTask,
    Effect,
    Emit,
    KeepDeadLetter,
    SendMessage,
    UpdateRecord,
    WithdrawMessages,
)
from core.domain.enrollment import (
    Cancelled,
    Enrollment,
    EventArrived,
    EventFacts,
    Facts,
    State,
    Stimulus,
    Waiting,
)
from core.domain.steps.base import Context, Decision, Fail, Go, Leave, Stay
from core.domain.trace import Conversion, Outcome, TraceEntry, Transition
from core.domain.workflow import splits
from core.domain.workflow.document import END
from core.domain.workflow.storable import AS_THEY_ARE, storable, storable_text
from core.domain.workflow.version import Node, Rule, Version

_LARGEST_INPUT = 500
_AT_ONCE = timedelta()


@dataclass(slots=True)
class Run:
    """One transition in the making; lives only while it is made."""

    version: Version
    enrollment: Enrollment
    """Nobody else's copy: it is changed in place, because a copy for every change took most of the time."""
    facts: Facts
    now: datetime
    before: Enrollment | None = None
    trace: list[TraceEntry] = field(default_factory=list)
    effects: list[Effect] = field(default_factory=list)
    conversions: list[Conversion] = field(default_factory=list)
    draws: list[Conversion] = field(default_factory=list)
    carried: tuple[Conversion, ...] = ()
    index: int = 0
    spoke_at: datetime | None = None
    """When the first message began that it has left since it last waited."""

    def transition(self) -> Transition:
        """Return what came of it."""
        enrollment: Any = self.enrollment
        enrollment.trace_count += len(self.trace)
        listens = enrollment.rev == 1 and any(rule.events for rule in self.version.rules)
        made = (tuple(self.trace), tuple(self.effects), tuple(self.conversions))
        return Transition(enrollment, *made, self.before, tuple(self.draws), listens, self.facts, self.carried)

    def put(self, **changes: Any) -> None:
        """Change the enrollment, which is the run's own copy until it is handed out."""
        for name, value in changes.items():
            setattr(self.enrollment, name, value)

    def walk(self, step_id: str, limit: int) -> None:
        """Carry out steps until one stays, the enrollment ends, or the limit is reached."""
        following: str | None = step_id
        while following is not None:
            if following == END:
                self._complete()
                return
            self._come_into(following)
            if limit <= 0:
                self.put(due_at=self.now, skipping=False)  # or a ring of steps that are passed over would never end
                return
            node = self.version.steps.get(following)
            if node is None:
                self.fail(following, "step", Fail(f"Version {self.version.number} has no step {following}."))
                return
            limit -= 1
            decision = self.decide(node, None)
            following = self.take(node, decision) if decision is not None else None

    def _come_into(self, step_id: str) -> None:
        """Leave a step for another one, and remember when, where waits for events count from there."""
        own: Any = self.enrollment
        begins, left = self.version.begins, own.step_id
        if left in own.begun and left != step_id:
            node = self.version.steps.get(left)
            if node is not None and node.step.kind == "message":
                self.spoke_at = self.spoke_at or own.begun[left]
            if not begins.get(left):
                own.begun = {step: at for step, at in own.begun.items() if step != left}
        if step_id in begins:
            own.begun = {**own.begun, step_id: self.now}
        self.stand(step_id, 0)

    def stand(self, step_id: str, attempts: int) -> None:
        """Put the enrollment into a step that it has yet to begin."""
        own: Any = self.enrollment
        own.step_id = step_id
        own.state = State.ACTIVE
        own.waiting = None
        own.due_at = None
        own.attempts = attempts
        own.shifted = _AT_ONCE
        own.began_at = None

    def decide(self, node: Node, stimulus: Stimulus | None, at: datetime | None = None) -> Decision | None:
        """Ask a step; one that breaks fails, it does not take others down with it.

        With an instant, it is asked what it would have decided then, knowing what is known now.
        """
        if stimulus is None and self.enrollment.skipping and node.step.outward:
            return Go(node.step.exit_undone(), "Passed over: it fell due while the workflow was paused.", "skipped")
        now = at or self.now
        context = Context(
            self.enrollment, self.facts, now, self.index, self.enrollment.rev, self.version, node, self.spoke_at
        )
        try:
            return node.step.begin(context) if stimulus is None else node.step.on(stimulus, context)
        except Exception as error:  # whatever a tenant's document provokes ends here, never in the engine
            return Fail(f"The step could not be carried out ({type(error).__name__}).", failure="STEP_BROKE")

    def take(self, node: Node, decision: Decision) -> str | None:
        """Carry out a decision and return the next step's id, or None when the enrollment stays or has ended."""
        self.index += 1
        since = self.enrollment.waits_since
        stood = self.now - since if since is not None else _AT_ONCE
        match decision:
            case Go():
                if decision.effects:
                    self.add(decision.effects)
                caused = _ids(decision.effects) if decision.effects else ()
                told = (decision.reason, decision.exit, decision.inputs, caused, stood)
                self.note(node.id, node.step.kind, decision.outcome, *told)
                if splits.counts(node.step, self.enrollment) and node.id not in self.enrollment.outputs:
                    self.draws.append(Conversion(node.id, decision.exit))
                if decision.outputs:
                    self.remember(node.id, decision.outputs)
                if decision.event is not None:
                    self.put(event=storable(decision.event))
                if decision.converted:
                    self._convert(decision.converted)
                return node.exits.get(decision.exit, END)
            case Stay():
                self.add(decision.effects)
                self._stay(decision)
                caused = _ids(decision.effects) if decision.effects else ()
                told = (decision.reason, "", decision.inputs, caused, stood)
                self.note(node.id, node.step.kind, decision.outcome, *told)
                return None
            case Leave():
                self.remember(node.id, decision.outputs)
                self.withdraw()
                self.note(node.id, node.step.kind, "ended", decision.reason, inputs=decision.inputs, stood=stood)
                self._end(State.EXITED, "exited", decision.reason)
                return None
            case Fail():
                return self._failed(node, decision, stood)

    def _stay(self, decision: Stay) -> None:
        own: Any = self.enrollment
        waiting = decision.waiting
        own.state = decision.state
        own.waiting = waiting
        own.due_at = decision.until
        own.skipping = False
        own.shifted = _AT_ONCE
        catches_up = waiting.kind == "event" and waiting.since is not None and waiting.since < self.now
        own.began_at = self.now if catches_up else None

    def ruled_out(self, stimulus: Stimulus) -> bool:
        """End the enrollment where a goal is reached or an exit rule holds, and tell whether it did."""
        event = stimulus.event if isinstance(stimulus, EventArrived) else None
        for rule in self.version.rules:
            inputs = self._meets(rule, event)
            if inputs is not None:
                self._rule(rule, event, inputs)
                return True
        return False

    def _meets(self, rule: Rule, event: EventFacts | None) -> Mapping[str, Any] | None:
        """Return what a rule looked at, when it holds."""
        enrollment = self.enrollment
        inputs: dict[str, Any] = {}
        if rule.events:
            if event is None or event.name not in rule.events or event.received_at < enrollment.entered_at:
                return None
            if event.id == (enrollment.event or {}).get("id"):
                return None  # the event that brought it here does not end it
            inputs["event.id"] = event.id
        if rule.when is None:
            return inputs
        node = self.version.steps.get(enrollment.step_id)
        if node is None:
            return None
        context = Context(enrollment, self.facts, self.now, self.index, enrollment.rev, self.version, node)
        values = context.values_with(event) if rule.events and event is not None else context.values
        result = rule.when.evaluate(values)
        return {**inputs, **result.inputs} if result.holds else None

    def _rule(self, rule: Rule, event: EventFacts | None, inputs: Mapping[str, Any]) -> None:
        because = f"{event.name} came in" if rule.events and event is not None else ""
        holds = f"{rule.when.text} holds" if rule.when is not None else ""
        told = " and ".join(part for part in (because, holds) if part)
        reason = f"{'Goal' if rule.kind == 'goal' else 'Exit rule'} {rule.name}: {told}."
        self.withdraw()
        if self.enrollment.messages:
            self.effects.append(WithdrawMessages(self.enrollment.id, storable_text(reason)))
        self.note(self.enrollment.step_id, rule.kind, "ended", reason, inputs=inputs)
        if rule.kind == "goal":
            self._convert(rule.name)
            self._end(State.COMPLETED, "completed", reason)
        else:
            self._end(State.EXITED, "exited", reason)

    def _failed(self, node: Node, decision: Fail, stood: timedelta) -> str | None:
        """Try again later where the author says so, else go on or end as `on_error` says; a dead letter stays."""
        attempts = self.enrollment.attempts + 1
        retry = node.retry
        self.add(decision.effects)
        self.withdraw()
        if retry is not None and decision.retryable and attempts < retry.attempts:
            until = self.now + retry.delay_after(attempts)
            reason = f"{decision.reason} Try {attempts} of {retry.attempts}; the next is at {until:%Y-%m-%d %H:%M} UTC."
            self.note(node.id, node.step.kind, "failed", reason, inputs=decision.inputs, stood=stood)
            self.put(
                state=State.ACTIVE,
                waiting=Waiting("retry", str(attempts), self.now),
                due_at=until,
                attempts=attempts,
            )
            return None
        self.remember(node.id, decision.outputs)
        if decision.exit in node.led:
            self.note(node.id, node.step.kind, "failed", decision.reason, decision.exit, decision.inputs, stood=stood)
            return node.exits[decision.exit]
        ends = node.on_error == "fail"
        self.effects.append(
            KeepDeadLetter(
                names.derive("dl", self.now, self.enrollment.id, self.enrollment.rev, self.index),
                node.id,
                node.step.kind,
                decision.failure,
                storable_text(decision.reason),
                attempts,
                ends,
            )
        )
        if ends:
            self.put(attempts=attempts)
            self.fail(node.id, node.step.kind, decision, stood)
            return None
        exit = "error" if node.on_error == "goto" else node.step.exit_undone()
        self.note(node.id, node.step.kind, "failed", decision.reason, exit, decision.inputs, stood=stood)
        return node.exits.get(exit, END)

    def fail(self, step_id: str, kind: str, decision: Fail, stood: timedelta = _AT_ONCE) -> None:
        """End the enrollment because a step failed."""
        self.note(step_id, kind, "failed", decision.reason, inputs=decision.inputs, stood=stood)
        self.withdraw()
        self._end(State.FAILED, "failed", decision.reason)

    def cancel(self, stimulus: Cancelled) -> None:
        """End the enrollment because somebody wants it."""
        reason = f"Cancelled by {stimulus.actor}" + (f": {stimulus.reason}" if stimulus.reason else "") + "."
        self.withdraw()
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
        stood: timedelta = _AT_ONCE,
    ) -> None:
        """Write one entry into the trace."""
        seq = self.enrollment.trace_count + len(self.trace) + 1
        shown = {}
        if inputs:
            for path, value in inputs.items():
                shown[storable_text(path)] = value if type(value) in AS_THEY_ARE else _shown(value)
        told = storable_text(reason)
        self.trace.append(TraceEntry(seq, step_id, kind, outcome, self.now, exit, told, shown, effects, stood))

    def withdraw(self) -> None:
        """Take back what was asked of others and matters no more."""
        waiting = self.enrollment.waiting
        if waiting is not None and waiting.kind == "approval":
            self.effects.append(CancelApproval(waiting.subject))
        if waiting is not None and waiting.kind == "task":
            self.effects.append(CancelTask(waiting.subject))
        self.put(waiting=None)

    def remember(self, step_id: str, outputs: Mapping[str, Any]) -> None:
        """Keep what a step leaves behind."""
        if outputs:
            own: Any = self.enrollment
            own.outputs = {**own.outputs, step_id: storable(outputs)}

    def _convert(self, goal: str) -> None:
        """Remember the first goal, and credit it to the ways that splits had chosen."""
        if self.enrollment.converted:
            return
        self.put(converted=goal)
        self.conversions += [Conversion("", goal), *self.ways()]

    def ways(self) -> list[Conversion]:
        """Return the ways that splits of the version had chosen, where they count."""
        found = []
        for step_id, outputs in self.enrollment.outputs.items():
            node = self.version.steps.get(step_id)
            if node is None or not isinstance(outputs.get("variant"), str):
                continue
            if splits.counts(node.step, self.enrollment):
                found.append(Conversion(step_id, outputs["variant"]))
        return found

    def add(self, effects: tuple[Effect, ...]) -> None:
        """Take in what shall be done, so that later steps see what it leads to."""
        for effect in map(storable_effect, effects):
            self.effects.append(effect)
            self.facts = after(self.facts, effect, self.enrollment.workflow_id, self.now)
            if isinstance(effect, SendMessage):
                self.put(messages={**self.enrollment.messages, effect.channel: effect.ordinal})

    def _complete(self) -> None:
        last = self.enrollment.step_id
        self.note(last, "enrollment", "ended", "Went through to the end.")
        self._end(State.COMPLETED, "completed", "completed")

    def _end(self, state: State, event: Literal["completed", "exited", "failed"], reason: str) -> None:
        reason = storable_text(reason)
        self.put(
            state=state,
            waiting=None,
            due_at=None,
            end_reason=reason,
            ended_at=self.now,
            held=(),
            skipping=False,
        )
        self.emit(event, {} if event == "completed" else {"reason": reason})


def _ids(effects: tuple[Effect, ...]) -> tuple[str, ...]:
    """Return what a trace names of effects: what they make, and the records that they change."""
    return tuple([effect.record_id if isinstance(effect, UpdateRecord) else effect.id for effect in effects])


def _shown(value: Any) -> Any:
    """Return an input as the trace keeps it: a whole payload would outgrow what it explains."""
    match value:
        case None | bool() | int():
            return value
        case str() if len(value) > _LARGEST_INPUT:
            return f"{storable_text(value[:_LARGEST_INPUT])}… ({len(value):,} characters)"
        case str():
            return storable_text(value)
        case datetime():
            return value.isoformat()
        case Mapping() | list() if len(str(value)) > _LARGEST_INPUT:
            return f"({len(value):,} {'fields' if isinstance(value, Mapping) else 'items'})"
        case _:
            return storable(value)
