"""JSON Schemas that authors write, for what others answer: checked when read, applied within limits.

No schema and no answer can stall the engine: references lead to the schema itself and never in a circle, patterns
run in linear time, and the work of a check is bounded by the size of the schema times that of the value.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Any

from core.domain.errors import Violation
from core.domain.frozen import frozen

if TYPE_CHECKING:
    from jsonschema import ValidationError

LARGEST_SCHEMA = 20_000
"""In characters of JSON."""
DEEPEST_SCHEMA = 20
MOST_KEYWORDS = 2_000
"""Keywords in a schema with every reference written out."""
MOST_WORK = 100_000
"""Keywords times values; the slowest check of this size takes about half a second."""
LONGEST_COMPLAINT = 300

_NAMES_TO_SCHEMAS = ("properties", "$defs", "definitions", "dependentSchemas")
_AT_THE_ROOT = ("$id", "$schema")
_PLAIN_DATA = ("enum", "const", "default", "examples")
_REFUSED = (
    *("patternProperties", "unevaluatedItems", "unevaluatedProperties"),
    *("$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$anchor"),
)
_HINT = "See JSON Schema, draft 2020-12."


@frozen
class JsonSchema:
    """A checked JSON Schema, draft 2020-12."""

    written: Mapping[str, Any]
    work: int
    """Keywords it has with every reference written out."""
    _validator: Any = field(compare=False, repr=False)

    def misfit(self, value: Any) -> str:
        """Return why a value does not fit, as a clause; empty when it fits."""
        if self.work * _size(value) > MOST_WORK:
            return "it is too large to be checked"
        try:
            error = next(self._validator.iter_errors(value), None)
        except (ArithmeticError, RecursionError):  # numbers or depths that the check itself cannot hold
            return "it cannot be checked"
        if error is None:
            return ""
        path = error.json_path.removeprefix("$").lstrip(".")
        return f"{path}: {error.message}"[:LONGEST_COMPLAINT] if path else error.message[:LONGEST_COMPLAINT]

    def errors(self, value: Any) -> Iterator[ValidationError]:
        """Yield everything that does not fit, for who knows the value to be small."""
        if self.work * _size(value) <= MOST_WORK:
            yield from self._validator.iter_errors(value)


def read(raw: Mapping[str, Any], path: str) -> tuple[JsonSchema | None, tuple[Violation, ...]]:
    """Return the schema, or everything that is wrong with it; `path` says where it stands."""
    try:
        length = len(json.dumps(raw))
    except (TypeError, ValueError, RecursionError):
        return None, (Violation(path, "NOT_JSON", "this has no JSON form", "Use JSON values only."),)
    if length > LARGEST_SCHEMA:
        message = f"the schema has {length:,} characters; at most {LARGEST_SCHEMA:,} are allowed"
        return None, (Violation(path, "TOO_LARGE", message, "Ask for less."),)
    if _depth(raw) > DEEPEST_SCHEMA:
        message = f"the schema is nested deeper than {DEEPEST_SCHEMA}"
        return None, (Violation(path, "TOO_DEEP", message, "Put inner schemas under $defs and refer to them."),)
    from core.domain.workflow import schema_validator  # slow to load: see core.loading

    if misfits := schema_validator.misfits(raw):
        return None, tuple(
            Violation(f"{path}{place}", "NOT_A_SCHEMA", message[:LONGEST_COMPLAINT], hint or _HINT)
            for place, message, hint in misfits
        )
    problems = tuple(problem for place, inner in _inner(raw, path) for problem in _keyword_problems(raw, inner, place))
    if problems:
        return None, problems
    work = _work(raw)
    if work > MOST_KEYWORDS:
        message = "its references lead in a circle, or make it too large"
        return None, (Violation(path, "TOO_LARGE", message, f"Write it out, with at most {MOST_KEYWORDS:,} keywords."),)
    plain = {key: value for key, value in raw.items() if key not in _AT_THE_ROOT}
    return JsonSchema(raw, work, schema_validator.validator(plain)), ()


def _inner(schema: Any, path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield a schema and every schema in it, with its place."""
    if isinstance(schema, Mapping):
        yield path, schema
        for key, item in schema.items():
            place = f"{path}.{key}"
            if key in _NAMES_TO_SCHEMAS and isinstance(item, Mapping):
                for name, one in item.items():
                    yield from _inner(one, f"{place}.{name}")
            elif key not in _PLAIN_DATA and isinstance(item, list):
                for index, one in enumerate(item):
                    yield from _inner(one, f"{place}[{index}]")
            elif key not in _PLAIN_DATA:
                yield from _inner(item, place)


def _keyword_problems(root: Mapping[str, Any], schema: Mapping[str, Any], path: str) -> Iterator[Violation]:
    for key in schema:
        if key in _REFUSED or (key in _AT_THE_ROOT and schema is not root):
            yield Violation(f"{path}.{key}", "UNSUPPORTED_KEYWORD", f"{key} is not supported", "Say it without.")
    reference = schema.get("$ref")
    if isinstance(reference, str) and _target(root, reference) is None:
        message = f"{reference[:80]} leads to nothing in this schema"
        yield Violation(f"{path}.$ref", "UNKNOWN_REFERENCE", message, "Refer to #/$defs/…; nothing is fetched.")
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and _unusable(pattern):
        hint = "Use RE2 syntax: it has no look-ahead and no back-references."
        yield Violation(f"{path}.pattern", "BAD_PATTERN", f"{pattern[:80]} cannot be matched with", hint)


def _unusable(pattern: str) -> bool:
    from core.domain.workflow.schema_validator import matches as condition_of  # it is loaded by now

    matches = condition_of(pattern)
    return matches is None or bool(matches.evaluate({"text": ""}).unknown)


def _target(root: Mapping[str, Any], reference: str) -> Mapping[str, Any] | bool | None:
    """Return what a reference such as `#/$defs/person` leads to; None when that is no schema of this one."""
    found: Any = root
    if reference != "#" and not reference.startswith("#/"):
        return None
    for part in reference.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping | bool) else None


def _work(root: Mapping[str, Any]) -> int:
    """Return how many keywords a schema has with its references written out; too many for one in a circle."""
    total = 0
    ahead: list[Any] = [root]
    while ahead and total <= MOST_KEYWORDS:
        schema = ahead.pop()
        total += max(1, len(schema)) if isinstance(schema, Mapping) else 1
        for key, item in schema.items() if isinstance(schema, Mapping) else ():
            if key == "$ref":
                ahead.append(_target(root, item))
            elif key in _NAMES_TO_SCHEMAS and isinstance(item, Mapping):
                ahead += () if key in ("$defs", "definitions") else item.values()
            elif isinstance(item, list):
                ahead += item
            elif isinstance(item, Mapping) and key not in _PLAIN_DATA:
                ahead.append(item)
    return total


def _depth(value: Any) -> int:
    if not isinstance(value, Mapping | list):
        return 0
    inner = value.values() if isinstance(value, Mapping) else value
    return 1 + max((_depth(item) for item in inner), default=0)


def _size(value: Any) -> int:
    """Return how many values there are in one, itself included; texts count for their length as well."""
    match value:
        case str():
            return 1 + len(value) // 1_000
        case Mapping():
            return 1 + sum(map(_size, value.values()))
        case list():
            return 1 + sum(map(_size, value))
        case _:
            return 1
