"""The step that writes a line into the trace."""

from __future__ import annotations

from typing import Annotated, ClassVar

from core.domain.frozen import frozen
from core.domain.steps.base import Context, Decision, Fail, Go, Step, setting
from core.domain.steps.shapes import LiquidText, Text
from core.domain.workflow.templates import Template

LONGEST_LINE = 2_000
LEVELS = ("debug", "info", "warning", "error")


@frozen
class Log(Step):
    """Writes a line into the trace."""

    kind: ClassVar = "log"
    summary: ClassVar = "Writes a line into the enrollment's trace."
    outputs: ClassVar = {"message": "string", "level": "string"}

    message: Annotated[Template, setting(LiquidText(), "The line.")]
    level: Annotated[str, setting(Text(choices=LEVELS), "How grave it is; info by default.")] = "info"

    def begin(self, context: Context) -> Decision:
        """Write the line."""
        rendered = self.message.render(context.values)
        if rendered.text is None:
            return Fail(f"The message could not be made: {rendered.error}.", rendered.inputs, "TEMPLATE_FAILED")
        line = rendered.text[:LONGEST_LINE]
        reason = line if line.strip() else "The message is empty."
        return Go("next", reason, outputs={"message": line, "level": self.level}, inputs=rendered.inputs)
