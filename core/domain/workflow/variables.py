"""The names that expressions and templates of a workflow may use, and how each is looked up when a decision is made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any

from core.domain.enrollment import Enrollment, EventFacts, Facts, RecordFacts
from core.domain.frozen import frozen
from core.domain.records.standard import KNOWN_TO_WORKFLOWS, OBJECT_FIELDS, RECORD_TYPES, STANDARD_FIELDS
from core.domain.workflow.expressions import Environment, Kind

EVENT: Mapping[str, Kind] = {
    "event.id": "string",
    "event.name": "string",
    "event.type": "string",
    "event.occurred_at": "instant",
    "event.fields": "map",
}
"""The event that enrolled the contact, or last woke the enrollment."""

CHANGE: Mapping[str, Kind] = {
    "change.record_type": "string",
    "change.fields": "list",
    "before": "map",
}
"""The change of a record that a trigger looks at: which fields changed, and what they held before."""

_ABOUT: Mapping[str, Kind] = {
    "now": "instant",
    "enrollment.id": "string",
    "enrollment.key": "string",
    "enrollment.actor": "string",
    "enrollment.entered_at": "instant",
    "workflow.id": "string",
    "workflow.version": "integer",
}

ALWAYS_KNOWN = frozenset({"now", "contact.id", "workflow.id", "workflow.version"}) | {
    f"enrollment.{name}" for name in ("id", "actor", "entered_at")
}
"""What has a value for every enrollment."""

NO_RECORDS = frozenset({"before", "change", "enrollment", "event", "now", "steps", "vars", "workflow"})
"""What names begin with that are of no record."""
WORDS = frozenset(
    "as break const continue else false for function if import in let loop namespace null package return true var void "
    "while".split()
)
"""Words of the language of expressions: nothing can be called so."""

Custom = Mapping[str, Mapping[str, Kind]]
"""Record type to its defined own fields, the organization's own types among them; what nobody defined of the others is
in `custom`, a map of anything."""


def record_variables(record_type: str, custom: Mapping[str, Kind] | None = None) -> dict[str, Kind]:
    """Return the names of a record's fields, such as `contact.email`; `custom` declares its own fields."""
    standard = STANDARD_FIELDS.get(record_type, OBJECT_FIELDS)
    fields: dict[str, Kind] = {f"{record_type}.{name}": field.expression_kind for name, field in standard.items()}
    own: dict[str, Kind] = {f"{record_type}.custom.{name}": kind for name, kind in (custom or {}).items()}
    anything: dict[str, Kind] = {f"{record_type}.custom": "map"} if record_type in STANDARD_FIELDS else {}
    return {f"{record_type}.id": "string", **fields, **anything, **own}


def own_types(custom: Custom) -> tuple[str, ...]:
    """Return the organization's own types of records among those with own fields."""
    return tuple(name for name in custom if name not in RECORD_TYPES and name not in NO_RECORDS | WORDS)


def step_environment(
    outputs: Mapping[str, Mapping[str, Kind]],
    *,
    variables: Mapping[str, Kind] | None = None,
    event_fields: Mapping[str, Kind] | None = None,
    custom: Custom | None = None,
) -> Environment:
    """Return what steps may name.

    `outputs` are the declared outputs by step id; `variables` and `event_fields` what the document declares. Where it
    declares nothing, `vars` and `event.fields` are maps of anything.
    """
    return Environment(
        {
            **_records(custom),
            **_event(event_fields),
            **_named("vars", variables),
            **_ABOUT,
            **{f"steps.{step}.{name}": kind for step, declared in outputs.items() for name, kind in declared.items()},
        }
    )


def trigger_environment(
    *,
    variables: Mapping[str, Kind] | None = None,
    event_fields: Mapping[str, Kind] | None = None,
    custom: Custom | None = None,
) -> Environment:
    """Return what the condition of a trigger may name: there is no enrollment yet."""
    return Environment(
        {**_records(custom), **_event(event_fields), **_named("vars", variables), "now": "instant"},
    )


def record_environment(*, custom: Custom | None = None) -> Environment:
    """Return what the condition of a record-change trigger may name, such as `before.tier != lead.tier`."""
    return Environment({**_records(custom), **CHANGE, "now": "instant"})


def _records(custom: Custom | None) -> dict[str, Kind]:
    custom = custom or {}
    known: dict[str, Kind] = {"contact.lists": "list"}
    for record_type in (*KNOWN_TO_WORKFLOWS, *own_types(custom)):
        known |= record_variables(record_type, custom.get(record_type))
    return known


