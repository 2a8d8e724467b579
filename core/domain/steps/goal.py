"""The step at which an enrollment has reached what the workflow is for."""

from __future__ import annotations

from typing import Annotated, ClassVar

from core.domain.frozen import frozen
from core.domain.steps.base import Context, Decision, Go, Step, setting
from core.domain.steps.shapes import Text

LONGEST_NAME = 100


@frozen
class Goal(Step):
    """Counts the enrollment as converted, and lets it go on."""

    kind: ClassVar = "goal"
    summary: ClassVar = "Counts the contact as converted, credits the ways that splits had chosen, and goes on."

    name: Annotated[str, setting(Text(LONGEST_NAME), "What was reached, such as trial_started.")]

    def begin(self, context: Context) -> Decision:
        """Reach the goal; only the first one counts."""
        before = context.enrollment.converted
        more = f" It does not count: {before} was reached before." if before else ""
        return Go("next", f"Reached the goal {self.name}.{more}", converted=self.name)
