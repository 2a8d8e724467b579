"""The step that records an event of the contact, as if it had come in."""

from __future__ import annotations

import json
from typing import Annotated, Any, ClassVar

from core.domain import effects, names
from core.domain.frozen import frozen
from core.domain.steps.base import Context, Decision, Fail, Go, Step, setting
from core.domain.steps.shapes import OwnEventName, Values
from core.domain.workflow.values import Value

MOST_HOPS = 8
"""Workflows in a row that lead to one another by events or by enrolling; a ring of them ends here."""

LARGEST_FIELDS = 65_536
"""In bytes of JSON."""


@frozen
class EmitEvent(Step):
    """Records an event of the contact, which may wake and start others."""

    kind: ClassVar = "emit_event"
    summary: ClassVar = "Records an event of the contact; what waits for it goes on, what it triggers starts."
    outputs: ClassVar = {"event_id": "string"}

    event: Annotated[str, setting(OwnEventName(), "Name of the event, such as trial.went_well.")]
    fields: Annotated[Value | None, setting(Values(), "What it says, seen as event.fields.")] = None

    def begin(self, context: Context) -> Decision:
        """Make the event, unless too many workflows in a row led here."""
        hops = context.enrollment.in_a_row + 1
        if hops > MOST_HOPS:
            reason = f"{self.event} would be the work of {hops} workflows in a row; at most {MOST_HOPS} are allowed."
            return Fail(reason, {"enrollment.hops": context.enrollment.in_a_row}, "TOO_MANY_HOPS")
        fields: dict[str, Any] = {}
        inputs: Any = {}
        gaps = ""
        if self.fields is not None:
            computed = self.fields.compute(context.values)
            fields, inputs = computed.value, computed.inputs
            if computed.errors:
                reason = f"The fields of {self.event} could not be made: {computed.errors[0]}."
                return Fail(reason, inputs, "TEMPLATE_FAILED")
            gaps = f" Left empty: {'; '.join(computed.gaps)}." if computed.gaps else ""
        if len(json.dumps(fields, ensure_ascii=False).encode(errors="replace")) > LARGEST_FIELDS:
            return Fail(f"The fields of {self.event} have more than {LARGEST_FIELDS:,} bytes.", inputs, "TOO_LARGE")
        event = names.event_of_step(context.now, context.index, context.enrollment.id, context.rev, context.index)
        effect = effects.EmitEvent(event, self.event, fields, hops)
        return Go("next", f"Emitted {self.event}.{gaps}", effects=(effect,), outputs={"event_id": event}, inputs=inputs)
