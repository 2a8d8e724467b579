"""The step that asks a second principal and waits for the answer."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from core.domain.effects import CancelApproval, RequestApproval
from core.domain.enrollment import ApprovalDecided, State, Stimulus, TimerFired, Waiting
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.shapes import Duration, LiquidText, Values
from core.domain.workflow import durations
from core.domain.workflow.templates import Template
from core.domain.workflow.values import Value

LONGEST_TITLE = 300


@dataclass(frozen=True, slots=True)
class Approval(Step):
    """Asks a second principal and waits for the answer."""

    kind: ClassVar = "approval"
    summary: ClassVar = "Asks a person to decide and holds the contact until they have."
    exits: ClassVar = ("approved", "rejected", "timeout")
    undone: ClassVar = "rejected"
    required_exits: ClassVar = ("rejected",)
    fallbacks: ClassVar = {"timeout": "rejected"}
    waits: ClassVar = True
    outward: ClassVar = True
    outputs: ClassVar = {"approved": "boolean", "decision": "string", "decider": "string", "comment": "string"}

    subject: Annotated[Template, setting(LiquidText(LONGEST_TITLE), "What is asked, in one line.", key="title")]
    details: Annotated[Value | None, setting(Values(), "What the decider needs to know.")] = None
    timeout: Annotated[timedelta | None, setting(Duration(), "How long to wait; without one, for ever.")] = None

    def its_exits(self) -> tuple[str, ...]:
        """Return the answers, and timeout when there is one."""
        return self.exits if self.timeout else ("approved", "rejected")

    def begin(self, context: Context) -> Decision:
        """Ask."""
        title = self.subject.render(context.values)
        if title.text is None:
            return Fail(f"The title could not be made: {title.error}.", title.inputs, "TEMPLATE_FAILED")
        inputs: dict[str, Any] = dict(title.inputs)
        details: dict[str, Any] = {}
        if self.details is not None:
            computed = self.details.compute(context.values)
            inputs |= computed.inputs
            if computed.errors:
                return Fail(f"The details could not be made: {computed.errors[0]}.", inputs, "TEMPLATE_FAILED")
            details = computed.value
        approval = context.name("apr")
        until = context.now + self.timeout if self.timeout else None
        limit = f", {durations.speak(self.timeout)} at most" if self.timeout else ""
        return Stay(
            Waiting("approval", approval, context.now),
            f"Waits for a decision on: {title.text[:LONGEST_TITLE]}{limit}.",
            until,
            State.AWAITING_APPROVAL,
            (RequestApproval(approval, title.text[:LONGEST_TITLE], details, until),),
            inputs,
        )

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Go on with the decision on this very approval, or withdraw it at the timeout."""
        waiting = context.enrollment.waiting
        asked = waiting.subject if waiting is not None else ""
        match stimulus:
            case ApprovalDecided() if stimulus.approval_id == asked:
                exit_name = "approved" if stimulus.approved else "rejected"
                remark = f": {stimulus.comment[:500]}" if stimulus.comment else ""
                outputs = {
                    "approved": stimulus.approved,
                    "decision": exit_name,
                    "decider": stimulus.decider,
                    "comment": stimulus.comment,
                }
                reason = f"{stimulus.decider} {exit_name} it{remark}."
                return Go(exit_name, reason, outputs=outputs, inputs={"approval.id": asked})
            case TimerFired() if self.timeout is not None:
                reason = f"Nobody decided within {durations.speak(self.timeout)}."
                outputs = {"approved": False, "decision": "timeout", "decider": "", "comment": ""}
                return Go("timeout", reason, effects=(CancelApproval(asked),), outputs=outputs)
            case _:
                return None
