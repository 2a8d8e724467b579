"""Event types that an organization declares itself: what their data must look like, and what a new version breaks.

Receivers are written against a version. Adding a field harms nobody; what they could trip over is told, and allowed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.webhooks.event_types import CATALOGUE, MAX_NAME_LENGTH, is_event_type_name
from core.domain.workflow import json_schemas
from core.domain.workflow.json_schemas import JsonSchema

LONGEST_DESCRIPTION = 500
MOST_TOLD = 50
"""Breaking changes that are told one by one."""

_PLAIN = ("type", "enum", "const", "required", "properties", "items", "additionalProperties")
_NOTES = ("title", "description", "examples", "default", "deprecated", "$comment", "$schema", "$id", "readOnly")
_TYPES = ("null", "boolean", "object", "array", "number", "string")


@frozen
class OwnType:
    """The newest version of an organization's own event type."""

    name: str
    version: int
    description: str
    schema: Mapping[str, Any]

    def problems(self, data: Any) -> tuple[Violation, ...]:
        """Return why data, as the receiver would read it, does not fit; empty when it fits."""
        checked = compiled(self.schema)
        wrong = checked.misfit(data) if checked is not None else ""
        if not wrong:
            return ()
        hint = f"See version {self.version} of {self.name} in ListEventTypes."
        return (Violation("data", "SCHEMA_VIOLATION", wrong, hint),)


def problems(name: str, schema: Mapping[str, Any]) -> tuple[Violation, ...]:
    """Return everything that keeps a type from being declared, by field."""
    return (*_name_problems(name), *_schema_problems(schema))


def _name_problems(name: str) -> Iterator[Violation]:
    if name in CATALOGUE:
        yield Violation("name", "RESERVED_NAME", f"{name} is sent by the core alone", "Choose a name of your own.")
    elif name and not is_event_type_name(name):
        message = f"{name[:MAX_NAME_LENGTH]!r} cannot name an event type"
        yield Violation("name", "EVENT_TYPE_MALFORMED", message, "Use dotted lower case, such as deal.won.")


def _schema_problems(schema: Mapping[str, Any]) -> Iterator[Violation]:
    checked, wrong = json_schemas.read(schema, "schema")
    yield from wrong
    if checked is not None and "object" not in _types(schema):
        message = "no data could ever fit: the data of an event is an object"
        yield Violation("schema.type", "NEVER_FITS", message, "Write type: object.")


def compiled(schema: Mapping[str, Any]) -> JsonSchema | None:
    """Return a schema ready to be applied; None for one that cannot be."""
    return _compiled(json.dumps(schema, sort_keys=True))


@lru_cache(maxsize=1_000)
def _compiled(text: str) -> JsonSchema | None:
    return json_schemas.read(json.loads(text), "schema")[0]


def breaking_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what receivers of data that fitted the old schema may trip over, one sentence each."""
    told = list(dict.fromkeys(_broken(old, new, "data")))
    if len(told) > MOST_TOLD:
        return (*told[:MOST_TOLD], f"And {len(told) - MOST_TOLD} more.")
    return tuple(told)


def _broken(old: Any, new: Any, path: str) -> Iterator[str]:
    if old == new:
        return
    if not isinstance(old, Mapping) or not isinstance(new, Mapping):
        if new is not False and old is not True:
            yield f"{path} is described in another way."
        return
    yield from _widened(old, new, path)
    yield from _fields_lost(old, new, path)
    for keyword in sorted((old.keys() | new.keys()) - {*_PLAIN, *_NOTES}):
        if keyword in _LIMITS:
            yield from _limit_lifted(keyword, old, new, path)
        elif old.get(keyword) != new.get(keyword):
            yield f"{path}: {keyword} is another one."
    named = old.get("properties"), new.get("properties")
    if isinstance(named[0], Mapping) and isinstance(named[1], Mapping):
        for name in (name for name in named[0] if name in named[1]):
            yield from _broken(named[0][name], named[1][name], f"{path}.{name}")
    if "items" in old and "items" in new:
        yield from _broken(old["items"], new["items"], f"{path}[]")


def _widened(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
    """Tell of values that were never sent before."""
    added = sorted(_types(new) - _types(old))
    if added:
        what = "of any type" if "type" not in new else " or ".join(added)
        yield f"{path} may now be {what}."
    elif _only_whole(old) and not _only_whole(new) and "number" in _types(new):
        yield f"{path} may now have a fraction."
    before, after = _listed(old), _listed(new)
    if before is not None and after is None:
        yield f"{path} may now have values beside those listed before."
    elif before is not None and after is not None:
        fresh = [value for value in after if value not in before]
        if fresh:
            yield f"{path} may now be {', '.join(json.dumps(value, ensure_ascii=False)[:80] for value in fresh)}."
    if old.get("additionalProperties") is False and new.get("additionalProperties", True) is not False:
        yield f"{path} may now have fields that are not declared."


def _fields_lost(old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
    there, still = old.get("properties", {}), new.get("properties", {})
    lost = [name for name in there if name not in still]
    for name in lost:
        yield f"{path}.{name} is no longer declared."
    for name in old.get("required", ()):
        if name not in new.get("required", ()) and name not in lost:
            yield f"{path}.{name} may now be missing."


_LIMITS = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"), 1),
    **dict.fromkeys(("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"), -1),
}
"""Limits that break when they are lifted: those from below (1) and from above (-1)."""


def _limit_lifted(keyword: str, old: Mapping[str, Any], new: Mapping[str, Any], path: str) -> Iterator[str]:
    before, after = old.get(keyword), new.get(keyword)
    if before is None:
        return
    if after is None or (after - before) * _LIMITS[keyword] < 0:
        yield f"{path}: {keyword} was {before} and is {'gone' if after is None else after}."


def _types(schema: Mapping[str, Any]) -> set[str]:
    given = schema.get("type", _TYPES)
    return {"number" if one == "integer" else one for one in ([given] if isinstance(given, str) else given)}


def _only_whole(schema: Mapping[str, Any]) -> bool:
    given = schema.get("type", ())
    return "integer" in ([given] if isinstance(given, str) else given) and "number" not in given


def _listed(schema: Mapping[str, Any]) -> list[Any] | None:
    return [schema["const"]] if "const" in schema else schema.get("enum")
