"""Reading a document's triggers: events, inbound webhooks, record changes, segments, schedules, pools."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, cast

from core.domain import filters
from core.domain.errors import Invalid
from core.domain.names import is_slug
from core.domain.nearest import did_you_mean
from core.domain.records.fields import STANDARD_FIELDS, check_path
from core.domain.records.standard import KNOWN_TO_WORKFLOWS
from core.domain.workflow import cron, record_types
from core.domain.workflow import time_notation as notation
from core.domain.workflow.expressions import Environment, Expression
from core.domain.workflow.record_changes import CONTACT
from core.domain.workflow.trigger_kinds import (
    Audience,
    EventTrigger,
    Moment,
    PoolTrigger,
    RecordTrigger,
    ScheduleTrigger,
    SegmentTrigger,
    SourceTrigger,
    TriggerKind,
)
from core.domain.workflow.trigger_kinds import Trigger as Trigger  # what reads triggers gives them
from core.domain.workflow.variables import NO_RECORDS, record_environment
from core.domain.workflow.windows import EVERY_DAY

if TYPE_CHECKING:
    from core.domain.steps.shapes import Scope

MOST_TRIGGERS = 20
MOST_FIELDS = 50
MOST_PER_DAY = 100_000
LONGEST_NAME = 200
RESERVED = "$"
"""What the names of the core's own events begin with."""
MOMENTS: tuple[Moment, ...] = ("created", "changed", "either")

AUDIENCE_FIELDS: Mapping[str, filters.Kind] = {
    **{name: field.kind for name, field in STANDARD_FIELDS["contact"].items()},
    "id": "string",
    "create_time": "instant",
    "update_time": "instant",
    "custom.*": "any",
}
"""What an audience can be filtered by, and of which kind it is."""


_KEYS: Mapping[TriggerKind, tuple[str, ...]] = {
    "event": ("event", "when", "key"),
    "source": ("source", "event", "when", "key"),
    "record": ("record", "contact", "on", "fields", "when", "key"),
    "segment": ("segment",),
    "schedule": ("schedule", "audience"),
    "pool": ("pool", "audience"),
}
_SORTS: tuple[TriggerKind, ...] = ("source", "record", "segment", "schedule", "pool", "event")
"""In the order in which a trigger's keys say what it is: a source may name an event."""
_HINT = "Write one of {event: form.submitted}, {source: …}, {record: lead}, {segment: …}, {schedule: …}, {pool: …}."
_HINTS: Mapping[str, str] = {
    "cron": cron.EXAMPLE,
    "event": "Write the name that the source sends, such as form.submitted.",
    "source": "Write the id of a source, or its display name.",
    "list": "Use lower-case letters, digits, hyphens and underscores, at most 63.",
    "schedule": 'Write {cron: "0 9 * * mon", timezone: Europe/Berlin}.',
    "pool": 'Write {per_day: 50, at: "09:00", days: [monday, thursday]}.',
    "audience": "Write {filter: 'lifecycle_stage = \"lead\"'}, {list: newsletter}, or both.",
    "fields": "Write a list such as [lifecycle_stage, custom.plan].",
}


def trigger_schema() -> dict[str, Any]:
    """Return the JSON Schema of one trigger."""
    cel = {"type": "string", "minLength": 1, "maxLength": 2_000, "format": "cel"}
    name = {"type": "string", "minLength": 1, "maxLength": LONGEST_NAME}
    zone = {"type": "string", "examples": ["Europe/Berlin"]}
    audience = _object({"filter": {"type": "string", "maxLength": filters.LONGEST}, "list": name})
    about = {"when": cel, "key": cel}
    record = {
        "record": record_types.schema(KNOWN_TO_WORKFLOWS),
        "contact": name,
        "on": {"enum": list(MOMENTS)},
        "fields": {"type": "array", "minItems": 1, "maxItems": MOST_FIELDS, "items": name},
        **about,
    }
    schedule = _object({"cron": name, "timezone": zone}, "cron")
    per_day = {"type": "integer", "minimum": 1, "maximum": MOST_PER_DAY}
    days = notation.weekdays_schema()
    pool = _object({"per_day": per_day, "at": notation.time_schema(), "timezone": zone, "days": days}, "per_day")
    return {
        "anyOf": [
            _object({"event": name, **about}, "event"),
            _object({"source": name, "event": name, **about}, "source"),
            _object(record, "record"),
            _object({"segment": cel}, "segment"),
            _object({"schedule": schedule, "audience": audience}, "schedule", "audience"),
            _object({"pool": pool, "audience": audience}, "pool", "audience"),
        ]
    }


