"""The step that sets fields of the contact, their newest lead or their company."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from core.domain.effects import UpdateRecord
from core.domain.records.fields import validate_fields
from core.domain.steps.base import Context, Decision, Fail, Go, Step, setting
from core.domain.steps.shapes import RecordFields, Scope, Text
from core.domain.workflow.values import Value

RECORDS = ("contact", "lead")
"""The records that are the contact's own; a company is shared with others."""


@dataclass(frozen=True, slots=True)
class Update(Step):
    """Sets fields of the contact, their newest lead or their company."""

    kind: ClassVar = "update"
    summary: ClassVar = "Sets fields of the contact, of their newest lead or of their company; null removes one."

    fields: Annotated[dict[str, Value], setting(RecordFields(), "Field paths and their new values.", key="set")]
    record: Annotated[str, setting(Text(choices=(*RECORDS, "company")), "Which record; the contact by default.")] = (
        "contact"
    )

    def check(self, scope: Scope, path: str) -> None:
        """Report fields that the record does not have."""
        RecordFields().check(self.record, self.fields, scope, f"{path}.set")

    def needs(self) -> frozenset[str]:
        """Return the company where it is the company that changes."""
        return frozenset({"company"}) if self.record == "company" else frozenset()

    def begin(self, context: Context) -> Decision:
        """Compute the values; one that cannot be computed leaves its field as it is, and the reason says so."""
        known = context.facts
        facts = {"contact": known.contact, "lead": known.lead, "company": known.company}[self.record]
        if facts is None:
            return Go("next", f"There is no {self.record} to update.", "skipped", inputs={f"{self.record}.id": None})
        chosen: dict[str, Any] = {}
        inputs: dict[str, Any] = {}
        left: list[str] = []
        for name, value in self.fields.items():
            computed = value.compute(context.values)
            inputs |= computed.inputs
            if computed.errors:
                reason = f"The value of {name} could not be made: {computed.errors[0]}."
                return Fail(reason, inputs, "TEMPLATE_FAILED")
            if computed.empty:
                left.append(f"{name} stays as it is: {computed.gaps[0]}.")
            else:
                chosen[name] = computed.value
        accepted, problems = validate_fields(self.record, chosen, "")
        if problems:
            return Fail(f"{problems[0].field}: {problems[0].message}.", inputs, "BAD_VALUE")
        if not accepted:
            return Go("next", " ".join(["Nothing to set.", *left]), "skipped", inputs=inputs)
        reason = " ".join([f"Set {', '.join(accepted)} of the {self.record}.", *left])
        return Go("next", reason, effects=(UpdateRecord(facts.id, self.record, accepted),), inputs=inputs)
