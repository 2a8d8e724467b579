"""The step that sends an event to the organization's webhook endpoints."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from core.domain.effects import Emit
from core.domain.enrollment import DeliveryEnded, Stimulus, Waiting
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.shapes import EndpointId, EventType, Flag, Values
from core.domain.workflow.values import Value

LARGEST_DATA = 200_000
"""In bytes of JSON; the message around it must fit its own limit."""


@dataclass(frozen=True, slots=True)
class Webhook(Step):
    """Sends an event to the organization's webhook endpoints."""

    kind: ClassVar = "webhook"
    summary: ClassVar = "Sends a signed event to webhook endpoints, and waits for the outcome if asked to."
    exits: ClassVar = ("next", "delivered", "failed")
    waits: ClassVar = True
    outputs: ClassVar = {"message_id": "string", "delivered": "boolean", "status_code": "integer"}

    event_type: Annotated[str, setting(EventType(), "Type of the event, such as nurture.hot.")]
    data: Annotated[Value | None, setting(Values(), "What it says; without it, which enrollment this is.")] = None
    endpoint: Annotated[str, setting(EndpointId(), "Only this endpoint; without it, all that want the type.")] = ""
    awaited: Annotated[bool, setting(Flag(), "Wait for the outcome; leave by delivered or failed.", key="await")] = (
        False
    )

    def its_exits(self) -> tuple[str, ...]:
        """Return the two outcomes when it waits for them."""
        return ("delivered", "failed") if self.awaited else ("next",)

    def holds(self) -> bool:
        """Tell whether it waits for the outcome."""
        return self.awaited

    def begin(self, context: Context) -> Decision:
        """Hand the message over; it leaves once this decision is stored."""
        enrollment = context.enrollment
        inputs: Any = {}
        data: dict[str, Any] = {
            "enrollment_id": enrollment.id,
            "workflow_id": enrollment.workflow_id,
            "contact_id": enrollment.contact_id,
        }
        gaps = ""
        if self.data is not None:
            computed = self.data.compute(context.values)
            if computed.errors:
                return Fail(f"The data of {self.event_type} could not be made: {computed.errors[0]}.", computed.inputs)
            data, inputs = computed.value, computed.inputs
            gaps = f" Left empty: {'; '.join(computed.gaps)}." if computed.gaps else ""
        if len(json.dumps(data, ensure_ascii=False).encode(errors="replace")) > LARGEST_DATA:
            return Fail(f"The data of {self.event_type} has more than {LARGEST_DATA:,} bytes.", inputs)
        message = context.name("msg")
        effect = Emit(message, self.event_type, data, self.endpoint or None, self.awaited)
        where = f" to {self.endpoint}" if self.endpoint else ""
        if self.awaited:
            reason = f"Sent {self.event_type}{where}; waits for the outcome.{gaps}"
            return Stay(Waiting("delivery", message, context.now), reason, effects=(effect,), inputs=inputs)
        outputs = {"message_id": message}
        return Go("next", f"Sent {self.event_type}{where}.{gaps}", effects=(effect,), outputs=outputs, inputs=inputs)

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Go on when the delivery of this very message has ended."""
        waiting = context.enrollment.waiting
        if not isinstance(stimulus, DeliveryEnded) or waiting is None or stimulus.message_id != waiting.subject:
            return None
        outputs = {
            "message_id": stimulus.message_id,
            "delivered": stimulus.delivered,
            "status_code": stimulus.status_code,
        }
        status = f" with status {stimulus.status_code}" if stimulus.status_code else ""
        if stimulus.delivered:
            return Go("delivered", f"{self.event_type} was delivered{status}.", outputs=outputs)
        return Go("failed", f"{self.event_type} was not delivered{status}: {stimulus.outcome}.", outputs=outputs)
