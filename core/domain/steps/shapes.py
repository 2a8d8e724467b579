"""The shapes a setting can have: each reads a value, says what is wrong with it, and gives its JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.records import fields as records
from core.domain.records.pipelines import Pipeline
from core.domain.records.schema import STANDARD, Schema
from core.domain.steps.unread import UNREAD
from core.domain.webhooks import event_types
from core.domain.workflow import durations, json_schemas, own_kinds, templates, values
from core.domain.workflow.calendar import Calendar
from core.domain.workflow.escapes import Escape
from core.domain.workflow.expressions import Environment, Expression, fits, spoken
from core.domain.workflow.findings import Findings
from core.domain.workflow.json_schemas import JsonSchema
from core.domain.workflow.own_kinds import OwnKinds
from core.domain.workflow.templates import Template
from core.domain.workflow.values import Value
from core.domain.workflow.variables import Custom

IDENTIFIER = r"[a-z][a-z0-9_]{0,62}"
"""Step ids and case names: expressions name them, so they are identifiers."""

MOST_FIELDS = 100
LONGEST_EVENT_NAME = 200


@frozen
class Lookups:
    """What exists outside the document; None for what is not to be checked."""

    endpoint_ids: frozenset[str] | None = None
    workflow_ids: frozenset[str] | None = None
    model_ids: frozenset[str] | None = None
    member_ids: frozenset[str] | None = None
    routing_ids: frozenset[str] | None = None
    source_ids: frozenset[str] | None = None
    pipelines: tuple[Pipeline, ...] = ()
    """None are checked where there are none."""
    schema: Schema = STANDARD
    """What records look like in the organization."""
    published_with: OwnKinds | None = None
    """The kinds of own fields of a version that is published already; None for those that the schema has."""
    event_schemas: Mapping[str, JsonSchema] = field(default_factory=dict)
    """What the data of the organization's own event types must look like."""

    @property
    def custom(self) -> Custom:
        """Return the kinds of own fields by type of record and name."""
        return self.schema.custom_kinds if self.published_with is None else own_kinds.as_custom(self.published_with)


@dataclass(slots=True)
class Scope:
    """What a setting is read against, and everything found wrong so far."""

    environment: Environment
    lookups: Lookups = field(default_factory=Lookups)
    findings: Findings = field(default_factory=Findings)
    calendars: Mapping[str, Calendar] = field(default_factory=dict)
    """The document's calendars by name."""
    steps: tuple[str, ...] = ()
    """The ids of the document's steps."""

    @property
    def problems(self) -> list[Violation]:
        """Return what was found wrong."""
        return self.findings.problems

    def add(self, path: str, reason: str, message: str, hint: str) -> None:
        """Report one thing that is wrong."""
        self.findings.add(path, reason, message, hint)


class Shape(Protocol):
    """The shape of a setting."""

    @property
    def hint(self) -> str:
        """Return how to write one."""
        ...

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        ...

    def read(self, raw: Any, scope: Scope, path: str) -> Any:
        """Return the value, or report what is wrong."""
        ...


def wrong_type(raw: Any, wanted: str, shape: Shape, scope: Scope, path: str) -> None:
    """Report that a value is of another kind than wanted."""
    given = {bool: "true or false", dict: "a map", list: "a list", str: "text"}.get(type(raw), "a number")
    scope.add(path, "WRONG_TYPE", f"this must be {wanted}, not {given}", shape.hint)


@frozen
class Text:
    """Plain text, from a list of choices where there is one."""

    longest: int = 200
    choices: tuple[str, ...] = ()

    @property
    def hint(self) -> str:
        """Return how to write one."""
        return (
            f"Use one of {', '.join(self.choices)}." if self.choices else "Write text, in quotes where it needs them."
        )

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        if self.choices:
            return {"type": "string", "enum": list(self.choices)}
        return {"type": "string", "minLength": 1, "maxLength": self.longest}

    def read(self, raw: Any, scope: Scope, path: str) -> str:
        """Return the text, or report what is wrong."""
        if not isinstance(raw, str):
            wrong_type(raw, "text", self, scope, path)
            return ""
        if self.choices and raw not in self.choices:
            hint = did_you_mean(raw, self.choices) or self.hint
            scope.add(path, "UNKNOWN_VALUE", f"{raw[:40]} is not one of its values", hint)
        elif not raw.strip():
            scope.add(path, "EMPTY", "this must not be empty", self.hint)
        elif len(raw) > self.longest:
            message = f"this has {len(raw):,} characters; at most {self.longest:,} are allowed"
            scope.add(path, "TOO_LONG", message, "Shorten it.")
        return raw


