"""The shape of a request, checked against the contract's own options before any handler sees it.

`field_behavior = REQUIRED`, `max_length` and `max_items` stand beside the fields they bind; one walk over the
descriptor enforces them. A general validator would cost more per call than the rest of the pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from itertools import islice

from google.api import field_behavior_pb2
from google.protobuf import duration_pb2, struct_pb2, timestamp_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from core.domain.errors import Invalid, Violation
from dripstone.v1 import options_pb2

_DEFAULT_LENGTH = 4096
_DEFAULT_ITEMS = 100
_STRUCT_BYTES = 262_144
_STRUCT_DEPTH = 32
_STRUCT_FAULTS = 10
_SHOWN_KEY = 100
_LONGEST_DURATION = 315_576_000_000  # ten thousand years, protobuf's own limit
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799  # the years 1 and 9999
_NANOS = 1_000_000_000
_WELL_KNOWN = "google.protobuf."

_FreeForm = struct_pb2.Struct | struct_pb2.ListValue | struct_pb2.Value
_Way = tuple[str | int, ...]


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
    if isinstance(value, Message):
        yield from _check_message(value, path)
    elif isinstance(value, str):
        if len(value) > length:
            yield Violation(path, "TOO_LONG", f"has {len(value)} characters, at most {length} are accepted")
        elif "\0" in value:
            yield _nul(path)
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield _not_finite(path)
    elif field.enum_type is not None and isinstance(value, int):
        if value not in field.enum_type.values_by_number:
            names = ", ".join(entry.name for entry in field.enum_type.values if entry.number)
            yield Violation(path, "UNKNOWN_VALUE", f"{value} is not one of its values", f"Use one of {names}.")
    elif field.name == "page_size" and isinstance(value, int) and value < 0:
        yield Violation(path, "NEGATIVE", "must not be negative", "Leave it out for 50.")


def _check_message(message: Message, path: str) -> Iterator[Violation]:
    match message:
        case struct_pb2.Struct() | struct_pb2.ListValue() | struct_pb2.Value():
            if message.ByteSize() > _STRUCT_BYTES:
                yield Violation(path, "TOO_LARGE", f"is larger than {_STRUCT_BYTES // 1024} KiB")
            else:
                yield from islice(_free_form(message, path), _STRUCT_FAULTS)
        case duration_pb2.Duration():
            if not _is_duration(message):
                yield Violation(path, "OUT_OF_RANGE", "is not a duration of at most 10,000 years")
        case timestamp_pb2.Timestamp():
            if not (_FIRST_SECOND <= message.seconds <= _LAST_SECOND and 0 <= message.nanos < _NANOS):
                yield Violation(path, "OUT_OF_RANGE", "is not an instant of the years 1 to 9999")
        case _:
            if not message.DESCRIPTOR.full_name.startswith(_WELL_KNOWN):
                yield from _violations(message, f"{path}.")


def _is_duration(duration: duration_pb2.Duration) -> bool:
    in_range = abs(duration.seconds) <= _LONGEST_DURATION and abs(duration.nanos) < _NANOS
    return in_range and duration.seconds * duration.nanos >= 0  # both parts point the same way


def _free_form(root: _FreeForm, path: str) -> Iterator[Violation]:
    """Yield what no database keeps in one walk; the way to a value becomes a path only when something is wrong."""
    stack: list[tuple[_FreeForm, _Way]] = [(root, ())]
    while stack:
        value, way = stack.pop()
        if len(way) > _STRUCT_DEPTH:
            at = _path(path, way[:1])
            yield Violation(at, "TOO_DEEP", f"is nested deeper than {_STRUCT_DEPTH} levels", "Flatten it.")
            return
        inner: object = value
        if isinstance(value, struct_pb2.Value):
            kind = value.WhichOneof("kind")
            inner = getattr(value, kind) if kind else None
        match inner:
            case struct_pb2.Struct():
                for key, item in inner.fields.items():
                    if "\0" in key:
                        yield _nul(_path(path, (*way, key)))
                    stack.append((item, (*way, key)))
            case struct_pb2.ListValue():
                stack.extend((item, (*way, index)) for index, item in enumerate(inner.values))
            case str() if "\0" in inner:
                yield _nul(_path(path, way))
            case float() if not math.isfinite(inner):
                yield _not_finite(_path(path, way))


def _path(path: str, way: _Way) -> str:
    for part in way:
        path += f"[{part}]" if isinstance(part, int) else "." + part[:_SHOWN_KEY].replace("\0", "\\0")
    return path


def _nul(path: str) -> Violation:
    return Violation(path, "NUL_CHARACTER", "has a NUL character", "Leave it out.")  # PostgreSQL has none in text


def _not_finite(path: str) -> Violation:
    return Violation(path, "NOT_FINITE", "is not a finite number, which JSON cannot carry", "Leave it out.")
