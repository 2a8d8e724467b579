"""The step that sends an event to the organization's webhook endpoints, and may wait for what they answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from core.domain.effects import Emit
from core.domain.enrollment import DeliveryEnded, Stimulus, TimerFired, Waiting
from core.domain.frozen import frozen
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.shapes import AnswerSchema, Duration, EndpointId, EventType, Flag, Scope, Values
from core.domain.workflow import durations
from core.domain.workflow.json_schemas import JsonSchema
from core.domain.workflow.literal_misfits import Later, misfits
from core.domain.workflow.values import Value

LARGEST_DATA = 200_000
"""In bytes of JSON; the message around it must fit its own limit."""

LARGEST_ANSWER = 65_536
"""In bytes of JSON; what an endpoint answers stays with the enrollment."""

DEEPEST_ANSWER = 32

_AN_ID = Later(frozenset({"string"}), "text")
_BY_ITSELF = {"enrollment_id": _AN_ID, "workflow_id": _AN_ID, "contact_id": _AN_ID}
"""What a step without data sends."""

_ONLY_AWAITED = {"properties": {"await": {"const": True}}, "required": ["await"]}


@frozen
class Webhook(Step):
    """Sends an event to the organization's webhook endpoints."""

    kind: ClassVar = "webhook"
    summary: ClassVar = "Sends a signed event to webhook endpoints; if asked to, waits for the outcome and the answer."
    exits: ClassVar = ("next", "delivered", "failed", "timeout")
    undone: ClassVar = "failed"
    fallbacks: ClassVar = {"timeout": "failed"}
    waits: ClassVar = True
    outward: ClassVar = True
    outputs: ClassVar = {"message_id": "string", "delivered": "boolean", "status_code": "integer", "answer": "map"}
    timing: ClassVar = ("timeout",)
    constraints: ClassVar[Mapping[str, Any]] = {
        "dependentSchemas": {"timeout": _ONLY_AWAITED, "answer_schema": _ONLY_AWAITED}
    }

    event_type: Annotated[str, setting(EventType(), "Type of the event, such as nurture.hot.")]
    data: Annotated[Value | None, setting(Values(), "What it says; without it, which enrollment this is.")] = None
    endpoint: Annotated[str, setting(EndpointId(), "Only this endpoint; without it, all that want the type.")] = ""
    awaited: Annotated[bool, setting(Flag(), "Wait for the outcome; leave by delivered or failed.", key="await")] = (
        False
    )
    timeout: Annotated[
        timedelta | None, setting(Duration(), "How long to wait for the outcome; without one, until there is one.")
    ] = None
    answer_schema: Annotated[
        JsonSchema | None, setting(AnswerSchema(), "What the answer must look like; another one fails the step.")
    ] = None

    def its_exits(self) -> tuple[str, ...]:
        """Return the outcomes when it waits for them."""
        if not self.awaited:
            return ("next",)
        return ("delivered", "failed", "timeout") if self.timeout else ("delivered", "failed")

    def longest(self) -> timedelta | None:
        """Return its timeout."""
        return self.timeout

    def holds(self) -> bool:
        """Tell whether it waits for the outcome."""
        return self.awaited

    def check(self, scope: Scope, path: str) -> None:
        """Report what only a step that waits can have, and data that can never fit its type."""
        for key, given in (("timeout", self.timeout), ("answer_schema", self.answer_schema)):
            if given is not None and not self.awaited:
                message = f"{key} matters only where the step waits for the outcome"
                scope.add(f"{path}.{key}", "CONFLICT", message, "Write await: true, or remove it.")
        declared = scope.lookups.event_schemas.get(self.event_type)
        if declared is not None:
            hint = f"See the schema of {self.event_type} in the event types, or declare a new version of it."
            data = self.data if self.data is not None else _BY_ITSELF
            for place, why in misfits(declared, data):
                scope.add(f"{path}.data{place}", "SCHEMA_MISFIT", f"{self.event_type}: {why}", hint)

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
            data, inputs = computed.value, computed.inputs
            if computed.errors:
                reason = f"The data of {self.event_type} could not be made: {computed.errors[0]}."
                return Fail(reason, inputs, "TEMPLATE_FAILED")
            gaps = f" Left empty: {'; '.join(computed.gaps)}." if computed.gaps else ""
        if _bytes(data) > LARGEST_DATA:
            return Fail(f"The data of {self.event_type} has more than {LARGEST_DATA:,} bytes.", inputs, "TOO_LARGE")
        message = context.name("msg")
        effect = Emit(message, self.event_type, data, self.endpoint or None, self.awaited)
        where = f" to {self.endpoint}" if self.endpoint else ""
        if self.awaited:
            until = context.now + self.timeout if self.timeout else None
            limit = f" for {durations.speak(self.timeout)} at most" if self.timeout else ""
            reason = f"Sent {self.event_type}{where}; waits for the outcome{limit}.{gaps}"
            return Stay(Waiting("delivery", message, context.now), reason, until, effects=(effect,), inputs=inputs)
        outputs = {"message_id": message}
        return Go("next", f"Sent {self.event_type}{where}.{gaps}", effects=(effect,), outputs=outputs, inputs=inputs)

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Go on when the delivery of this very message has ended, or took too long."""
        waiting = context.enrollment.waiting
        message = waiting.subject if waiting is not None else ""
        match stimulus:
            case DeliveryEnded() if message and stimulus.message_id == message:
                return self._ended(stimulus)
            case TimerFired() if self.timeout is not None:
                reason = f"No outcome of {self.event_type} within {durations.speak(self.timeout)}; it may still arrive."
                outputs = {"message_id": message, "delivered": False}
                # Not to be tried again: the delivery goes on by itself, and there would be two.
                return Fail(reason, {}, "TIMEOUT", exit="timeout", outputs=outputs)
            case _:
                return None

    def _ended(self, ended: DeliveryEnded) -> Decision:
        outputs: dict[str, Any] = {
            "message_id": ended.message_id,
            "delivered": ended.delivered,
            "status_code": ended.status_code,
        }
        status = f" with status {ended.status_code}" if ended.status_code else ""
        if not ended.delivered:
            reason = f"{self.event_type} was not delivered{status}: {ended.outcome}."
            return Fail(reason, {}, "NOT_DELIVERED", retryable=True, exit="failed", outputs=outputs)
        oversize = _oversize(ended.answer)
        if self.answer_schema is not None:
            misfit = oversize or self.answer_schema.misfit(ended.answer)
            if misfit:
                reason = f"The answer to {self.event_type} does not fit its schema: {misfit}."
                return Fail(reason, {"status_code": ended.status_code}, "BAD_ANSWER", retryable=True)
        reason = f"{self.event_type} was delivered{status}."
        if oversize:
            reason += f" Its answer is not kept: {oversize}."
        elif ended.answer is not None:
            kept = ended.answer if isinstance(ended.answer, Mapping) else {"value": ended.answer}
            outputs["answer"] = kept
        return Go("delivered", reason, outputs=outputs)


def _bytes(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode(errors="replace"))


def _oversize(answer: Any) -> str:
    """Return why an answer is more than an enrollment keeps, as a clause; empty when it is not."""
    level, depth = [answer], 0
    while level:
        level = [
            inner
            for item in level
            if isinstance(item, Mapping | list)
            for inner in (item.values() if isinstance(item, Mapping) else item)
        ]
        depth += 1
        if depth > DEEPEST_ANSWER:
            return f"it is nested deeper than {DEEPEST_ANSWER}"
    return f"it has more than {LARGEST_ANSWER:,} bytes" if _bytes(answer) > LARGEST_ANSWER else ""
