"""The step that sets fields of the contact, or of another record that the enrollment has in hand."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from core.domain.effects import UpdateRecord
from core.domain.frozen import frozen
from core.domain.records import pipelines
from core.domain.records.fields import validate_fields
from core.domain.records.standard import KNOWN_TO_WORKFLOWS
from core.domain.steps.base import Context, Decision, Fail, Go, Step, setting
from core.domain.steps.record_shapes import RecordType, check_place
from core.domain.steps.shapes import RecordFields, Scope
from core.domain.workflow.values import Value


@frozen
class Update(Step):
    """Sets fields of the record in hand of a type, such as the contact, their newest lead or an opportunity."""

    kind: ClassVar = "update"
    summary: ClassVar = (
        "Sets fields of the contact, their newest lead, their company, or the opportunity or own object that the "
        "enrollment is about; null removes one."
    )

    fields: Annotated[dict[str, Value], setting(RecordFields(), "Field paths and their new values.", key="set")]
    record: Annotated[str, setting(RecordType(KNOWN_TO_WORKFLOWS), "Which record; the contact by default.")] = "contact"

    def check(self, scope: Scope, path: str) -> None:
        """Report fields that the record does not have."""
        RecordFields().check(self.record, self.fields, scope, f"{path}.set")
        if self.record == "opportunity":
            check_place(self.fields, scope, f"{path}.set")

    def needs(self) -> frozenset[str]:
        """Return the company where it is the company that changes, and pipelines where a stage does."""
        if self.record == "opportunity" and not pipelines.PLACE.isdisjoint(self.fields):
            return frozenset({"pipelines"})
        return frozenset({"company"}) if self.record == "company" else frozenset()

    def records(self) -> frozenset[str]:
        """Return the type of the record."""
        return frozenset({self.record})

    def begin(self, context: Context) -> Decision:
        """Compute the values; one that cannot be computed leaves its field as it is, and the reason says so."""
        facts = context.facts.in_hand(self.record, context.enrollment.about)
        called = self.record.replace("_", " ")
        if facts is None:
            return Go("next", f"There is no {called} to update.", "skipped", inputs={f"{self.record}.id": None})
        chosen: dict[str, Any] = {}
        inputs: dict[str, Any] = {}
        left: list[str] = []
        values = context.values
        for name, value in self.fields.items():
            computed = value.compute(values)
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
        told = ", ".join(accepted)
        if self.record == "opportunity" and context.facts.pipelines and not pipelines.PLACE.isdisjoint(accepted):
            accepted, problems = pipelines.place(context.facts.pipelines, facts.fields, accepted, "")
            if problems:
                return Fail(f"{problems[0].field}: {problems[0].message}.", inputs, "BAD_VALUE")
        reason = " ".join([f"Set {told} of the {called}.", *left])
        return Go("next", reason, effects=(UpdateRecord(facts.id, self.record, accepted),), inputs=inputs)
