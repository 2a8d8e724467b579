"""The JSON Schema of whole documents, so that editors complete and check them; made from what the compiler reads by.

It says what a document looks like. What only the compiler can tell (expressions, targets, loops, what exists) is not in
it: what compiles fits the schema, and what fits the schema may still have problems. Keys that are left empty count as
absent to the compiler; the schema asks for a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from core.domain import steps
from core.domain.steps import base
from core.domain.steps.outward_shapes import LIST_NAME
from core.domain.steps.shapes import IDENTIFIER, Condition, Duration, EventName
from core.domain.workflow import calendar, frequency, head, quiet_hours, triggers
from core.domain.workflow.compile import MOST_STEPS
from core.domain.workflow.document import END, REENTRY
from core.domain.workflow.wiring import ON_ERROR_SCHEMA, RETRY_SCHEMA

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_CEL = {**Condition().schema(), "description": 'A CEL expression, such as lead.tier == "A".'}
_TARGET = {"type": "string", "minLength": 1, "description": f"The id of a step, or {END}."}

_OF_TRIGGERS: Mapping[str, str] = {
    "event": "Name of the event that enrolls its contact; with source, only this event of the source.",
    "when": "What must hold besides, in CEL.",
    "key": "What tells enrollments of one contact apart, in CEL; goes before the workflow's own key.",
    "source": "Id or display name of the source whose events enroll, such as an inbound webhook.",
    "record": "The type of the records that are looked at: one of these, or one of your own.",
    "contact": "The field that names the contact who enters; contact_id by default.",
    "on": "created, changed, or either, which it is by default.",
    "fields": "Only changes of these fields count.",
    "segment": "A condition over the records, in CEL; who begins to meet it is enrolled.",
    "schedule": "When the audience is enrolled, in cron's five fields.",
    "cron": "Minute, hour, day of the month, month, weekday; such as 0 9 * * mon.",
    "timezone": "IANA zone; the workflow's by default.",
    "audience": "Which contacts: those that meet the filter, those on the list, or both.",
    "filter": 'A filter on contacts, such as lifecycle_stage = "lead".',
    "list": "Name of a list.",
    "pool": "How many contacts of the audience are enrolled a day, oldest first.",
    "per_day": "Contacts a day.",
    "at": "Local time at which they are enrolled; 09:00 by default.",
    "days": "Weekdays on which contacts are enrolled; every day by default.",
}


def document_schema() -> dict[str, Any]:
    """Return the JSON Schema, draft 2020-12, of a workflow document."""
    return {
        "$schema": DIALECT,
        "title": "Dripstone workflow",
        "description": "A workflow: who comes in, which steps they take, what ends it, and the rules of time.",
        "type": "object",
        "properties": _head(),
        "required": ["steps"],
        "additionalProperties": False,
        "$defs": {
            "cel": _CEL,
            "duration": {**Duration().schema(), "description": "A length of time."},
            "target": _TARGET,
            "event": {**EventName().schema(), "description": "Name of an event, as its source sends it."},
            "rule": _rule(),
            "retry": dict(RETRY_SCHEMA),
            "trigger": _described(triggers.trigger_schema(), _OF_TRIGGERS),
            "step": _step(),
            **{f"step_{kind.kind}": _step_of(kind) for kind in steps.KINDS},
        },
    }


def _ref(name: str, says: str = "") -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}", **({"description": says} if says else {})}


def _head() -> dict[str, Any]:
    """Return the schemas of a document's keys, in the order in which authors write them."""
    return {
        "title": {
            "type": "string",
            "maxLength": head.LONGEST_TITLE,
            "description": "How people call the workflow.",
        },
        "description": {
            "type": "string",
            "maxLength": head.LONGEST_DESCRIPTION,
            "description": "What it is for, and what whoever changes it must know.",
        },
        "timezone": {
            "type": "string",
            "description": "IANA zone of contacts that have none of their own; the organization's by default.",
            "examples": ["Europe/Berlin", "America/New_York"],
        },
        "triggers": {
            "type": "array",
            "maxItems": triggers.MOST_TRIGGERS,
            "items": _ref("trigger"),
            "description": "What enrolls contacts beside a call; each entry is one way in.",
        },
        "entry": _closed(
            "Who may come in, whichever way they come.",
            {
                "when": _ref("cel", "Must hold; everybody may come in by default."),
                "suppress": _ref("cel", "Must not hold."),
                "suppress_lists": {
                    "type": "array",
                    "maxItems": head.MOST_LISTS,
                    "items": {"type": "string", "pattern": f"^{LIST_NAME}$"},
                    "description": "Whoever is on one of these lists stays out.",
                },
            },
        ),
        "reentry": {
            "type": "string",
            "enum": list(REENTRY),
            "description": "When a contact may enter again: never (once, the default), after the last enrollment has "
            "ended, some time after the last entry, or at any time under another key.",
        },
        "reentry_interval": _ref("duration", "With after_interval: how long after the last entry."),
        "key": _ref("cel", "What tells enrollments of one contact apart, such as event.fields.order_id."),
        "variables": _kinds("Values that are given at entry, seen as vars.<name>, and their kinds."),
        "event_fields": _kinds("Fields of the events that come in, seen as event.fields.<name>, and their kinds."),
        "goals": _rules("Whoever reaches one has done what the workflow is for: they leave, and count as converted."),
        "exit_on": _rules("Whoever meets one leaves wherever they stand, such as when they reply or unsubscribe."),
        "calendars": {
            "type": "object",
            "maxProperties": head.MOST_CALENDARS,
            "propertyNames": {"pattern": r"\S"},
            "additionalProperties": {**calendar.calendar_schema(), "description": "When somebody is there."},
            "description": "Business calendars by name, for waits within open hours or counted in them.",
        },
        "quiet_hours": {
            **quiet_hours.quiet_hours_schema(),
            "description": "Local times of the contact in which messages are held until they end.",
        },
        "frequency_caps": {
            **frequency.frequency_caps_schema(),
            "description": "How many messages a contact gets at most, counting those of every workflow.",
        },
        "circuit_breaker": _breaker(),
        "require_default_approval_gate": dict(_GATE),
        "steps": {
            "type": "array",
            "minItems": 1,
            "maxItems": MOST_STEPS,
            "items": _ref("step"),
            "description": "The steps; the first one is the entry, and each leads to the following one unless it says "
            "otherwise.",
        },
    }


