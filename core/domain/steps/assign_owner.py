"""The step that gives the contact or the lead to a member."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from core.domain.effects import Ask, UpdateRecord
from core.domain.enrollment import Answered, RecordFacts, Stimulus, Waiting
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.outward_shapes import MEMBER, METHODS, Owner, Owners
from core.domain.steps.shapes import Scope, Text
from core.domain.steps.update import RECORDS


@dataclass(frozen=True, slots=True)
class AssignOwner(Step):
    """Gives the contact or the lead to a member."""

    kind: ClassVar = "assign_owner"
    summary: ClassVar = "Gives the contact or the newest lead to a member: a certain one, or one of several in turn."
    outputs: ClassVar = {"owner_id": "string"}

    owner: Annotated[str, setting(MEMBER, "The member.")] = ""
    among: Annotated[tuple[Owner, ...], setting(Owners(), "Members to choose among, instead of a certain one.")] = ()
    method: Annotated[
        str,
        setting(
            Text(choices=METHODS),
            "round_robin gives to each in turn; weighted by weight; sticky leaves it with its owner where that is one.",
        ),
    ] = "round_robin"
    record: Annotated[str, setting(Text(choices=RECORDS), "Which record; the contact by default.")] = "contact"

    def check(self, scope: Scope, path: str) -> None:
        """Report owners named twice or not at all, and weights that nothing weighs."""
        if bool(self.owner) == bool(self.among):
            hint = "Write owner: mem_…, or among: [mem_…, mem_…]."
            reason, message = (
                ("CONFLICT", "owner and among exclude each other")
                if self.owner
                else ("MISSING_KEY", "who shall own it?")
            )
            scope.add(f"{path}.{'among' if self.owner else 'owner'}", reason, message, hint)
        if self.method != "weighted" and any(owner.weight != 1 for owner in self.among):
            scope.add(f"{path}.method", "CONFLICT", f"{self.method} knows no weights", "Use method: weighted.")

    def begin(self, context: Context) -> Decision:
        """Give it to the one, or ask whose turn it is: that must be fair while many ask at once."""
        record = self._record(context)
        if record is None:
            return Go("next", "There is no lead to give to anybody.", "skipped", inputs={"lead.id": None})
        if self.owner:
            return self._give(record, self.owner)
        ask = Ask(
            context.name("ask"),
            "assign_owner",
            {
                "record_id": record.id,
                "record_type": record.type,
                "current": record.fields.get("owner_id"),
                "owners": [{"member": owner.member, "weight": owner.weight} for owner in self.among],
                "method": self.method,
                "workflow_id": context.enrollment.workflow_id,
                "step_id": context.node.id,
            },
        )
        reason = f"Asks whose turn it is among {len(self.among)}, by {self.method}."
        return Stay(Waiting("answer", ask.id, context.now), reason, effects=(ask,))

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Give it to the one whose turn it is."""
        waiting = context.enrollment.waiting
        if not isinstance(stimulus, Answered) or waiting is None or stimulus.id != waiting.subject:
            return None
        owner = stimulus.outputs.get("owner_id")
        if not stimulus.ok or not isinstance(owner, str) or not owner:
            reason = stimulus.reason or "Nobody among them can own it now."
            return Fail(reason, failure="NO_OWNER", retryable=stimulus.retryable or stimulus.ok)
        record = self._record(context)
        if record is None:
            return Go("next", "There is no lead to give to anybody.", "skipped", inputs={"lead.id": None})
        return self._give(record, owner, stimulus.reason)

    def _record(self, context: Context) -> RecordFacts | None:
        return context.facts.contact if self.record == "contact" else context.facts.lead

    def _give(self, record: RecordFacts, owner: str, why: str = "") -> Go:
        before = record.fields.get("owner_id")
        inputs: dict[str, Any] = {f"{record.type}.owner_id": before}
        outputs = {"owner_id": owner}
        told = f" {why}" if why else ""
        if before == owner:
            return Go("next", f"The {record.type} stays with {owner}.{told}", outputs=outputs, inputs=inputs)
        effect = UpdateRecord(record.id, record.type, {"owner_id": owner})
        reason = f"Gave the {record.type} to {owner}.{told}"
        return Go("next", reason, effects=(effect,), outputs=outputs, inputs=inputs)
