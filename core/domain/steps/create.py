"""The step that makes a record about the contact, such as a lead or a task, or a company."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from core.domain.articles import with_article
from core.domain.effects import CreateRecord
from core.domain.frozen import frozen
from core.domain.names import RECORD_PREFIXES
from core.domain.records import pipelines
from core.domain.records.fields import missing_fields, validate_fields
from core.domain.steps.base import Context, Decision, Fail, Go, Step, setting
from core.domain.steps.record_shapes import check_place
from core.domain.steps.shapes import RecordFields, Scope, Text
from core.domain.workflow.values import Value

RECORDS = ("lead", "company", "opportunity", "activity", "task", "note")
"""Contacts come in with events and enrollments, where it is known whether they are there already."""


@frozen
class Create(Step):
    """Makes a record about the contact, such as a lead or a task, or a company."""

    kind: ClassVar = "create"
    summary: ClassVar = (
        "Makes a new lead of the contact, which is then the one in hand; an opportunity, activity, task or note about "
        "the contact; or a company."
    )
    outputs: ClassVar = {"record_id": "string"}

    fields: Annotated[dict[str, Value], setting(RecordFields(), "Field paths and their values.", key="set")]
    record: Annotated[str, setting(Text(choices=RECORDS), "Which kind of record; a lead by default.")] = "lead"

    def needs(self) -> frozenset[str]:
        """Return the pipelines for an opportunity, which stands in a stage from its beginning."""
        return frozenset({"pipelines"}) if self.record == "opportunity" else frozenset()

    def check(self, scope: Scope, path: str) -> None:
        """Report fields that the record does not have, and those it lacks."""
        RecordFields().check(self.record, self.fields, scope, f"{path}.set")
        if self.record == "opportunity":
            check_place(self.fields, scope, f"{path}.set")
        if self.record != "company" and "contact_id" in self.fields:
            message = f"{with_article(f'new {self.record}')} belongs to the contact who is enrolled"
            scope.add(f"{path}.set.contact_id", "READ_ONLY_FIELD", message, "Leave it out.")
        given: dict[str, Any] = dict.fromkeys(self.fields, True)
        scope.problems.extend(missing_fields(self.record, {"contact_id": True, **given}, f"{path}.set"))

    def begin(self, context: Context) -> Decision:
        """Compute the values and make the record; a value that is not known leaves its field out."""
        chosen: dict[str, Any] = {} if self.record == "company" else {"contact_id": context.enrollment.contact_id}
        inputs: dict[str, Any] = {}
        gaps: list[str] = []
        for name, value in self.fields.items():
            computed = value.compute(context.values)
            inputs |= computed.inputs
            if computed.errors:
                reason = f"The value of {name} could not be made: {computed.errors[0]}."
                return Fail(reason, inputs, "TEMPLATE_FAILED")
            if computed.empty:
                gaps.append(f"{name} is left out: {computed.gaps[0]}.")
            else:
                chosen[name] = computed.value
        accepted, problems = validate_fields(self.record, chosen, "")
        if problems:
            return Fail(f"{problems[0].field}: {problems[0].message}.", inputs, "BAD_VALUE")
        accepted = {name: value for name, value in accepted.items() if value is not None}
        missing = missing_fields(self.record, accepted, "")
        if missing:
            reason = f"No {self.record} was made: it needs {missing[0].field}."
            return Go("next", " ".join([reason, *gaps]), "skipped", inputs=inputs)
        if self.record == "opportunity" and context.facts.pipelines:
            accepted = pipelines.placed(context.facts.pipelines, {}, accepted)
        record = context.name(RECORD_PREFIXES[self.record])
        effect = CreateRecord(record, self.record, accepted)
        reason = " ".join([f"Made the {self.record} {record}.", *gaps])
        return Go("next", reason, effects=(effect,), outputs={"record_id": record}, inputs=inputs)
