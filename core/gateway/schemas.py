"""JSON Schemas of the contract's messages, as OpenAPI 3.1 embeds them."""

from __future__ import annotations

from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from core.gateway import enums
from core.gateway.values import is_map, message_type
from dripstone.v1 import options_pb2

Schema = dict[str, Any]

WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?\d+(\.\d+)?s$"},
    "google.protobuf.FieldMask": {"type": "string", "description": "Field names with commas between."},
    "google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    "google.protobuf.Value": {},
    "google.protobuf.ListValue": {"type": "array", "items": {}},
}
_SCALARS: dict[int, Schema] = {
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer", "format": "int32"},
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "format": "int64"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number", "format": "double"},
}


class Components:
    """The message schemas that have been referred to, by name."""

    def __init__(self) -> None:
        self.schemas: dict[str, Schema] = {}

    def reference(self, message: Descriptor) -> Schema:
        """Return a reference to a message, adding its schema on the first one."""
        if message.name not in self.schemas:
            self.schemas[message.name] = {}  # a message that contains itself finds this and stops
            self.schemas[message.name] = self.inline(message)
        return {"$ref": f"#/components/schemas/{message.name}"}

    def inline(self, message: Descriptor, without: frozenset[str] = frozenset()) -> Schema:
        """Return a message's schema in place, leaving out the fields that stand elsewhere in the request."""
        fields = [field for field in message.fields if field.name not in without]
        schema: Schema = {"type": "object", "properties": {field.name: self.field(field) for field in fields}}
        if required := [field.name for field in fields if is_required(field)]:
            schema["required"] = required
        return schema

    def field(self, field: FieldDescriptor) -> Schema:
        """Return the schema of a field's value."""
        if is_map(field):
            return {"type": "object", "additionalProperties": self._one(message_type(field).fields_by_name["value"])}
        if not field.is_repeated:
            return self._one(field)
        schema: Schema = {"type": "array", "items": self._one(field)}
        if most := field.GetOptions().Extensions[options_pb2.max_items]:
            schema["maxItems"] = most
        return schema

    def _one(self, field: FieldDescriptor) -> Schema:
        if field.message_type is not None:
            return WELL_KNOWN.get(field.message_type.full_name) or self._message(field.message_type)
        if field.enum_type is not None:
            return {"type": "string", "enum": list(enums.short_names(field.enum_type).values())}
        schema = dict(_SCALARS[field.cpp_type])
        if field.type == FieldDescriptor.TYPE_BYTES:
            return schema | {"contentEncoding": "base64"}
        if most := field.GetOptions().Extensions[options_pb2.max_length]:
            schema["maxLength"] = most
        return schema

    def _message(self, message: Descriptor) -> Schema:
        return {} if message.full_name in WELL_KNOWN else self.reference(message)


def is_required(field: FieldDescriptor) -> bool:
    """Tell whether the contract demands a field."""
    return field_behavior_pb2.REQUIRED in field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
