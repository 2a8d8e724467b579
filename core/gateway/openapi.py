"""The contract as an OpenAPI 3.1 document, written from the same bindings that serve it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from google.protobuf.descriptor import Descriptor

from core.gateway import errors
from core.gateway.bindings import WHOLE, Binding
from core.gateway.paths import field_at
from core.gateway.schemas import Components, Schema, is_required
from core.gateway.values import message_type
from core.rpc.methods import ANY_KEY

_ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "status", "reason", "message", "hint", "request_id", "details"],
            "properties": {
                "code": {"type": "integer", "description": "The HTTP status."},
                "status": {"type": "string", "description": "The canonical status, such as NOT_FOUND."},
                "reason": {"type": "string", "description": "The machine reason, such as ETAG_MISMATCH."},
                "message": {"type": "string"},
                "hint": {"type": "string", "description": "What to do about it."},
                "request_id": {"type": "string"},
                "details": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["field", "reason", "message", "hint"],
                        "properties": {
                            **{name: {"type": "string"} for name in ("field", "reason", "message", "hint")},
                            "nearest": {
                                "type": "string",
                                "description": "The name, or the value, that was probably meant, where one is near.",
                            },
                        },
                    },
                },
            },
        }
    },
}
_BARE_ERROR: Schema = {
    "type": "object",
    "required": ["error"],
    "properties": {"error": {"type": "string"}},
}
_KEY_HEADER: Schema = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key and body get the first answer again, marked `Idempotent-Replayed: true`.",
    "schema": {"type": "string", "maxLength": 200},
}
_ETAG_HEADER: Schema = {
    "name": "If-Match",
    "in": "header",
    "description": "The etag this change was made for; a newer state answers 412.",
    "schema": {"type": "string"},
}


def document(bindings: Sequence[Binding]) -> dict[str, Any]:
    """Return the document of the routes."""
    components = Components()
    paths: dict[str, dict[str, Any]] = {}
    named: dict[str, int] = {}
    for binding in bindings:
        operation = _operation(binding, components)
        name = operation["operationId"]
        named[name] = named.get(name, 0) + 1
        if named[name] > 1:
            operation["operationId"] = f"{name}_{named[name]}"
        paths.setdefault(binding.template.plain, {})[binding.verb.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Dripstone", "version": _version()},
        "security": [{"api_key": []}],
        "paths": paths,
        "components": {
            "schemas": {**components.schemas, "Error": _ERROR, "BareError": _BARE_ERROR},
            "securitySchemes": {"api_key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(binding: Binding, components: Components) -> dict[str, Any]:
    method = binding.method
    operation: dict[str, Any] = {
        "operationId": method.name.replace(".", "_"),
        "tags": [method.descriptor.containing_service.name],
        "parameters": _parameters(binding, components),
        "responses": _responses(binding, components),
    }
    if method.scope != ANY_KEY:
        operation["x-required-scope"] = method.scope
    if binding.raw_body:
        content = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": content}
    elif binding.body:
        schema = _body(binding, components)
        operation["requestBody"] = {
            "required": bool(schema.get("required")),
            "content": {"application/json": {"schema": schema}},
        }
    return operation


def _body(binding: Binding, components: Components) -> Schema:
    request: Descriptor = binding.method.descriptor.input_type
    prefix = "" if binding.body == WHOLE else f"{binding.body}."
    message = request if binding.body == WHOLE else message_type(request.fields_by_name[binding.body])
    in_path = {path.removeprefix(prefix) for path in binding.template.variables if path.startswith(prefix)}
    return components.inline(message, frozenset(in_path)) | {"additionalProperties": False}


def _parameters(binding: Binding, components: Components) -> list[Schema]:
    request = binding.method.descriptor.input_type
    parameters: list[Schema] = [
        {"name": path, "in": "path", "required": True, "schema": components.field(field_at(request, path))}
        for path in binding.template.variables
    ]
    for parameter in {each.name: each for each in binding.query.values()}.values():
        required = is_required(parameter.field) and len(parameter.path) == 1
        schema = components.field(parameter.field)
        parameters.append({"name": parameter.name, "in": "query", "required": required, "schema": schema})
    if binding.method.key_field:
        parameters.append(_KEY_HEADER)
    if binding.etag:
        parameters.append(_ETAG_HEADER)
    return parameters


def _responses(binding: Binding, components: Components) -> dict[str, Any]:
    answer = binding.method.descriptor.output_type
    error = "BareError" if binding.template.text.startswith(errors.BARE) else "Error"
    refusal = {
        "description": "Refused; nothing was changed.",
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{error}"}}},
    }
    if answer.full_name == "google.protobuf.Empty":
        return {"204": {"description": "Done."}, "default": refusal}
    if binding.raw_answer:
        file = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
        return {str(binding.method.http_status): {"description": "The file.", "content": file}, "default": refusal}
    kind = "application/x-ndjson" if binding.method.streaming else "application/json"
    content = {kind: {"schema": components.reference(answer)}}
    return {str(binding.method.http_status): {"description": "Done.", "content": content}, "default": refusal}


def _version() -> str:
    try:
        return metadata.version("dripstone")
    except metadata.PackageNotFoundError:  # run from a clone that was never installed
        return "0"
