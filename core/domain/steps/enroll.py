"""The step that enrolls the contact in another workflow."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from core.domain.effects import Ask
from core.domain.enrollment import Answered, Stimulus, Waiting
from core.domain.frozen import frozen
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.emit_event import MOST_HOPS
from core.domain.steps.outward_shapes import WORKFLOW
from core.domain.steps.shapes import LiquidText, Values
from core.domain.workflow.templates import Template
from core.domain.workflow.values import Value

LONGEST_KEY = 200
ENROLLED = "enrolled"
NOT_ENROLLED = "not_enrolled"


@frozen
class Enroll(Step):
    """Enrolls the contact in another workflow."""

    kind: ClassVar = "enroll"
    summary: ClassVar = "Enrolls the contact in another workflow, as its own entry rules allow."
    optional_exits: ClassVar = (NOT_ENROLLED,)
    outputs: ClassVar = {"outcome": "string", "enrollment_id": "string"}

    workflow: Annotated[str, setting(WORKFLOW, "The workflow.")]
    key: Annotated[
        Template | None, setting(LiquidText(LONGEST_KEY), "What tells enrollments of one contact apart.")
    ] = None
    variables: Annotated[Value | None, setting(Values(), "Values it begins with, seen there as vars.")] = None

    def begin(self, context: Context) -> Decision:
        """Ask for the enrollment, unless too many workflows in a row led here."""
        hops = context.enrollment.in_a_row + 1
        if hops > MOST_HOPS:
            reason = f"{self.workflow} would be number {hops} of workflows in a row; at most {MOST_HOPS} are allowed."
            return Fail(reason, {"enrollment.hops": context.enrollment.in_a_row}, "TOO_MANY_HOPS")
        inputs: dict[str, Any] = {}
        key = ""
        if self.key is not None:
            rendered = self.key.render(context.values)
            inputs |= rendered.inputs
            if rendered.text is None or len(rendered.text) > LONGEST_KEY:
                why = rendered.error or f"it has more than {LONGEST_KEY} characters"
                return Fail(f"The key could not be made: {why}.", inputs, "TEMPLATE_FAILED")
            key = rendered.text.strip()
        variables: dict[str, Any] = {}
        if self.variables is not None:
            computed = self.variables.compute(context.values)
            inputs |= computed.inputs
            if computed.errors:
                return Fail(f"The variables could not be made: {computed.errors[0]}.", inputs, "TEMPLATE_FAILED")
            variables = computed.value
        payload = {
            "workflow_id": self.workflow,
            "contact_id": context.enrollment.contact_id,
            "key": key,
            "variables": variables,
            "hops": hops,
        }
        ask = Ask(context.name("ask"), "enroll", payload)
        reason = f"Asks for an enrollment in {self.workflow}."
        return Stay(Waiting("answer", ask.id, context.now), reason, effects=(ask,), inputs=inputs)

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Go on; who could not be enrolled may have a way of their own."""
        waiting = context.enrollment.waiting
        if not isinstance(stimulus, Answered) or waiting is None or stimulus.id != waiting.subject:
            return None
        if not stimulus.ok:
            reason = stimulus.reason or f"The enrollment in {self.workflow} could not be made."
            return Fail(reason, failure="NOT_ENROLLED", retryable=stimulus.retryable)
        outputs = {name: stimulus.outputs.get(name, "") for name in self.outputs}
        if outputs["outcome"] == ENROLLED:
            return Go("next", f"Enrolled in {self.workflow}: {outputs['enrollment_id']}.", outputs=outputs)
        exit = NOT_ENROLLED if context.has_exit(NOT_ENROLLED) else "next"
        reason = stimulus.reason or f"Not enrolled in {self.workflow}: {outputs['outcome']}."
        return Go(exit, reason, "skipped", outputs=outputs)