def _closed(says: str, properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": says,
        "properties": dict(properties),
        **({"required": list(required)} if required else {}),
        "additionalProperties": False,
    }


_GATE: Mapping[str, Any] = {
    "type": "boolean",
    "description": "Whether publication puts an approval before the first step; what the organization says by default.",
}


def _kinds(says: str) -> dict[str, Any]:
    return {
        "type": "object",
        "maxProperties": head.MOST_DECLARED,
        "propertyNames": {"pattern": f"^{IDENTIFIER}$"},
        "additionalProperties": {"enum": list(head.DECLARABLE)},
        "description": says,
    }


def _rules(says: str) -> dict[str, Any]:
    return {"type": "array", "maxItems": head.MOST_RULES, "items": _ref("rule"), "description": says}


def _rule() -> dict[str, Any]:
    one = _ref("event")
    events = {"anyOf": [one, {"type": "array", "minItems": 1, "items": one}]}
    name = {"type": "string", "minLength": 1, "maxLength": head.LONGEST_TITLE, "description": "How people call it."}
    properties = {
        "name": name,
        "event": {**events, "description": "The event at which it is looked at."},
        "events": {**events, "description": "Several events, each of which will do."},
        "when": _ref("cel", "What must hold; without an event it is looked at on every move and change of records."),
    }
    needs = [{"required": [key]} for key in ("event", "events", "when")]
    return {**_closed("A goal, or a reason to leave.", properties), "anyOf": needs}


def _breaker() -> dict[str, Any]:
    percent = {
        "type": "number",
        "exclusiveMinimum": 0,
        "maximum": 100,
        "description": "Percent of failed steps at which the workflow pauses itself; 10 by default.",
    }
    of_last = {
        "type": "integer",
        "minimum": 10,
        "maximum": 1_000,
        "description": "How many of the last steps are looked at; 50 by default.",
    }
    limits = _closed("How many failures are too many.", {"percent": percent, "of_last": of_last})
    says = "When the workflow pauses itself because too many steps failed; off for never."
    return {"anyOf": [limits, {"enum": ["off", False]}], "description": says}


