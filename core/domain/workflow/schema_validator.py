"""The validator of JSON Schemas that authors write: patterns run in linear time, and so do lists that must differ.

The package behind it is slow to load, so this module is loaded with the first schema: see core.loading.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator, ValidationError, validators
from referencing import Registry

from core.domain.nearest import did_you_mean
from core.domain.workflow.expressions import Environment, Expression

MOST_MISFITS = 20
"""Complaints about one schema; whoever meets more begins anew."""
MOST_COMPARED = 500
"""Items of a list that must all differ."""

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_META: Any = Draft202012Validator(Draft202012Validator.META_SCHEMA)
_TEXT = Environment({"text": "string"})


def misfits(raw: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return everything that makes something no schema, the outermost first: place, complaint, and way out if any."""
    found = {
        error.json_path.removeprefix("$"): _complaint(error) for error in islice(_META.iter_errors(raw), MOST_MISFITS)
    }
    return [(place, *found[place]) for place in sorted(found, key=lambda place: (place.count("."), place))]


def _complaint(error: ValidationError) -> tuple[str, str]:
    given: Any = error.instance
    if error.absolute_path and error.absolute_path[-1] == "type" and error.validator == "anyOf":
        wrong = [one for one in (given if isinstance(given, list) else [given]) if one not in _TYPES]
        if wrong:
            return f"there is no type {str(wrong[0])[:40]}", did_you_mean(str(wrong[0])[:40], _TYPES)
    return error.message, ""


def validator(raw: Mapping[str, Any]) -> Any:
    """Return what checks values against a schema; nothing is fetched for it."""
    return _Validator(raw, registry=Registry())


@lru_cache(maxsize=1_000)
def matches(pattern: str) -> Expression | None:
    """Return the condition that a text matches a pattern, which expressions check in linear time."""
    return _TEXT.check(f"text.matches({json.dumps(pattern, ensure_ascii=False)})", wants="boolean")[0]


def _pattern(validator: Any, pattern: str, value: Any, schema: Any) -> Iterator[ValidationError]:
    condition = matches(pattern) if isinstance(value, str) else None
    if condition is not None and not condition.evaluate({"text": value}).holds:
        yield ValidationError(f"{value[:80]!r} does not match {pattern!r}")


def _unique(validator: Any, wanted: bool, value: Any, schema: Any) -> Iterator[ValidationError]:
    if isinstance(value, list) and len(value) > MOST_COMPARED:
        yield ValidationError(f"a list of {len(value):,} items is too long to tell whether they all differ")
    elif isinstance(value, list) and wanted and len(set(map(_compared, value))) < len(value):
        yield ValidationError(f"{value!r} has non-unique elements")


def _compared(value: Any) -> Any:
    """Return what stands for a value among others: 1 is 1.0, and no boolean; the usual comparison is each with each."""
    match value:
        case bool():
            return (bool, value)
        case list():
            return (list, *map(_compared, value))
        case Mapping():
            return (dict, frozenset((name, _compared(item)) for name, item in value.items()))
        case _:
            return value


_extend: Any = validators.extend  # it ships no types
_Validator = _extend(Draft202012Validator, {"pattern": _pattern, "uniqueItems": _unique})
