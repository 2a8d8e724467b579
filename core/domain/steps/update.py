"""The step that sets fields of the contact or the lead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from core.domain.effects import UpdateRecord
from core.domain.records.fields import validate_fields
from core.domain.steps.base import Context, Decision, Fail, Go, Step, setting
from core.domain.steps.shapes import RecordFields, Scope, Text
from core.domain.workflow.values import Value

RECORDS = ("contact", "lead")


@dataclass(frozen=True, slots=True)
class Update(Step):
    """Sets fields of the contact or the lead."""

    kind: ClassVar = "update"
    summary: ClassVar = "Sets fields of the contact or of their newest lead; null removes one."

    fields: Annotated[dict[str, Value], setting(RecordFields(), "Field paths and their new values.", key="set")]
    record: Annotated[str, setting(Text(choices=RECORDS), "Which record; the contact by default.")] = "contact"

    def check(self, scope: Scope, path: str) -> None:
        """Report fields that the record does not have."""
        RecordFields().check(self.record, self.fields, scope, f"{path}.set")

    def begin(self, context: Context) -> Decision:
        """Compute the values; one that cannot be computed leaves its field as it is, and the reason says so."""
        facts = context.facts.contact if self.record == "contact" else context.facts.lead
        if facts is None:
            return Go("next", "There is no lead to update.", "skipped", inputs={"lead.id": None})
        chosen: dict[str, Any] = {}
        inputs: dict[str, Any] = {}
        left: list[str] = []
        for name, value in self.fields.items():
            computed = value.compute(context.values)
            inputs |= computed.inputs
            if computed.errors:
                return Fail(f"The value of {name} could not be made: {computed.errors[0]}.", inputs)
            if computed.empty:
                left.append(f"{name} stays as it is: {computed.gaps[0]}.")
            else:
                chosen[name] = computed.value
        accepted, problems = validate_fields(self.record, chosen, "")
        if problems:
            return Fail(f"{problems[0].field}: {problems[0].message}.", inputs)
        if not accepted:
            return Go("next", " ".join(["Nothing to set.", *left]), "skipped", inputs=inputs)
        reason = " ".join([f"Set {', '.join(accepted)} of the {self.record}.", *left])
        return Go("next", reason, effects=(UpdateRecord(facts.id, self.record, accepted),), inputs=inputs)