def _object(properties: Mapping[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        **({"required": list(required)} if required else {}),
        "additionalProperties": False,
    }


def read_triggers(raw: Any, scope: Scope) -> tuple[Trigger, ...]:
    """Return a document's triggers, or report what is wrong with them."""
    if raw is None:
        return ()
    if not isinstance(raw, list):
        scope.add("triggers", "WRONG_TYPE", "this must be a list", "Write triggers as a list of {event, when}.")
        return ()
    if len(raw) > MOST_TRIGGERS:
        message = f"there are {len(raw)} triggers; at most {MOST_TRIGGERS} are allowed"
        scope.add("triggers", "TOO_MANY", message, "Split the workflow.")
    found = (_read(item, scope, f"triggers[{index}]") for index, item in enumerate(raw[:MOST_TRIGGERS]))
    return tuple(trigger for trigger in found if trigger is not None)


def _read(raw: Any, scope: Scope, path: str) -> Trigger | None:
    if not isinstance(raw, Mapping):
        notation.wrong_type(raw, "a map", _HINT, scope.findings, path)
        return None
    kind = next((sort for sort in _SORTS if sort in raw), None)
    keys = _KEYS[kind] if kind else _SORTS
    for key in raw:
        if key not in keys:
            hint = did_you_mean(str(key), keys) or f"It has {', '.join(keys)}."
            what = "a trigger" if kind in (None, "event") else f"a {kind} trigger"
            scope.add(f"{path}.{key}", "UNKNOWN_KEY", f"{what} has no {key}", hint)
    if kind is None:
        scope.add(
            f"{path}.event", "MISSING_KEY", "a trigger needs event, or another key that says what starts it", _HINT
        )
        return None
    match kind:
        case "event":
            name = _text(raw["event"], "event", scope, f"{path}.event")
            return EventTrigger(name, *_conditions(raw, scope, path))
        case "source":
            return _source(raw, scope, path)
        case "record":
            return _record(raw, scope, path)
        case "segment":
            segment = _expression(raw["segment"], _segment_environment(scope), scope, f"{path}.segment", "boolean")
            return None if segment is None else SegmentTrigger(segment)
        case "schedule":
            return _schedule(raw, scope, path)
        case "pool":
            return _pool(raw, scope, path)


def _conditions(raw: Mapping[str, Any], scope: Scope, path: str) -> tuple[Expression | None, Expression | None]:
    """Return what `when` and `key` say."""
    when = _optional(raw.get("when"), scope.environment, scope, f"{path}.when", "boolean")
    return when, _optional(raw.get("key"), scope.environment, scope, f"{path}.key", None)


def _source(raw: Mapping[str, Any], scope: Scope, path: str) -> SourceTrigger:
    source = _text(raw["source"], "source", scope, f"{path}.source")
    known = scope.lookups.source_ids
    if source and known is not None and source not in known:
        hint = did_you_mean(source, known) or _HINTS["source"]
        scope.add(f"{path}.source", "UNKNOWN_SOURCE", f"there is no source {source[:60]}", hint)
    event = raw.get("event")
    name = "" if event is None else _text(event, "event", scope, f"{path}.event")
    return SourceTrigger(source, name, *_conditions(raw, scope, path))


def _record(raw: Mapping[str, Any], scope: Scope, path: str) -> RecordTrigger | None:
    record = record_types.read(raw["record"], KNOWN_TO_WORKFLOWS, scope.lookups, scope.findings, f"{path}.record")
    on = _choice(raw.get("on", "either"), MOMENTS, "moment", scope, f"{path}.on")
    known = record_environment(custom=scope.lookups.custom)
    when = _optional(raw.get("when"), known, scope, f"{path}.when", "boolean")
    key = _optional(raw.get("key"), known, scope, f"{path}.key", None)
    fields = _fields(raw.get("fields"), record, scope, f"{path}.fields")
    by = CONTACT
    if raw.get("contact") is not None and record:
        by = record_types.read_reference(raw["contact"], record, scope.lookups, scope.findings, f"{path}.contact")
    if not record or not on:
        return None
    if fields and on == "created":
        message = "fields say which changes count, and nothing changes at creation"
        scope.add(f"{path}.fields", "CONFLICT", message, "Remove fields, or write on: changed.")
    return RecordTrigger(record, cast(Moment, on), fields, when, key, by)


def _fields(raw: Any, record: str, scope: Scope, path: str) -> tuple[str, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or not raw or len(raw) > MOST_FIELDS:
        scope.add(path, "WRONG_TYPE", f"this must be a list of 1 to {MOST_FIELDS} field paths", _HINTS["fields"])
        return ()
    for index, name in enumerate(raw):
        at = f"{path}[{index}]"
        if not isinstance(name, str):
            notation.wrong_type(name, "the path of a field", _HINTS["fields"], scope.findings, at)
        elif record and name != "custom" and not (record == "contact" and name == "lists"):
            problem = check_path(record, name, at, scope.lookups.schema)
            scope.problems.extend([problem] if problem is not None else [])
    return tuple(str(name) for name in raw)


def _schedule(raw: Mapping[str, Any], scope: Scope, path: str) -> ScheduleTrigger:
    given = _map(raw["schedule"], ("cron", "timezone"), "schedule", scope, f"{path}.schedule")
    text = _text(given.get("cron"), "cron", scope, f"{path}.schedule.cron")
    if text:
        try:
            cron.check(text)
        except ValueError as error:
            scope.add(f"{path}.schedule.cron", "NOT_A_SCHEDULE", str(error), cron.EXAMPLE)
    return ScheduleTrigger(text, _audience(raw, scope, path), _zone(given, scope, f"{path}.schedule"))


def _pool(raw: Mapping[str, Any], scope: Scope, path: str) -> PoolTrigger:
    at = f"{path}.pool"
    given = _map(raw["pool"], ("per_day", "at", "timezone", "days"), "pool", scope, at)
    per_day = given.get("per_day")
    if not isinstance(per_day, int) or isinstance(per_day, bool) or not 1 <= per_day <= MOST_PER_DAY:
        message = f"per_day must be a whole number from 1 to {MOST_PER_DAY:,}"
        scope.add(f"{at}.per_day", "OUT_OF_RANGE", message, _HINTS["pool"])
        per_day = 1
    when = notation.read_time(given.get("at", "09:00"), scope.findings, f"{at}.at")
    days = EVERY_DAY
    if given.get("days") is not None:
        days = notation.read_weekdays(given["days"], scope.findings, f"{at}.days")
    return PoolTrigger(per_day, when, _audience(raw, scope, path), _zone(given, scope, at), days)


def _audience(raw: Mapping[str, Any], scope: Scope, path: str) -> Audience:
    path = f"{path}.audience"
    if raw.get("audience") is None:
        scope.add(path, "MISSING_KEY", "say which contacts it takes", _HINTS["audience"])
        return Audience()
    given = _map(raw["audience"], ("filter", "list"), "audience", scope, path)
    name = _list_name(given, scope, path)
    text = given.get("filter", "")
    if not isinstance(text, str):
        notation.wrong_type(text, "a filter", _HINTS["audience"], scope.findings, f"{path}.filter")
        return Audience(list=name)
    try:
        return Audience(text, filters.parse(text, AUDIENCE_FIELDS), name)
    except Invalid as error:
        for one in error.violations:
            scope.add(f"{path}.filter", one.reason, one.message, one.hint)
        return Audience(list=name)


def _list_name(given: Mapping[str, Any], scope: Scope, path: str) -> str:
    if given.get("list") is None:
        return ""
    name = _text(given["list"], "list", scope, f"{path}.list")
    if name and not is_slug(name):
        scope.add(f"{path}.list", "BAD_NAME", f"{name[:60]} cannot be the name of a list", _HINTS["list"])
    return name


def _zone(given: Mapping[str, Any], scope: Scope, path: str) -> str:
    zone = given.get("timezone")
    return "" if zone is None else notation.read_zone(zone, scope.findings, f"{path}.timezone")


def _map(raw: Any, keys: tuple[str, ...], what: str, scope: Scope, path: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        notation.wrong_type(raw, "a map", _HINTS[what], scope.findings, path)
        return {}
    article = "an" if what[0] in "aeiou" else "a"
    notation.unknown_keys(raw, keys, f"{article} {what}", scope.findings, path)
    return raw


def _text(raw: Any, what: str, scope: Scope, path: str) -> str:
    if raw is None:
        scope.add(path, "MISSING_KEY", f"this needs {what}", _HINTS[what])
    elif not isinstance(raw, str):
        notation.wrong_type(raw, "text", _HINTS[what], scope.findings, path)
    elif not raw.strip():
        scope.add(path, "EMPTY", "this must not be empty", _HINTS[what])
    elif len(raw) > LONGEST_NAME:
        message = f"this has {len(raw):,} characters; at most {LONGEST_NAME} are allowed"
        scope.add(path, "TOO_LONG", message, "Shorten it.")
    elif what == "event" and raw.startswith(RESERVED):
        scope.add(path, "RESERVED_NAME", f"{raw[:40]} is a name of the core's own", _HINTS["event"])
    else:
        return raw.strip()
    return ""


def _choice(raw: Any, choices: Iterable[str], what: str, scope: Scope, path: str) -> str:
    choices = tuple(choices)
    if isinstance(raw, str) and raw in choices:
        return raw
    hint = did_you_mean(str(raw), choices) or f"Use one of {', '.join(choices)}."
    scope.add(path, "UNKNOWN_VALUE", f"there is no {what} {str(raw)[:40]}", hint)
    return ""


def _optional(
    raw: Any, environment: Environment, scope: Scope, path: str, wants: Literal["boolean"] | None
) -> Expression | None:
    return None if raw is None else _expression(raw, environment, scope, path, wants)


def _expression(
    raw: Any, environment: Environment, scope: Scope, path: str, wants: Literal["boolean"] | None
) -> Expression | None:
    if not isinstance(raw, str):
        hint = 'Write CEL, such as lead.tier == "A".'
        notation.wrong_type(raw, "a CEL expression in quotes", hint, scope.findings, path)
        return None
    expression, problems = environment.check(raw, wants=wants, path=path)
    scope.problems.extend(problems)
    return expression


def _segment_environment(scope: Scope) -> Environment:
    """Return what a segment may name: records alone, since only their changes let somebody enter it."""
    known = record_environment(custom=scope.lookups.custom).variables
    return Environment({name: kind for name, kind in known.items() if name.partition(".")[0] not in NO_RECORDS})
