"""The step that lets only those through for whom a condition holds."""

from __future__ import annotations

from typing import Annotated, ClassVar

from core.domain.frozen import frozen
from core.domain.steps.base import BROKEN, Context, Decision, Fail, Go, Leave, Step, setting
from core.domain.steps.shapes import Condition
from core.domain.workflow.expressions import Expression

OTHERWISE = "otherwise"


@frozen
class Filter(Step):
    """Lets a contact through when a condition holds; others leave, or take the exit that the author wrote for them."""

    kind: ClassVar = "filter"
    summary: ClassVar = "Lets the contact through when a condition holds; otherwise they leave, or go by otherwise."
    optional_exits: ClassVar = (OTHERWISE,)

    when: Annotated[Expression, setting(Condition(), "What must hold.")]

    def begin(self, context: Context) -> Decision:
        """Let through, or not; what is not known does not hold, and the reason says so. One that breaks fails."""
        result = self.when.evaluate(context.values)
        if result.broke:
            return Fail(f"{self.when.text} could not be told: {result.unknown}.", result.inputs, BROKEN)
        if result.holds:
            return Go("next", f"{self.when.text} holds.", inputs=result.inputs)
        told = f"could not be told: {result.unknown}" if result.unknown else "does not hold"
        reason = f"{self.when.text} {told}."
        if context.has_exit(OTHERWISE):
            return Go(OTHERWISE, reason, inputs=result.inputs)
        return Leave(f"Filtered out: {reason}", inputs=result.inputs)
