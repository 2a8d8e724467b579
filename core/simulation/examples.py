"""A value that fits a JSON Schema, as far as its plain keywords go: what an agent might answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_DEEPEST = 20
_FORMATS = {
    "date-time": "2026-03-02T09:00:00Z",
    "date": "2026-03-02",
    "email": "ada@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example(schema: Any, point: float = 0.0) -> Any:
    """Return a value that a schema describes; of several it names, the one at a point from 0 to 1."""
    root = schema if isinstance(schema, Mapping) else {}
    return _value(root, root, point, 0)


def _value(schema: Any, root: Mapping[str, Any], point: float, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return None
    if "const" in schema:
        return schema["const"]
    for key in ("examples", "enum"):
        if isinstance(schema.get(key), list) and schema[key]:
            return schema[key][int(point * len(schema[key]))]
    if "default" in schema:
        return schema["default"]
    if isinstance(schema.get("$ref"), str):
        return _value(_referred(root, schema["$ref"]), root, point, depth + 1)
    for key in ("oneOf", "anyOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return _value(
                {**_without(schema, key), **schema[key][int(point * len(schema[key]))]}, root, point, depth + 1
            )
    if isinstance(schema.get("allOf"), list):
        merged = _without(schema, "allOf")
        for part in schema["allOf"]:
            merged |= part if isinstance(part, Mapping) else {}
        return _value(merged, root, point, depth + 1)
    return _of_type(_type(schema), schema, root, point, depth)


def _of_type(name: str, schema: Mapping[str, Any], root: Mapping[str, Any], point: float, depth: int) -> Any:
    match name:
        case "object":
            properties = schema.get("properties")
            known = properties if isinstance(properties, Mapping) else {}
            wanted = dict.fromkeys([*known, *schema.get("required", ())])
            return {key: _value(known.get(key, {"type": "string"}), root, point, depth + 1) for key in wanted}
        case "array":
            count = max(int(schema.get("minItems", 1)), 1) if schema.get("maxItems") != 0 else 0
            return [_value(schema.get("items", {"type": "string"}), root, point, depth + 1) for _ in range(count)]
        case "integer" | "number":
            return _number(schema, point, whole=name == "integer")
        case "boolean":
            return point < 0.5
        case "null":
            return None
        case _:
            return _text(schema)


def _type(schema: Mapping[str, Any]) -> str:
    named = schema.get("type")
    if isinstance(named, list):
        return str(next((one for one in named if one != "null"), "null"))
    if isinstance(named, str):
        return named
    return "object" if "properties" in schema else "array" if "items" in schema else "string"


def _number(schema: Mapping[str, Any], point: float, *, whole: bool) -> int | float:
    step = schema.get("multipleOf")
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    if least is None:
        least = 0 if most is None or most >= 0 else most
    if most is None:
        most = least + 1
    value: float = least + (most - least) * (0.25 + point / 2)
    if step:
        value = -(-value // step) * step
    return round(value) if whole else value


def _text(schema: Mapping[str, Any]) -> str:
    text = _FORMATS.get(str(schema.get("format")), "An example.")
    least, most = int(schema.get("minLength", 0)), schema.get("maxLength")
    text = text.ljust(least, ".")
    return text[: int(most)] if most is not None else text


def _referred(root: Mapping[str, Any], reference: str) -> Any:
    found: Any = root
    for name in reference.removeprefix("#").strip("/").split("/") if reference != "#" else ():
        found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, Mapping) else None
    return found


def _without(schema: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}
