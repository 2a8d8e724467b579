"""The step that hands a piece of reasoning to an agent and waits for the answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from core.domain.effects import CancelTask, CreateTask
from core.domain.enrollment import Stimulus, TaskAnswered, TimerFired, Waiting
from core.domain.frozen import frozen
from core.domain.steps.base import Context, Decision, Fail, Go, Stay, Step, setting
from core.domain.steps.shapes import AnswerSchema, Duration, LiquidText, Values
from core.domain.workflow import durations
from core.domain.workflow.expressions import Kind
from core.domain.workflow.json_schemas import JsonSchema
from core.domain.workflow.templates import Template
from core.domain.workflow.values import Value

LONGEST_TITLE = 300
TIMEOUT = timedelta(days=3)
MOST_OUTPUTS = 50
"""Properties of an answer that expressions can name; the others are in `output`."""

_INSTRUCTIONS = LiquidText(escape="quoted")
"""An agent follows them: what a contact wrote stands in them as a quoted text, which gives no orders."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,62}")
_KINDS: Mapping[str, Kind] = {
    "string": "string",
    "integer": "integer",
    "number": "number",
    "boolean": "boolean",
    "array": "list",
    "object": "map",
}


@frozen
class AgentTask(Step):
    """Hands a piece of reasoning to an agent and waits for the answer."""

    kind: ClassVar = "agent_task"
    summary: ClassVar = "Hands a piece of work to an agent and holds the contact until it is answered, or in time."
    exits: ClassVar = ("answered", "timeout")
    undone: ClassVar = "timeout"
    fallbacks: ClassVar = {"timeout": "answered"}
    waits: ClassVar = True
    outward: ClassVar = True
    timing: ClassVar = ("timeout", "output_schema")
    outputs: ClassVar = {"answered": "boolean", "output": "any", "agent": "string"}

    subject: Annotated[Template, setting(LiquidText(LONGEST_TITLE), "What is to be done, in one line.", key="title")]
    output_schema: Annotated[JsonSchema, setting(AnswerSchema(), "JSON Schema that the answer must fit.")]
    instructions: Annotated[Template | None, setting(_INSTRUCTIONS, "How to do it; values come quoted.")] = None
    input: Annotated[Value | None, setting(Values(), "What the agent needs to know.")] = None
    timeout: Annotated[timedelta, setting(Duration(), "How long to wait; three days by default.")] = TIMEOUT

    def longest(self) -> timedelta | None:
        """Return its timeout."""
        return self.timeout

    @classmethod
    def its_outputs(cls, config: Mapping[str, Any]) -> Mapping[str, Kind]:
        """Return the properties of the answer as well, so that `steps.<id>.<property>` is checked."""
        schema = config.get("output_schema")
        properties = schema.get("properties") if isinstance(schema, Mapping) else None
        if not isinstance(properties, Mapping):
            return cls.outputs
        named = [name for name in properties if isinstance(name, str) and _NAME.fullmatch(name)]
        found: dict[str, Kind] = {name: _kind(properties[name]) for name in named[:MOST_OUTPUTS]}
        return {**found, **cls.outputs}

    def begin(self, context: Context) -> Decision:
        """Offer the task to whoever asks for work."""
        texts: dict[str, str] = {}
        inputs: dict[str, Any] = {}
        for name, template in (("title", self.subject), ("instructions", self.instructions)):
            if template is None:
                continue
            rendered = template.render(context.values)
            inputs |= rendered.inputs
            if rendered.text is None:
                return Fail(f"The {name} could not be made: {rendered.error}.", inputs, "TEMPLATE_FAILED")
            texts[name] = rendered.text
        given: dict[str, Any] = {}
        if self.input is not None:
            computed = self.input.compute(context.values)
            inputs |= computed.inputs
            if computed.errors:
                return Fail(f"The input could not be made: {computed.errors[0]}.", inputs, "TEMPLATE_FAILED")
            given = computed.value
        until = context.now + self.timeout
        title = " ".join(texts["title"].split())[:LONGEST_TITLE]
        instructions = texts.get("instructions", "")
        effect = CreateTask(context.name("tsk"), title, instructions, given, self.output_schema.written, until)
        reason = f"Waits for an agent to do: {title}, {durations.speak(self.timeout)} at most."
        return Stay(Waiting("task", effect.id, context.now), reason, until, effects=(effect,), inputs=inputs)

    def on(self, stimulus: Stimulus, context: Context) -> Decision | None:
        """Go on with the answer to this very task, or withdraw it at the timeout."""
        waiting = context.enrollment.waiting
        asked = waiting.subject if waiting is not None else ""
        match stimulus:
            case TaskAnswered() if stimulus.task_id == asked:
                return self._answered(stimulus)
            case TimerFired():
                outputs = {"answered": False, "output": None, "agent": ""}
                reason = f"No agent answered within {durations.speak(self.timeout)}."
                return Go("timeout", reason, effects=(CancelTask(asked),), outputs=outputs)
            case _:
                return None

    def _answered(self, answer: TaskAnswered) -> Decision:
        misfit = self.output_schema.misfit(answer.output)
        if misfit:  # it was checked when it came in; what comes another way is no better
            return Fail(f"The answer of {answer.agent} does not fit: {misfit}.", failure="BAD_ANSWER")
        known = self.its_outputs({"output_schema": self.output_schema.written})
        given = answer.output if isinstance(answer.output, Mapping) else {}
        outputs = {name: value for name, value in given.items() if name in known}
        outputs |= {"answered": True, "output": answer.output, "agent": answer.agent}
        return Go("answered", f"{answer.agent} answered.", outputs=outputs, inputs={"task.id": answer.task_id})


def _kind(schema: Any) -> Kind:
    """Return what a property holds, as far as its schema says so in one word; null beside it changes nothing."""
    said = schema.get("type") if isinstance(schema, Mapping) else None
    kinds = [one for one in said if one != "null"] if isinstance(said, list) else [said]
    return _KINDS.get(kinds[0], "any") if len(kinds) == 1 and isinstance(kinds[0], str) else "any"
