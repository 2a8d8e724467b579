"""The shape of a request, checked against the contract's own options before any handler sees it.

`field_behavior = REQUIRED`, `max_length` and `max_items` stand beside the fields they bind; one walk over the
descriptor enforces them. A general validator would cost more per call than the rest of the pipeline.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from google.api import field_behavior_pb2
from google.protobuf import struct_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from core.domain.errors import Invalid, Violation
from dripstone.v1 import options_pb2

_DEFAULT_LENGTH = 4096
_DEFAULT_ITEMS = 100
_STRUCT_BYTES = 262_144
_STRUCT_DEPTH = 32
_WELL_KNOWN = "google.protobuf."


def check(request: Message) -> None:
    """Refuse a request whose shape the contract forbids.

    Raises Invalid with every violation and its field path.
    """
    if found := problems(request):
        raise Invalid(*found)


def problems(message: Message, prefix: str = "") -> tuple[Violation, ...]:
    """Return everything the contract forbids in a message; handlers judge items of a batch with it, one by one."""
    return tuple(_violations(message, prefix))


@cache
def _rules(descriptor: Descriptor) -> tuple[tuple[FieldDescriptor, bool, int, int], ...]:
    rules = []
    for field in descriptor.fields:
        options = field.GetOptions()
        required = field_behavior_pb2.REQUIRED in options.Extensions[field_behavior_pb2.field_behavior]
        length = options.Extensions[options_pb2.max_length] or _DEFAULT_LENGTH
        items = options.Extensions[options_pb2.max_items] or _DEFAULT_ITEMS
        rules.append((field, required, length, items))
    return tuple(rules)


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def _violations(message: Message, prefix: str) -> Iterator[Violation]:
    for field, required, length, items in _rules(message.DESCRIPTOR):
        path = prefix + field.name
        value = getattr(message, field.name)
        if required and not (message.HasField(field.name) if field.has_presence else value):
            yield Violation(path, "REQUIRED", "is required and missing", f"Set {path}.")
        elif field.is_repeated:
            yield from _check_items(field, value, path, length, items)
        elif field.has_presence and not message.HasField(field.name):
            continue
        else:
            yield from _check_one(field, value, path, length)


def _check_items(field: FieldDescriptor, value: object, path: str, length: int, items: int) -> Iterator[Violation]:
    count = len(value)  # type: ignore[arg-type]
    if count > items:
        yield Violation(
            path, "TOO_MANY_ITEMS", f"has {count} items, at most {items} are accepted", "Send several calls."
        )
    elif not _is_map(field) and not field.GetOptions().Extensions[options_pb2.judged_singly]:
        for index, item in enumerate(value):  # type: ignore[arg-type, var-annotated]
            yield from _check_one(field, item, f"{path}[{index}]", length)


def _check_one(field: FieldDescriptor, value: object, path: str, length: int) -> Iterator[Violation]:
    if isinstance(value, str):
        if len(value) > length:
            yield Violation(path, "TOO_LONG", f"has {len(value)} characters, at most {length} are accepted")
        elif "\0" in value:  # PostgreSQL has none in text
            yield Violation(path, "NUL_CHARACTER", "has a NUL character", "Leave it out.")
    elif isinstance(value, struct_pb2.Struct):
        if value.ByteSize() > _STRUCT_BYTES:
            yield Violation(path, "TOO_LARGE", f"is larger than {_STRUCT_BYTES // 1024} KiB")
        elif _depth(value) > _STRUCT_DEPTH:
            yield Violation(path, "TOO_DEEP", f"is nested deeper than {_STRUCT_DEPTH} levels")
        elif b"\0" in value.SerializeToString() and _has_nul(value):
            yield Violation(path, "NUL_CHARACTER", "has a NUL character", "Leave it out.")
    elif field.enum_type is not None and isinstance(value, int):
        if value not in field.enum_type.values_by_number:
            names = ", ".join(entry.name for entry in field.enum_type.values if entry.number)
            yield Violation(path, "UNKNOWN_VALUE", f"{value} is not one of its values", f"Use one of {names}.")
    elif field.name == "page_size" and isinstance(value, int) and value < 0:
        yield Violation(path, "NEGATIVE", "must not be negative", "Leave it out for 50.")
    elif isinstance(value, Message) and not value.DESCRIPTOR.full_name.startswith(_WELL_KNOWN):
        yield from _violations(value, f"{path}.")


def _depth(struct: struct_pb2.Struct) -> int:
    deepest, stack = 0, [(value, 1) for value in struct.fields.values()]
    while stack:
        value, depth = stack.pop()
        deepest = max(deepest, depth)
        kind = value.WhichOneof("kind")
        if kind == "struct_value":
            stack.extend((item, depth + 1) for item in value.struct_value.fields.values())
        elif kind == "list_value":
            stack.extend((item, depth + 1) for item in value.list_value.values)
    return deepest


def _has_nul(struct: struct_pb2.Struct) -> bool:
    return "\\u0000" in MessageToJson(struct)
