"""Everything that keeps a value from fitting a JSON Schema, in our own words, each with its place and its way out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core.domain.articles import with_article
from core.domain.errors import Violation
from core.domain.nearest import did_you_mean
from core.domain.workflow.json_schemas import JsonSchema

if TYPE_CHECKING:
    from jsonschema import ValidationError

MOST = 20
"""Complaints about one value; whoever meets more begins anew."""

_REASON = "SCHEMA_VIOLATION"
_KINDS = {"object": "object", "array": "list", "string": "text", "integer": "whole number", "null": "null"}
_BOUNDS = {
    "minimum": "must be at least {}",
    "maximum": "must be at most {}",
    "exclusiveMinimum": "must be more than {}",
    "exclusiveMaximum": "must be less than {}",
    "multipleOf": "must be a multiple of {}",
    "minLength": "must have at least {} characters",
    "maxLength": "must have at most {} characters",
    "minItems": "must have at least {} items",
    "maxItems": "must have at most {} items",
    "minProperties": "must have at least {} members",
    "maxProperties": "must have at most {} members",
    "pattern": "must match {}",
    "format": "must be of the format {}",
    "const": "must be {}",
}
_HINT = "Make it fit the schema."


def complaints(schema: JsonSchema, value: Any, path: str, hint: str = _HINT) -> tuple[Violation, ...]:
    """Return what is wrong with a value, the first few; none where it fits."""
    told = schema.misfit(value)  # the bounds of a check are its own complaint
    if not told:
        return ()
    found: dict[tuple[str, str], Violation] = {}
    for error in schema.errors(value):
        for one in _told(error, path + error.json_path.removeprefix("$"), hint):
            found.setdefault((one.field, one.message), one)
        if len(found) >= MOST:
            break
    return tuple(found.values())[:MOST] or (Violation(path, _REASON, told, hint),)


def _told(error: ValidationError, path: str, hint: str) -> Iterator[Violation]:
    wanted: Any = error.validator_value
    instance: Any = error.instance
    match error.validator:
        case "required":
            for name in wanted:
                if name not in instance:
                    yield Violation(f"{path}.{name}", _REASON, "is required", hint)
        case "additionalProperties" if isinstance(error.schema, Mapping):
            known = list(error.schema.get("properties", {}))
            for name in instance:
                if name not in known:
                    way_out = did_you_mean(name[:100], known) or hint
                    yield Violation(f"{path}.{name[:100]}", "UNKNOWN_KEY", "is not asked for", way_out)
        case "enum":
            choices = ", ".join(map(str, wanted[:20])) + (", …" if len(wanted) > 20 else "")
            near = did_you_mean(str(instance)[:100], [one for one in wanted if isinstance(one, str)])
            yield Violation(path, _REASON, f"must be one of {choices}", near or hint)
        case "type":
            kinds = [_KINDS.get(one, one) for one in ([wanted] if isinstance(wanted, str) else wanted)]
            yield Violation(path, _REASON, f"must be {' or '.join(map(_with_article, kinds))}", hint)
        case keyword if keyword in _BOUNDS:
            yield Violation(path, _REASON, _BOUNDS[str(keyword)].format(wanted)[:300], hint)
        case keyword:
            yield Violation(path, _REASON, f"does not hold what `{keyword}` of the schema asks for", hint)


def _with_article(kind: str) -> str:
    return kind if kind in ("null", "text") else with_article(kind)