def _event(fields: Mapping[str, Kind] | None) -> dict[str, Kind]:
    return {**{name: kind for name, kind in EVENT.items() if kind != "map"}, **_named("event.fields", fields)}


def _named(prefix: str, declared: Mapping[str, Kind] | None) -> dict[str, Kind]:
    return {f"{prefix}.{name}": kind for name, kind in declared.items()} if declared else {prefix: "map"}


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


@frozen
class RecordChange:
    """A change of a record, as the condition of a trigger sees it."""

    record_type: str
    before: Mapping[str, Any]
    """Path of each changed field, such as `custom.plan`, to what it held before; None for nothing."""

    @property
    def values(self) -> dict[str, Any]:
        """Return it by the names that conditions use."""
        before: dict[str, Any] = {}
        for path, value in self.before.items():
            *parents, last = path.split(".")
            inner = before
            for name in parents:
                held = inner.get(name)
                inner[name] = inner = dict(held) if isinstance(held, Mapping) else {}
            inner[last] = value
        return {"change.record_type": self.record_type, "change.fields": sorted(self.before), "before": before}


@frozen
class Known(Mapping[str, Any]):
    """Every variable by its dotted name, looked up only when asked for; a name without a value gives None."""

    facts: Facts
    now: datetime
    event: Mapping[str, Any] | None
    enrollment: Enrollment | None = None
    variables: Mapping[str, Any] | None = None
    """Values given at entry, while there is no enrollment yet."""
    change: RecordChange | None = None
    """The change of a record that is looked at; only for triggers."""
    about: Mapping[str, str] | None = None
    """The record whose change would enroll, id by type, while there is no enrollment yet."""

    def in_hand(self, record_type: str) -> RecordFacts | None:
        """Return the opportunity or own object that names of its type are about."""
        about = self.about if self.enrollment is None else self.enrollment.about
        return self.facts.in_hand(record_type, about or {})

    def __getitem__(self, name: str) -> Any:
        return _reader(name)(self)

    def get(self, name: str, default: Any = None) -> Any:
        """Return the value of a name; None when it has none, whatever the default."""
        return _reader(name)(self)

    def __iter__(self) -> Iterator[str]:
        return iter(())  # the names are open; expressions ask for those they mention

    def __len__(self) -> int:
        return 0


_Reader = Callable[[Known], Any]


@lru_cache(maxsize=8192)
def _reader(name: str) -> _Reader:
    """Return how a name is looked up; worked out once a name, because the engine asks for the same ones all day."""
    root, _, rest = name.partition(".")
    match root:
        case "contact" if rest == "lists":
            return lambda known: sorted(known.facts.lists)
        case "contact":
            read = _of_record(rest)
            return lambda known: read(known.facts.contact)
        case "lead":
            read = _of_record(rest)
            return lambda known: read(known.facts.lead)
        case "company":
            read = _of_record(rest)
            return lambda known: read(known.facts.company)
        case "event":
            path = rest.split(".")
            return lambda known: _dig(known.event, path)
        case "now":
            return lambda known: known.now
        case "before" | "change":
            return lambda known: None if known.change is None else known.change.values.get(name)
        case "vars":
            path = rest.split(".") if rest else []
            return lambda known: _dig(known.variables if known.enrollment is None else known.enrollment.variables, path)
        case "steps" | "enrollment" | "workflow":
            of_enrollment = _of_enrollment(root, rest)
            return lambda known: None if known.enrollment is None else of_enrollment(known.enrollment)
        case _:
            read = _of_record(rest)
            return lambda known: read(known.in_hand(root))


def _of_record(rest: str) -> Callable[[RecordFacts | None], Any]:
    if rest == "id":
        return lambda record: None if record is None else record.id
    if "." not in rest:
        return lambda record: None if record is None else record.fields.get(rest)
    path = rest.split(".")
    return lambda record: None if record is None else _dig(record.fields, path)


def _of_enrollment(root: str, rest: str) -> Callable[[Enrollment], Any]:
    match root, rest:
        case "steps", _:
            step, _, output = rest.partition(".")
            return lambda enrollment: enrollment.outputs.get(step, {}).get(output)
        case "enrollment", "id" | "key" | "actor" | "entered_at":
            return lambda enrollment: getattr(enrollment, rest)
        case "workflow", "id":
            return lambda enrollment: enrollment.workflow_id
        case "workflow", "version":
            return lambda enrollment: enrollment.version
        case _:
            return lambda enrollment: None


def _dig(value: Any, path: list[str]) -> Any:
    for name in path:
        if type(value) is not dict and not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value
