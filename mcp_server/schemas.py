"""What a tool's schema says of a place in its arguments, and what stands there until somebody knows it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_PLACEHOLDERS: dict[str, Any] = {
    "email": "<e-mail>",
    "contacts": [{"email": "<e-mail>"}],
    "input": {"email": "<e-mail>"},
    "fields": {"<field>": "<value>"},
    "output": {"<field>": "<value>"},
}


def schema_at(schema: Mapping[str, Any], path: Sequence[Any]) -> Mapping[str, Any]:
    """Return the schema of a place in the arguments; an empty one where it says nothing."""
    here: Mapping[str, Any] = schema
    for part in path:
        inner = here.get("items", {}) if isinstance(part, int) else here.get("properties", {}).get(part, {})
        here = _resolved(inner, schema)
    return here


def object_at(schema: Mapping[str, Any], path: Sequence[Any]) -> Mapping[str, Any]:
    """Return the schema of the object at a place; an empty one where none is described."""
    here = schema_at(schema, path)
    return here if "properties" in here else {}


def _resolved(here: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "anyOf" in here:
        here = next((one for one in here["anyOf"] if "$ref" in one), here)
    if "$ref" in here:
        found: Mapping[str, Any] = schema.get("$defs", {}).get(here["$ref"].rpartition("/")[2], {})
        return found
    return here


def placeholder(argument: str) -> Any:
    """Return what stands for a value that only the caller can know."""
    return copy.deepcopy(_PLACEHOLDERS.get(argument, f"<{argument}>"))


def blank(name: str, here: Mapping[str, Any]) -> Any:
    """Return what stands for a value of a schema until somebody knows it."""
    if "enum" in here:
        return one_of(here["enum"])
    match here.get("type"):
        case "integer" | "number":
            least = here.get("minimum", 0)
            return (least + here["maximum"]) / 2 if here["type"] == "number" and "maximum" in here else least
        case "boolean":
            return False
        case "object" if here.get("required"):
            return {inner: blank(inner, here["properties"].get(inner, {})) for inner in here["required"]}
        case "array" if name not in _PLACEHOLDERS:
            return []
    return placeholder(name)


def one_of(choices: Iterable[str]) -> str:
    """Return what stands for a choice."""
    return f"<{'|'.join(choices)}>"


def outline(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return of an answer's schema what a program unpacks: `next`, and what is always there and no plain text."""
    always = {name: part for name, part in schema.get("properties", {}).items() if name in schema.get("required", ())}
    typed = {name: "object" if "$ref" in part else part.get("type") for name, part in always.items()}
    parts = {name: {"type": kind} for name, kind in typed.items() if kind not in (None, "string")}
    return {"type": "object", "properties": {**parts, "next": {"type": "string"}}}


def slim(schema: Any, *, names: bool = False) -> Any:
    """Drop from a schema what no model needs: titles, empty defaults, how long a text may be (a refusal says so)."""
    if isinstance(schema, list):
        return [slim(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: slim(value, names=key in ("properties", "$defs"))
        for key, value in schema.items()
        if names or not _says_nothing(key, value)
    }


def _says_nothing(key: str, value: Any) -> bool:
    match key:
        case "title" | "maxLength":
            return True
        case "default":
            return value in ("", {}, [], None, False)
        case "additionalProperties":
            return value is True
        case _:
            return False
