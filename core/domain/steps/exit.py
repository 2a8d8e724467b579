"""The step by which a contact leaves the workflow."""

from __future__ import annotations

import json
from typing import Annotated, ClassVar

from core.domain.frozen import frozen
from core.domain.steps.base import Context, Decision, Fail, Leave, Step, setting
from core.domain.steps.shapes import LiquidText, Values
from core.domain.workflow.templates import Template
from core.domain.workflow.values import Value

LONGEST_REASON = 500
LARGEST_RESULT = 65_536


@frozen
class Exit(Step):
    """Ends the enrollment here."""

    kind: ClassVar = "exit"
    summary: ClassVar = "Ends the enrollment here, with a reason and a result."
    exits: ClassVar = ()

    reason: Annotated[Template | None, setting(LiquidText(LONGEST_REASON), "Why, for whoever reads the trace.")] = None
    result: Annotated[Value | None, setting(Values(), "What came of it: the answer of an execution.")] = None

    def begin(self, context: Context) -> Decision:
        """Leave."""
        inputs = {}
        reason = f"left at {context.enrollment.step_id}"
        if self.reason is not None:
            rendered = self.reason.render(context.values)
            if rendered.text is None:
                return Fail(f"The reason could not be made: {rendered.error}.", rendered.inputs, "TEMPLATE_FAILED")
            reason, inputs = rendered.text[:LONGEST_REASON].strip() or reason, dict(rendered.inputs)
        if self.result is None:
            return Leave(reason, {}, inputs)
        computed = self.result.compute(context.values)
        inputs |= computed.inputs
        if computed.errors:
            return Fail(f"The result could not be made: {computed.errors[0]}.", inputs, "TEMPLATE_FAILED")
        if len(json.dumps(computed.value, ensure_ascii=False).encode(errors="replace")) > LARGEST_RESULT:
            return Fail(f"The result has more than {LARGEST_RESULT:,} bytes.", inputs, "TOO_LARGE")
        return Leave(reason, computed.value, inputs)
