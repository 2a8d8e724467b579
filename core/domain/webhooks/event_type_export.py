"""Event types as the `webhooks` of an OpenAPI 3.1 document, so that tools can write receivers and check them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from core.domain.webhooks.event_types import EventType

Told = tuple[EventType, tuple[str, ...]]
"""A type, and what its newest version breaks."""

_PLAIN_DATA = ("enum", "const", "default", "examples")
_NAMES_TO_SCHEMAS = ("properties", "$defs", "definitions", "dependentSchemas")
_AT_THE_ROOT = ("$id", "$schema")
_HEADERS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    (
        "webhook-id",
        "The message; the same in every attempt and replay, so that a receiver can drop what it has seen.",
        {"type": "string", "examples": ["msg_01JNB6Z0M8V4D5T2QK7XA3R9EC"]},
    ),
    (
        "webhook-timestamp",
        "Seconds since 1970 of this attempt; refuse what is more than five minutes off.",
        {"type": "string", "pattern": "^[0-9]+$", "examples": ["1772442000"]},
    ),
    (
        "webhook-signature",
        "One or more signatures, separated by single spaces: `v1,` and the base64 of HMAC-SHA256 over "
        "`{webhook-id}.{webhook-timestamp}.{body}`, keyed with what the endpoint's secret says after `whsec_`.",
        {"type": "string", "pattern": "^v1a?,[A-Za-z0-9+/=]+( v1a?,[A-Za-z0-9+/=]+)*$"},
    ),
    (
        "webhook-sequence",
        "Position among the endpoint's messages, from 1 and without gaps.",
        {"type": "string", "pattern": "^[0-9]+$"},
    ),
)
_RESPONSES: Mapping[str, Any] = {
    "2XX": {"description": "Received. The body is kept where a workflow waits for it."},
    "410": {"description": "Not wanted any more: the endpoint is turned off."},
    "default": {"description": "Not received: sent again on the endpoint's schedule, no earlier than Retry-After."},
}


def document(types: Iterable[Told]) -> dict[str, Any]:
    """Return the document."""
    told = list(types)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dripstone webhooks",
            "version": "1",
            "description": "What endpoints are sent, in the standard form of the body. Ignore fields you do not know.",
        },
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "webhooks": {event_type.name: {"post": _operation(event_type, breaks)} for event_type, breaks in told},
        "components": {
            "parameters": {name: _header(name, says, schema) for name, says, schema in _HEADERS},
            "schemas": {event_type.name: _data_schema(event_type) for event_type, _ in told},
        },
    }


def _header(name: str, says: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    required = name != "webhook-sequence"
    return {"name": name, "in": "header", "required": required, "description": says, "schema": dict(schema)}


def _operation(event_type: EventType, breaks: tuple[str, ...]) -> dict[str, Any]:
    body = {
        "type": "object",
        "required": ["type", "timestamp", "data"],
        "properties": {
            "type": {"const": event_type.name},
            "timestamp": {"type": "string", "format": "date-time", "description": "When it happened."},
            "data": {"$ref": f"#/components/schemas/{event_type.name}"},
        },
    }
    operation: dict[str, Any] = {
        "operationId": event_type.name.replace(".", "_"),
        "tags": [event_type.name.partition(".")[0]],
        "summary": event_type.description or event_type.name,
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name, _, _ in _HEADERS],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {code: dict(response) for code, response in _RESPONSES.items()},
        "x-event-type-version": event_type.version,
    }
    if breaks:
        operation["x-breaking-changes"] = list(breaks)
    return operation


def _data_schema(event_type: EventType) -> dict[str, Any]:
    """Return a type's schema as a component: what it refers to in itself is found from the document's root."""
    plain = {key: value for key, value in event_type.schema.items() if key not in _AT_THE_ROOT}
    moved: dict[str, Any] = _moved(plain, f"#/components/schemas/{event_type.name}")
    return moved


def _moved(schema: Any, root: str) -> Any:
    if isinstance(schema, list):
        return [_moved(one, root) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    found: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "$ref" and isinstance(value, str) and value.startswith("#"):
            found[key] = root + value[1:]
        elif key in _NAMES_TO_SCHEMAS and isinstance(value, Mapping):
            found[key] = {name: _moved(one, root) for name, one in value.items()}
        else:
            found[key] = value if key in _PLAIN_DATA else _moved(value, root)
    return found
