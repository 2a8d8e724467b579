"""The step that gives the contact or the lead to a member."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from core.domain.effects import Ask, UpdateRecord
from core.domain.enrollment import Answered, RecordFacts, Stimulus, Waiting
from core.domain.frozen import frozen
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.outward_shapes import MEMBER, METHODS, ROUTING, Owner, Owners
from core.domain.steps.shapes import Scope, Text

RECORDS = ("contact", "lead")
"""The records that are the contact's own; a company is shared with others."""


@frozen
class AssignOwner(Step):
    """Gives the contact or the lead to a member."""

    kind: ClassVar = "assign_owner"
    summary: ClassVar = (
        "Gives the contact or the newest lead to a member: a certain one, one of several in turn, or by a routing."
    )
    outputs: ClassVar = {"owner_id": "string"}

    owner: Annotated[str, setting(MEMBER, "The member.")] = ""
    among: Annotated[tuple[Owner, ...], setting(Owners(), "Members to choose among, instead of a certain one.")] = ()
    routing: Annotated[
        str, setting(ROUTING, "A routing that says who gets the newest lead; the contact too, where nobody has it.")
    ] = ""
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
        given = [name for name in ("owner", "among", "routing") if getattr(self, name)]
        hint = "Write owner: mem_…, among: [mem_…, mem_…], or routing: and the id of a routing."
        if not given:
            scope.add(f"{path}.owner", "MISSING_KEY", "who shall own it?", hint)
        for name in given[1:]:
            scope.add(f"{path}.{name}", "CONFLICT", f"{given[0]} and {name} exclude each other", hint)
        if self.method != "weighted" and any(owner.weight != 1 for owner in self.among):
            scope.add(f"{path}.method", "CONFLICT", f"{self.method} knows no weights", "Use method: weighted.")

    def begin(self, context: Context) -> Decision:
        """Give it to the one, or ask whose turn it is: that must be fair while many ask at once."""
        record = context.facts.lead if self.routing else self._record(context)
        if record is None:
            return Go("next", "There is no lead to give to anybody.", "skipped", inputs={"lead.id": None})
        if self.owner:
            return self._give(record, self.owner)
        if self.routing:
            return self._routed(record, context)
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
        if self.routing:  # whoever answered wrote the record too, with the turn
            return Go("next", stimulus.reason or f"Gave the lead to {owner}.", outputs={"owner_id": owner})
        record = self._record(context)
        if record is None:
            return Go("next", "There is no lead to give to anybody.", "skipped", inputs={"lead.id": None})
        return self._give(record, owner, stimulus.reason)

    def _routed(self, lead: RecordFacts, context: Context) -> Decision:
        payload = {
            "routing_id": self.routing,
            "lead_id": lead.id,
            "workflow_id": context.enrollment.workflow_id,
            "step_id": context.node.id,
        }
        ask = Ask(context.name("ask"), "assign_owner", payload)
        reason = f"Asks who gets the lead by {self.routing}."
        return Stay(Waiting("answer", ask.id, context.now), reason, effects=(ask,))

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