@frozen
class Flag:
    """True or false."""

    hint: str = "Write true or false."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "boolean"}

    def read(self, raw: Any, scope: Scope, path: str) -> bool:
        """Return the flag, or report what is wrong."""
        if not isinstance(raw, bool):
            wrong_type(raw, "true or false", self, scope, path)
        return raw is True


@frozen
class Duration:
    """A length of time."""

    hint: str = durations.EXAMPLE

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": durations.PATTERN, "examples": ["30m", "2h", "3d", "1w", "1d12h"]}

    def read(self, raw: Any, scope: Scope, path: str) -> timedelta:
        """Return the length of time, or report what is wrong."""
        if not isinstance(raw, str):
            wrong_type(raw, "a length of time", self, scope, path)
            return timedelta()
        try:
            return durations.parse(raw)
        except ValueError as error:
            scope.add(path, "NOT_A_DURATION", str(error), self.hint)
            return timedelta()


@frozen
class Condition:
    """A CEL expression that is true or false."""

    hint: str = 'Write CEL, such as lead.tier == "A".'

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": 2000, "format": "cel"}

    def read(self, raw: Any, scope: Scope, path: str) -> Expression | None:
        """Return the condition, or report what is wrong."""
        if not isinstance(raw, str):
            wrong_type(raw, "a CEL expression in quotes", self, scope, path)
            return None
        expression, problems = scope.environment.check(raw, wants="boolean", path=path)
        scope.problems.extend(problems)
        return expression


@frozen
class LiquidText:
    """Text that may have Liquid in it."""

    longest: int = templates.LONGEST_TEXT
    hint: str = "Write text; {{ contact.email }} puts a value in."
    escape: Escape = "none"

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": self.longest, "format": "liquid"}

    def read(self, raw: Any, scope: Scope, path: str) -> Template | None:
        """Return the template, or report what is wrong."""
        text = Text(self.longest).read(raw, scope, path)
        template, problems = templates.check(text, scope.environment.variables, path, escape=self.escape)
        scope.problems.extend(problems)
        return template


@frozen
class Values:
    """A map of names to values: literals, Liquid texts, `{cel: …}`."""

    hint: str = 'Write names and values, such as {email: "{{ contact.email }}", hot: {cel: \'lead.tier == "A"\'}}.'

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "object", "maxProperties": MOST_FIELDS, "additionalProperties": True}

    def read(self, raw: Any, scope: Scope, path: str) -> Value:
        """Return the values, or report what is wrong."""
        if not isinstance(raw, Mapping) or (set(raw) == {"cel"} and isinstance(raw["cel"], str)):
            wrong_type(raw, "a map of names to values", self, scope, path)
            return Value({})
        if len(raw) > MOST_FIELDS:
            message = f"this has {len(raw)} entries; at most {MOST_FIELDS} are allowed"
            scope.add(path, "TOO_MANY", message, "Leave some out.")
        value, problems = values.check(raw, scope.environment, path)
        scope.problems.extend(problems)
        return value or Value({})