def _step() -> dict[str, Any]:
    """Return the schema of any step: its kind says which of the others it must fit."""
    kinds = [
        {"if": {"properties": {"kind": {"const": kind.kind}}, "required": ["kind"]}, "then": _ref(f"step_{kind.kind}")}
        for kind in steps.KINDS
    ]
    summaries = "\n".join(f"- {kind.kind}: {kind.summary}" for kind in steps.KINDS)
    kind = {"enum": [kind.kind for kind in steps.KINDS], "description": f"What the step does.\n{summaries}"}
    return {
        "type": "object",
        "description": "One step.",
        "properties": {"id": _ID, "kind": kind},
        "required": ["id", "kind"],
        "allOf": kinds,
    }


_ID = {
    "type": "string",
    "pattern": f"^{IDENTIFIER}$",
    "not": {"const": END},
    "description": "Name of the step, unique in the workflow: expressions and exits use it.",
}


def _step_of(kind: type[base.Step]) -> dict[str, Any]:
    """Return the schema of a step of one kind: what all steps have, and its configuration."""
    config = base.config_schema(kind)
    title = {"type": "string", "maxLength": head.LONGEST_TITLE, "description": "How people call this step."}
    own = {setting.key for setting in base.settings(kind)}
    after: dict[str, Any] = {}
    if {"*", "next"} & {*kind.exits, *kind.optional_exits}:
        after["next"] = _ref(
            "target", f"The step that follows; the next one of the list by default, {END} to complete."
        )
    after |= {
        "exits": _exits(kind),
        "retry": _ref("retry"),
        "on_error": dict(ON_ERROR_SCHEMA),
    }
    properties = {
        "id": _ID,
        "kind": {"const": kind.kind, "description": kind.summary},
        **({} if "title" in own else {"title": title}),
        **{key: schema for key, schema in config["properties"].items() if key in own},
        **after,
    }
    needed = ["id", "kind", *config["required"], *(["exits"] if _always(kind) else [])]
    return {
        **config,
        "description": kind.summary,
        "properties": properties,
        "required": needed,
        **_required_exits_unless(kind),
    }


def _always(kind: type[base.Step]) -> bool:
    """Tell whether some of its exits must be written, however it is configured."""
    return bool(kind.required_exits) and not kind.required_unless


def _required_exits_unless(kind: type[base.Step]) -> dict[str, Any]:
    """Return the part of a schema that asks for exits, where that depends on the configuration."""
    if not kind.required_unless:
        return {}
    spared = [
        {"properties": {key: {"enum": list(values)}}, "required": [key]} for key, values in kind.required_unless.items()
    ]
    asked = {
        "required": ["exits"],
        "properties": {"exits": {"required": list(kind.required_exits), "description": "Where its exits lead."}},
    }
    return {"if": {"not": {"anyOf": spared}}, "then": asked}


def _exits(kind: type[base.Step]) -> dict[str, Any]:
    named = [name for name in (*kind.exits, *kind.optional_exits) if name != "*"]
    says = f"Where its exits lead: {', '.join(named)}{' and those it names' if '*' in kind.exits else ''}."
    return {
        "type": "object",
        "description": says if kind.exits else "It has none.",
        "properties": {name: _ref("target") for name in named},
        **({"required": list(kind.required_exits)} if _always(kind) else {}),
        "additionalProperties": _ref("target") if "*" in kind.exits else False,
    }


def _described(schema: Any, says: Mapping[str, str]) -> Any:
    """Return a schema with a description for each property that has none."""
    match schema:
        case dict():
            found = {key: _described(item, says) for key, item in schema.items()}
            for name, item in _properties(found):
                if name in says and "description" not in item:
                    item["description"] = says[name]
            return found
        case list():
            return [_described(item, says) for item in schema]
        case _:
            return schema


def _properties(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    inner = schema.get("properties")
    if schema.get("type") == "object" and isinstance(inner, dict):
        yield from inner.items()
