"""Messages as JSON: snake_case names, short enum values, every field without presence shown, whole numbers whole."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from core.gateway import enums
from core.gateway.values import is_map, message_type
from core.rpc.convert import from_struct, from_value

Write = Callable[[Any], Any]


def _in_order(value: Any) -> Any:
    """Return a free-form value with its names sorted: maps have no order, and equal answers should be equal."""
    if type(value) is dict:
        return {name: _in_order(value[name]) for name in sorted(value)}
    return [_in_order(item) for item in value] if type(value) is list else value


_WELL_KNOWN: dict[str, Write] = {
    "google.protobuf.Timestamp": lambda instant: instant.ToJsonString(),
    "google.protobuf.Duration": lambda duration: duration.ToJsonString(),
    "google.protobuf.FieldMask": lambda mask: ",".join(mask.paths),
    "google.protobuf.Struct": lambda struct: _in_order(from_struct(struct)),
    "google.protobuf.Value": lambda value: _in_order(from_value(value)),
    "google.protobuf.ListValue": lambda items: [_in_order(from_value(item)) for item in items.values],
}


def to_json(message: Message) -> dict[str, Any]:
    """Return a message as a JSON object. A field that can be absent, such as a time, is left out when it is."""
    written = {}
    for name, optional, write in _plan(message.DESCRIPTOR):
        if not optional or message.HasField(name):
            value = getattr(message, name)
            written[name] = value if write is None else write(value)
    return written


def to_bytes(message: Message) -> bytes:
    """Return a message as JSON text in UTF-8."""
    return json.dumps(to_json(message), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


@cache
def _plan(descriptor: Descriptor) -> tuple[tuple[str, bool, Write | None], ...]:
    return tuple((field.name, field.has_presence, _writer(field)) for field in descriptor.fields)


def _writer(field: FieldDescriptor) -> Write | None:
    """Return how to write a field's value; None where it is JSON already."""
    if is_map(field):
        write_item = _item_writer(message_type(field).fields_by_name["value"])
        return lambda entries: {
            key: entries[key] if write_item is None else write_item(entries[key]) for key in sorted(entries)
        }
    write = _item_writer(field)
    if not field.is_repeated:
        return write
    return list if write is None else lambda items: [write(item) for item in items]


def _item_writer(field: FieldDescriptor) -> Write | None:
    if field.message_type is not None:
        well_known = _WELL_KNOWN.get(field.message_type.full_name)
        return to_json if well_known is None else well_known
    if field.enum_type is not None:
        names = enums.short_names(field.enum_type)
        return lambda number: names.get(number, number)
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return lambda number: number if math.isfinite(number) else None
    if field.cpp_type == FieldDescriptor.CPPTYPE_INT64:
        return str  # a JSON number would lose the end of a large one
    if field.type == FieldDescriptor.TYPE_BYTES:
        return lambda octets: base64.b64encode(octets).decode()
    return None