@frozen
class RecordFields:
    """A map of field paths to new values; null removes a field."""

    hint: str = "Write field paths and values, such as {lifecycle_stage: engaged, custom.plan: pro}."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        scalar = {"type": ["string", "number", "boolean", "null", "array"]}
        return {
            "type": "object",
            "minProperties": 1,
            "maxProperties": MOST_FIELDS,
            "patternProperties": {r"^custom(\.|$)": {}},
            "additionalProperties": {"anyOf": [scalar, dict(values.CEL_SCHEMA)]},
        }

    def read(self, raw: Any, scope: Scope, path: str) -> Any:
        """Return the values by path, or report what is wrong; the record's type checks the paths later, all of them."""
        if not isinstance(raw, Mapping):
            wrong_type(raw, "a map of field paths to values", self, scope, path)
            return UNREAD
        if not raw or len(raw) > MOST_FIELDS:
            scope.add(path, "WRONG_COUNT", f"this sets {len(raw)} fields; 1 to {MOST_FIELDS} are allowed", self.hint)
        found: dict[str, Value] = {}
        for name, item in raw.items():
            value, problems = values.check(item, scope.environment, f"{path}.{name}")
            scope.problems.extend(problems)
            found[str(name)] = Value(None) if value is None else value  # its name can be checked all the same
        return found

    def check(self, record_type: str, chosen: Mapping[str, Value], scope: Scope, path: str) -> None:
        """Report fields that the record does not have, and values that they do not take."""
        for name, value in chosen.items():
            literal = not isinstance(value.written, Expression | Template | dict | list)
            given = {name: value.written if literal else None}
            _, problems = records.validate_fields(record_type, given, path, scope.lookups.schema)
            scope.problems.extend(problems)
            standard = scope.lookups.schema.of(record_type).standard.get(name)
            if standard and isinstance(value.written, dict | list):
                message = f"{name} holds {spoken(standard.expression_kind)}, neither a map nor a list"
                scope.add(f"{path}.{name}", "WRONG_TYPE", message, "Only custom fields hold these.")
            if not problems and standard and isinstance(value.written, Expression):
                kind = value.written.kind
                if not fits(kind, standard.expression_kind):
                    message = f"this comes to {spoken(kind)}, but {name} holds {spoken(standard.expression_kind)}"
                    scope.add(
                        f"{path}.{name}.cel", "EXPRESSION_TYPE", message, "Convert it, as with string(…) or int(…)."
                    )


@frozen
class EventName:
    """The name of an incoming event."""

    hint: str = "Write the name that the source sends, such as form.submitted."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": LONGEST_EVENT_NAME, "pattern": r"^[^\x00-\x1f]*$"}

    def read(self, raw: Any, scope: Scope, path: str) -> str:
        """Return the name, or report what is wrong."""
        text = Text(LONGEST_EVENT_NAME).read(raw, scope, path)
        if any(character < " " for character in text):
            scope.add(path, "BAD_EVENT_NAME", "the name of an event is one line, without control characters", self.hint)
        return text.strip()


@frozen
class OwnEventName:
    """The name of an event that a workflow makes."""

    hint: str = "Write a name of your own, such as trial.went_well."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {**EventName().schema(), "not": {"enum": list(event_types.CATALOGUE)}}

    def read(self, raw: Any, scope: Scope, path: str) -> str:
        """Return the name, or report what is wrong."""
        text = EventName().read(raw, scope, path)
        if text in event_types.CATALOGUE:
            scope.add(path, "RESERVED_NAME", f"{text} is what the core itself reports", self.hint)
        return text


@frozen
class EventType:
    """The type of an outgoing event."""

    hint: str = "Write dotted lower case, such as nurture.hot."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "pattern": r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$", "maxLength": 128}

    def read(self, raw: Any, scope: Scope, path: str) -> str:
        """Return the type, or report what is wrong."""
        text = Text(event_types.MAX_NAME_LENGTH).read(raw, scope, path)
        if text and not event_types.is_event_type_name(text):
            scope.add(path, "BAD_EVENT_TYPE", f"{text[:40]} cannot name an event type", self.hint)
        elif text in event_types.CATALOGUE:
            scope.add(path, "RESERVED_NAME", f"{text} is sent by the core alone", "Choose a type of your own.")
        return text


@frozen
class AnswerSchema:
    """A JSON Schema, draft 2020-12, that an answer must fit."""

    hint: str = "Write JSON Schema, such as {type: object, required: [score], properties: {score: {type: number}}}."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "object"}

    def read(self, raw: Any, scope: Scope, path: str) -> JsonSchema | None:
        """Return the schema, or report what is wrong."""
        if not isinstance(raw, Mapping):
            wrong_type(raw, "a JSON Schema, which is a map", self, scope, path)
            return None
        schema, problems = json_schemas.read(raw, path)
        scope.problems.extend(problems)
        return schema


@frozen
class EndpointId:
    """The id of a webhook endpoint."""

    hint: str = "Write the id of an endpoint, such as ep_…; list the endpoints to see what there is."

    def schema(self) -> dict[str, Any]:
        """Return its JSON Schema."""
        return {"type": "string", "minLength": 1, "maxLength": 63}

    def read(self, raw: Any, scope: Scope, path: str) -> str:
        """Return the id, or report what is wrong."""
        text = Text(63).read(raw, scope, path)
        known = scope.lookups.endpoint_ids
        if text and known is not None and text not in known:
            scope.add(path, "UNKNOWN_ENDPOINT", f"there is no endpoint {text}", did_you_mean(text, known) or self.hint)
        return text
