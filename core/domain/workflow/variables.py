"""The names that expressions and templates of a workflow may use, and how each is looked up when a decision is made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from core.domain.enrollment import Enrollment, EventFacts, Facts, RecordFacts
from core.domain.records.fields import STANDARD_FIELDS
from core.domain.workflow.expressions import Environment, Kind

EVENT: Mapping[str, Kind] = {
    "event.id": "string",
    "event.name": "string",
    "event.type": "string",
    "event.occurred_at": "instant",
    "event.fields": "map",
}
"""The event that enrolled the contact, or last woke the enrollment."""

_ABOUT: Mapping[str, Kind] = {
    "vars": "map",
    "now": "instant",
    "enrollment.id": "string",
    "enrollment.key": "string",
    "enrollment.entered_at": "instant",
    "workflow.id": "string",
    "workflow.version": "integer",
}


def record_variables(record_type: str) -> dict[str, Kind]:
    """Return the names of a record's fields, such as `contact.email`."""
    fields: dict[str, Kind] = {
        f"{record_type}.{name}": field.kind for name, field in STANDARD_FIELDS[record_type].items()
    }
    return {f"{record_type}.id": "string", **fields, f"{record_type}.custom": "map"}


def step_environment(outputs: Mapping[str, Mapping[str, Kind]]) -> Environment:
    """Return what steps may name; `outputs` are the declared outputs by step id."""
    return Environment(
        {
            **record_variables("contact"),
            **record_variables("lead"),
            **EVENT,
            **_ABOUT,
            **{f"steps.{step}.{name}": kind for step, declared in outputs.items() for name, kind in declared.items()},
        }
    )


def trigger_environment() -> Environment:
    """Return what the condition of a trigger may name: there is no enrollment yet."""
    return Environment({**record_variables("contact"), **record_variables("lead"), **EVENT, "now": "instant"})


def event_values(event: EventFacts) -> dict[str, Any]:
    """Return an event as an enrollment keeps it."""
    return {
        "id": event.id,
        "name": event.name,
        "type": event.type,
        "fields": dict(event.fields),
        "occurred_at": event.occurred_at.isoformat(),
        "received_at": event.received_at.isoformat(),
    }


@dataclass(frozen=True, slots=True)
class Known(Mapping[str, Any]):
    """Every variable by its dotted name, looked up only when asked for; a name without a value gives None."""

    facts: Facts
    now: datetime
    event: Mapping[str, Any] | None
    enrollment: Enrollment | None = None

    def __getitem__(self, name: str) -> Any:
        root, _, rest = name.partition(".")
        match root:
            case "contact":
                return _field(self.facts.contact, rest)
            case "lead":
                return _field(self.facts.lead, rest)
            case "event":
                return None if self.event is None else self.event.get(rest)
            case "now":
                return self.now
            case _:
                return None if self.enrollment is None else _of_enrollment(self.enrollment, root, rest)

    def __iter__(self) -> Iterator[str]:
        return iter(())  # the names are open; expressions ask for those they mention

    def __len__(self) -> int:
        return 0


def _field(record: RecordFacts | None, name: str) -> Any:
    if record is None:
        return None
    return record.id if name == "id" else record.fields.get(name)


def _of_enrollment(enrollment: Enrollment, root: str, rest: str) -> Any:
    match root:
        case "vars":
            return enrollment.variables
        case "steps":
            step, _, output = rest.partition(".")
            return enrollment.outputs.get(step, {}).get(output)
        case "enrollment":
            return {"id": enrollment.id, "key": enrollment.key, "entered_at": enrollment.entered_at}.get(rest)
        case "workflow":
            return {"id": enrollment.workflow_id, "version": enrollment.version}.get(rest)
        case _:
            return None
