"""Everybody outside, as assumed: who decides, receives, answers, qualifies, owns, and enrolls elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from core.domain.effects import Ask, CreateTask, Effect, Emit, RequestApproval, SendMessage
from core.domain.enrollment import (
    Answered,
    ApprovalDecided,
    DeliveryEnded,
    Enrollment,
    Facts,
    MessageEnded,
    Stimulus,
    TaskAnswered,
)
from core.domain.qualification import turns
from core.domain.workflow.version import Version
from core.simulation.assumptions import QUALIFIED_AS, Answers, Assumptions, Qualification, schemas_of
from core.simulation.chance import draw
from core.simulation.examples import example

NOT_KNOWN = "No assumption says what the model would decide."
_NONE_FITS = object()


class Outside:
    """Answers what a workflow asks; what is left to chance depends on the seed, the contact and the step alone."""

    def __init__(self, version: Version, assumptions: Assumptions, seed: int):
        self._asked_for = schemas_of(version)
        self._assumptions = assumptions
        self._seed = seed
        self._times: Counter[tuple[str, str, str]] = Counter()
        self._turns: Counter[str] = Counter()
        self.handed_over: Counter[str] = Counter()
        """Enrollments that would have been asked for, by workflow."""
        self._elsewhere: set[tuple[str, str, str]] = set()
        self.unknown: Counter[str] = Counter()
        """Qualifications that nothing was assumed of, by step."""
        self.unanswered: Counter[str] = Counter()
        """Questions at which no answer could be made up that fits the schema, by step."""

    def answer(self, enrollment: Enrollment, effect: Effect) -> tuple[timedelta, Stimulus] | None:
        """Return what somebody outside makes of an effect, and how much later; None when nobody ever answers."""
        match effect:
            case RequestApproval():
                answers = self._of(enrollment, self._assumptions.approvals)
                outcome, after, _ = self._drawn("approval", enrollment, answers)
                if not outcome:
                    return None
                said = answers.said
                who, why = str(said.get("decider", "an approver")), str(said.get("comment", ""))
                return after, ApprovalDecided(effect.id, outcome == "approve", who, why)
            case Emit(awaited=True):
                answers = self._of(enrollment, self._assumptions.deliveries)
                outcome, after, point = self._drawn("delivery", enrollment, answers)
                said = answers.said
                if outcome == "delivered" and "answer" not in said and enrollment.step_id in self._asked_for:
                    answer = self._example(enrollment, point)
                    said = {**said, "answer": None if answer is _NONE_FITS else answer}
                return (after, _delivered(effect.id, outcome == "delivered", said)) if outcome else None
            case SendMessage(awaited=True):
                answers = self._of(enrollment, self._assumptions.messages)
                outcome, after, _ = self._drawn("message", enrollment, answers)
                told = str(answers.said.get("outcome", outcome))
                return (after, MessageEnded(effect.id, outcome == "sent", told)) if outcome else None
            case CreateTask():
                answers = self._of(enrollment, self._assumptions.tasks)
                outcome, after, point = self._drawn("task", enrollment, answers)
                if not outcome:
                    return None
                agent = str(answers.said.get("agent", "an agent"))
                output = answers.said["output"] if "output" in answers.said else self._example(enrollment, point)
                # What does not fit is refused when it comes in, and the task waits on for a better answer.
                return (after, TaskAnswered(effect.id, output, agent)) if output is not _NONE_FITS else None
            case _:
                return None

    def ask(self, enrollment: Enrollment, ask: Ask, facts: Facts) -> Answered:
        """Return the core's answer to a question."""
        match ask.service:
            case "qualify":
                return self._qualify(enrollment, ask, facts)
            case "assign_owner":
                return self._owner(ask)
            case _:
                return self._enroll(ask)

    def _example(self, enrollment: Enrollment, point: float) -> Any:
        """Return an answer that fits what a step asks for, as far as one can be made up."""
        schema = self._asked_for[enrollment.step_id]
        made = example(schema.written, point)
        if not schema.misfit(made):
            return made
        self.unanswered[enrollment.step_id] += 1
        return _NONE_FITS

    def _of(self, enrollment: Enrollment, usual: Answers) -> Answers:
        own = self._assumptions.steps.get(enrollment.step_id)
        return own if isinstance(own, Answers) else usual

    def _drawn(self, what: str, enrollment: Enrollment, answers: Answers) -> tuple[str, timedelta, float]:
        """Return outcome, delay and one more number; the second question at a step is drawn anew."""
        key = (enrollment.contact_id, enrollment.key, enrollment.step_id)
        self._times[key] += 1
        parts = (what, *key, self._times[key])
        outcome = answers.drawn(draw(self._seed, *parts))
        after = answers.after
        delay = after.least if after.least == after.most else after.at(draw(self._seed, "after", *parts))
        return outcome, delay, draw(self._seed, "more", *parts)

    def _qualify(self, enrollment: Enrollment, ask: Ask, facts: Facts) -> Answered:
        own = self._assumptions.steps.get(enrollment.step_id)
        choices = own if isinstance(own, tuple) else self._assumptions.qualify
        if choices:
            return self._qualified(enrollment, ask, choices)
        known = {} if facts.lead is None else facts.lead.fields
        if known.get("decision") is None:
            self.unknown[enrollment.step_id] += 1
            return Answered(ask.id, False, reason=NOT_KNOWN)
        outputs = {name: known.get(name) for name in QUALIFIED_AS}
        return Answered(ask.id, True, {**outputs, "owner": known.get("owner_id")})

    def _qualified(self, enrollment: Enrollment, ask: Ask, choices: tuple[Qualification, ...]) -> Answered:
        point, reach = draw(self._seed, "qualify", enrollment.contact_id, enrollment.step_id), 0.0
        for choice in choices:
            reach += choice.share
            if point < reach:
                if not choice.outputs:
                    break
                return Answered(ask.id, True, {name: choice.outputs.get(name) for name in QUALIFIED_AS})
        return Answered(ask.id, False, reason="The lead is assumed not to be qualified by the model.")

    def _owner(self, ask: Ask) -> Answered:
        payload = ask.payload
        if "routing_id" in payload:
            if not self._assumptions.owners:
                return Answered(ask.id, False, reason="Nobody is assumed to take it.")
            routing_id = str(payload["routing_id"])
            return Answered(ask.id, True, {"owner_id": f"whoever {routing_id} says"}, f"Given by {routing_id}.")
        owners = [(str(one["member"]), int(one["weight"])) for one in payload["owners"]]
        members = frozenset(member for member, _ in owners) if self._assumptions.owners else frozenset()
        keep = payload.get("current") if payload["method"] == "sticky" else None
        position = self._turns[str(payload["step_id"])]
        turn = turns.choose(owners, available=members, position=position, keep=keep)
        if turn is None:
            return Answered(ask.id, False, reason="Nobody is assumed to take it.")
        self._turns[str(payload["step_id"])] = turn.position
        return Answered(ask.id, True, {"owner_id": turn.member}, f"{turn.why}.")

    def _enroll(self, ask: Ask) -> Answered:
        workflow = str(ask.payload["workflow_id"])
        identity = (workflow, str(ask.payload["contact_id"]), str(ask.payload["key"]))
        if identity in self._elsewhere:
            reason = f"The contact would be in {workflow} already."
            return Answered(ask.id, True, {"outcome": "already_enrolled", "enrollment_id": ""}, reason)
        self._elsewhere.add(identity)
        self.handed_over[workflow] += 1
        return Answered(ask.id, True, {"outcome": "enrolled", "enrollment_id": f"simulated in {workflow}"})


def _delivered(message: str, delivered: bool, said: Mapping[str, Any]) -> DeliveryEnded:
    status = said.get("status_code", 200 if delivered else 500)
    outcome = str(said.get("outcome", "delivered" if delivered else "failed"))
    return DeliveryEnded(message, delivered, outcome, int(status), said.get("answer") if delivered else None)
