"""What cannot fit a JSON Schema whatever happens, of a value whose parts are computed later."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from core.domain.frozen import frozen
from core.domain.workflow.expressions import Expression, Kind
from core.domain.workflow.json_schemas import LONGEST_COMPLAINT, JsonSchema
from core.domain.workflow.templates import Template
from core.domain.workflow.values import Value

if TYPE_CHECKING:
    from jsonschema import ValidationError

MOST_TOLD = 10

_EVERYTHING = frozenset({"null", "boolean", "object", "array", "integer", "number", "string"})
_TYPES: Mapping[Kind, frozenset[str]] = {
    **dict.fromkeys(("string", "reference", "date", "instant"), frozenset({"string"})),
    **dict.fromkeys(("integer", "number"), frozenset({"integer", "number"})),
    "boolean": frozenset({"boolean"}),
    "map": frozenset({"object"}),
    "list": frozenset({"array"}),
}
_OF_SHAPE = frozenset(
    {"type", "required", "additionalProperties", "propertyNames", "dependentRequired"}
    | {"minProperties", "maxProperties", "minItems", "maxItems"}
)
"""Keywords that look at names and numbers of parts, not at what they hold."""
_UNDECIDED = frozenset({"if", "then", "else", "contains"})
"""Keywords that apply depending on what parts hold."""


@frozen
class Later:
    """A part that is not known yet."""

    types: frozenset[str]
    """Of JSON: what it can be."""
    said: str

    def __repr__(self) -> str:
        return "…"


def misfits(schema: JsonSchema, value: Value | Any) -> list[tuple[str, str]]:
    """Return `(place, why)` for each thing that can never fit; a place is such as `.items[0].price`, or empty."""
    sample = _sample(value)
    told = []
    for error in schema.errors(sample):
        if _is_certain(error, sample):
            place = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in error.absolute_path)
            told.append((place, _why(error)[:LONGEST_COMPLAINT]))
    return sorted(set(told))[:MOST_TOLD]


def _sample(value: Any) -> Any:
    """Return a value with what is computed later in its place."""
    written = value.written if isinstance(value, Value) else value
    match written:
        case Expression():
            # Nothing comes out where what it reads is not there.
            return Later(_TYPES.get(written.kind, _EVERYTHING) | {"null"}, "a computed value")
        case Template():
            return Later(frozenset({"string"}), "text")
        case Mapping():
            return {key: _sample(item) for key, item in written.items()}
        case list():
            return [_sample(item) for item in written]
        case _:
            return written


def _is_certain(error: ValidationError, sample: Any) -> bool:
    instance = error.instance
    if isinstance(instance, Later):
        never = error.validator is None or (error.validator == "type" and instance.types.isdisjoint(_wanted(error)))
    else:
        never = error.validator in _OF_SHAPE or not any(_later(instance))
    return never and (_UNDECIDED.isdisjoint(map(str, error.absolute_schema_path)) or not any(_later(sample)))


def _wanted(error: ValidationError) -> list[str]:
    """Return the types that a schema wants."""
    wanted: Any = error.validator_value
    return [wanted] if isinstance(wanted, str) else list(wanted)


def _later(value: Any) -> Iterator[bool]:
    if isinstance(value, Later):
        yield True
    elif isinstance(value, Mapping | list):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _later(item)


def _why(error: ValidationError) -> str:
    instance = error.instance
    if error.validator != "type":
        return str(error.message)
    named = " or ".join(_wanted(error))
    if isinstance(instance, Later):
        return f"is {instance.said}, and the schema wants {named}"
    if isinstance(instance, Mapping | list):
        return f"is a {'map' if isinstance(instance, Mapping) else 'list'}, and the schema wants {named}"
    return str(error.message)
