"""The step that qualifies the contact's lead by a scoring model."""

from __future__ import annotations

from typing import Annotated, ClassVar

from core.domain.effects import Ask
from core.domain.enrollment import Answered, Stimulus, Waiting
from core.domain.frozen import frozen
from core.domain.records.fields import DECISIONS
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.outward_shapes import MODEL


@frozen
class Score(Step):
    """Qualifies the contact's lead by a scoring model."""

    kind: ClassVar = "score"
    summary: ClassVar = "Scores the contact's lead by a scoring model and writes score, tier and decision into it."
    optional_exits: ClassVar = DECISIONS
    outputs: ClassVar = {
        "decision": "string",
        "score": "integer",
        "fit": "integer",
        "engagement": "integer",
        "tier": "string",
        "owner": "string",
    }

    model: Annotated[str, setting(MODEL, "The scoring model; the organization's own without it.")] = ""

    def begin(self, context: Context) -> Decision:
        """Ask for the qualification; it is carried out in the same transaction."""
        payload = {
            "model_id": self.model,
            "contact_id": context.enrollment.contact_id,
            "lead_id": context.facts.lead.id if context.facts.lead is not None else "",
        }
        ask = Ask(context.name("ask"), "qualify", payload)
        by = f" by {self.model}" if self.model else ""
        return Stay(Waiting("answer", ask.id, context.now), f"Asks for a qualification{by}.", effects=(ask,))

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Go on by the way of the decision, where it has one."""
        waiting = context.enrollment.waiting
        if not isinstance(stimulus, Answered) or waiting is None or stimulus.id != waiting.subject:
            return None
        if not stimulus.ok:
            reason = stimulus.reason or "The lead could not be qualified."
            return Fail(reason, failure="NOT_QUALIFIED", retryable=stimulus.retryable)
        outputs = {name: stimulus.outputs.get(name) for name in self.outputs}
        decision = str(outputs["decision"] or "")
        exit = decision if decision in DECISIONS and context.has_exit(decision) else "next"
        tier = f", tier {outputs['tier']}" if outputs["tier"] else ""
        reason = stimulus.reason or f"{decision.capitalize()} with {outputs['score']} points{tier}."
        return Go(exit, reason, outputs=outputs)
