"""How a message becomes an event: by the source's own mapping where it has one, else by what systems call things."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from core.domain.control.digest import digest
from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.inbound import conventions
from core.domain.inbound.bodies import Message
from core.domain.inbound.verifiers import Kind
from core.domain.nearest import did_you_mean
from core.domain.records.ingestion import EVENT_TYPES, IncomingEvent
from core.domain.workflow.expressions import Environment, Expression, Result
from core.domain.workflow.expressions import Kind as ValueKind

MOST_FIELDS = 100
LARGEST_FIELDS = 256 * 1024
"""Of an event, in characters of JSON."""

_ENVIRONMENT = Environment({"body": "any", "headers": "map", "query": "map"})
_TEXTS: Mapping[str, ValueKind] = {"event_type": "string", "event_name": "string", "when": "boolean"}
_ANYTHING = ("occur_time", "message_id", "person_id")
_LONGEST_ID = 200
_FIELD_NAME = re.compile(r"[^\x00-\x1f]{1,100}")
_PRESENT_SECONDS = (0, 253_402_300_799)


@frozen
class MappingRules:
    """The mapping of a source; each text is CEL, an empty one leaves it to the conventions."""

    event_type: str = ""
    event_name: str = ""
    fields: tuple[tuple[str, str], ...] = ()
    occur_time: str = ""
    message_id: str = ""
    person_id: str = ""
    when: str = ""


@frozen
class Mapped:
    """What a mapping made of a message."""

    event: IncomingEvent | None = None
    """The event, as far as there is one."""
    left_out: bool = False
    """True where the mapping does not want it."""
    fault: Violation | None = None
    """Why there is no event; it is known by its `message_id` all the same."""
    message_id: str = ""


class _Misfit(Exception):
    def __init__(self, fault: Violation):
        super().__init__(fault.message)
        self.fault = fault


def problems(rules: MappingRules, path: str = "mapping") -> tuple[Violation, ...]:
    """Return everything that is wrong with a mapping, each with its place, such as `mapping.fields[email]`."""
    return tuple(_problems(rules, path))


def _problems(rules: MappingRules, path: str) -> Iterator[Violation]:
    for name in (*_TEXTS, *_ANYTHING):
        if text := getattr(rules, name):
            yield from _ENVIRONMENT.check(text, wants=_TEXTS.get(name), path=f"{path}.{name}")[1]
    for name, text in rules.fields:
        place = f"{path}.fields[{name[:100]}]"
        if not _FIELD_NAME.fullmatch(name):
            yield Violation(place, "BAD_NAME", "is no name of a field", "Use up to 100 printable characters.")
        yield from _ENVIRONMENT.check(text, path=place)[1]
    if len(rules.fields) > MOST_FIELDS:
        message = f"has {len(rules.fields)} fields, at most {MOST_FIELDS} are accepted"
        yield Violation(f"{path}.fields", "TOO_MANY_ITEMS", message, "Map a whole object, such as body.customer.")
    yield from _fixed_type(rules.event_type, f"{path}.event_type")


def _fixed_type(text: str, path: str) -> Iterator[Violation]:
    """Yield what is wrong with an event type that is written out."""
    expression = _ENVIRONMENT.check(text, wants="string")[0] if text else None
    if expression is None or expression.mentions:
        return
    value = expression.evaluate({}).value
    if value not in EVENT_TYPES:
        hint = did_you_mean(str(value), EVENT_TYPES, "It is lead, conversion or action, in quotes.")
        yield Violation(path, "UNKNOWN_EVENT_TYPE", f"`{str(value)[:20]}` is no event type", hint)


def apply(rules: MappingRules, kind: Kind, message: Message, source_id: str) -> Mapped:
    """Return the event that a message is, or why it is none; `kind` is how the source is verified."""
    values = {"body": message.body, "headers": message.headers, "query": message.query}
    message_id = "" if message.event and message.fault else _short(conventions.message_id(kind, message))
    try:
        if message.fault is not None:
            raise _Misfit(message.fault)
        if rules.message_id:
            message_id = _short(_id(rules.message_id, "message_id", values))
        if rules.when and not _wanted(rules.when, values):
            return Mapped(left_out=True, message_id=message_id)
        event = IncomingEvent(
            event_type=_text(rules.event_type, "event_type", values) if rules.event_type else "action",
            event_name=_name(rules, kind, message, values),
            source_id=source_id,
            fields=_fields(rules, message, values),
            person_id=_id(rules.person_id, "person_id", values) if rules.person_id else "",
            created_at=_occurred(rules, kind, message, values),
            message_id=message_id,
        )
    except _Misfit as misfit:
        return Mapped(fault=misfit.fault, message_id=message_id)
    return Mapped(event, message_id=message_id)


def renamed(mapped: Mapped, message_id: str) -> Mapped:
    """Return the same under another deduplication key: the one under which the message came in."""
    event = mapped.event and replace(mapped.event, message_id=message_id)
    return replace(mapped, event=event, message_id=message_id)


@lru_cache(maxsize=2_000)
def _expression(text: str, wants: ValueKind | None) -> Expression:
    return _ENVIRONMENT.compile(text, wants=wants)


def _wanted(text: str, values: Mapping[str, Any]) -> bool:
    result = _expression(text, "boolean").evaluate(values)
    if result.unknown and not _is_missing(result):
        raise _Misfit(_failed("when", result.unknown))
    return result.holds


def _name(rules: MappingRules, kind: Kind, message: Message, values: Mapping[str, Any]) -> str:
    if rules.event_name:
        return _text(rules.event_name, "event_name", values)
    name = conventions.event_name(kind, message)
    if not name:
        hint = 'Say it in mapping.event_name, such as "form.submitted" in quotes, then redrive.'
        raise _Misfit(Violation("mapping.event_name", "NO_EVENT_NAME", "nothing in it names the event", hint))
    return name


def _fields(rules: MappingRules, message: Message, values: Mapping[str, Any]) -> Mapping[str, Any]:
    found = {name: value for name, text in rules.fields if (value := _field(name, text, values)) is not None}
    if rules.fields and not found:
        hint = "Compare mapping.fields with the body, with TryMapping."
        raise _Misfit(Violation("mapping.fields", "NOTHING_MAPPED", "none of the mapped fields is in it", hint))
    told = found if rules.fields else conventions.fields(message)
    if told is None:
        hint = "Say in mapping.fields what to take from it, then redrive."
        raise _Misfit(Violation("body", "NOT_AN_OBJECT", "is no object, so its values have no names", hint))
    if len(json.dumps(told, ensure_ascii=False)) > LARGEST_FIELDS:
        message_ = f"are larger than {LARGEST_FIELDS // 1024} KiB"
        raise _Misfit(Violation("fields", "TOO_LARGE", message_, "Map the fields that are needed."))
    return told


def _field(name: str, text: str, values: Mapping[str, Any]) -> Any:
    result = _expression(text, None).evaluate(values)
    if result.unknown and not _is_missing(result):
        raise _Misfit(_failed(f"fields[{name[:100]}]", result.unknown))
    return result.value


def _text(text: str, name: str, values: Mapping[str, Any]) -> str:
    value = _value(text, name, values)
    if not isinstance(value, str):
        raise _Misfit(_failed(name, f"it came to {_shown(value)}, not to a text"))
    return value


def _id(text: str, name: str, values: Mapping[str, Any]) -> str:
    value = _value(text, name, values)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _Misfit(_failed(name, f"it came to {_shown(value)}, not to a text or a whole number"))
    return str(value)


def _occurred(rules: MappingRules, kind: Kind, message: Message, values: Mapping[str, Any]) -> str:
    if rules.occur_time:
        told, place = _value(rules.occur_time, "occur_time", values), "mapping.occur_time"
    else:
        told, place = conventions.occurred(kind, message), "created_at"
    if told is None or told == "":
        return ""
    seconds = _seconds(told)
    if seconds is not None and _PRESENT_SECONDS[0] <= seconds <= _PRESENT_SECONDS[1]:
        return datetime.fromtimestamp(seconds, UTC).isoformat()
    if not isinstance(told, str) or seconds is not None:
        hint = "It is ISO 8601 text, or seconds since 1970."
        raise _Misfit(Violation(place, "NOT_AN_INSTANT", f"{_shown(told)} is not an instant", hint))
    return told


def _seconds(told: Any) -> float | None:
    if isinstance(told, str) and re.fullmatch(r"[0-9]{9,12}(\.[0-9]{1,9})?", told):
        return float(told)
    return float(told) if isinstance(told, int | float) and not isinstance(told, bool) else None


def _value(text: str, name: str, values: Mapping[str, Any]) -> Any:
    """Return what an expression comes to that must come to something."""
    result = _expression(text, _TEXTS.get(name)).evaluate(values)
    if result.value is None:
        raise _Misfit(_failed(name, result.unknown or "it came to null"))
    return result.value


def _is_missing(result: Result) -> bool:
    """Tell whether there is no value because something that it looks at is not there."""
    return any(value is None for value in result.inputs.values())


def _failed(name: str, why: str) -> Violation:
    hint = "Try the mapping on this body with TryMapping, mend it, then redrive."
    return Violation(f"mapping.{name}", "MAPPING_FAILED", f"could not be worked out: {why}", hint)


def _shown(value: Any) -> str:
    return f"`{str(value)[:40]}`"


def _short(message_id: str) -> str:
    """Return an id that fits: what stands for a longer one is as good a key."""
    return message_id if len(message_id) <= _LONGEST_ID else digest(message_id)
