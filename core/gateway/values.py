"""One JSON value for one field of a message: checked, converted, refused with its path."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from core.domain.nearest import did_you_mean
from core.gateway import enums
from core.gateway.problems import Problems

REFUSED = object()
"""What a converter returns when it has noted a problem."""

Convert = Callable[[Any, str, Problems], Any]
Fill = Callable[[Any, Any, str, Problems], None]

_EXACT = 2**53
_DEEPEST = 100  # the contract's own limit is lower; this one keeps the walk off Python's stack limit
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_DECIMAL = re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,19})?([eE][+-]?[0-9]{1,3})?")
_SAID = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}


class Repeating(dict[str, Any]):
    """A JSON object that gives some names twice; which value was meant nobody can tell."""

    __slots__ = ("twice",)

    def __init__(self, values: dict[str, Any], twice: tuple[str, ...]):
        super().__init__(values)
        self.twice = twice


def said(value: Any) -> str:
    """Return what a JSON value is, in words."""
    return "an object" if isinstance(value, dict) else _SAID.get(type(value), "a number")


def note_repeats(value: dict[str, Any], prefix: str, problems: Problems) -> None:
    """Note the names that an object gives twice."""
    if isinstance(value, Repeating):
        for name in value.twice:
            problems.add(prefix + name, "GIVEN_TWICE", "is given twice", "Give it once.")


def text(value: Any, path: str, problems: Problems) -> Any:
    """Return a text that can be encoded: JSON can escape half a surrogate pair, UTF-8 cannot hold one."""
    if type(value) is not str:
        problems.add(path, "WRONG_TYPE", f"must be text, not {said(value)}", "Put it in quotes.")
        return REFUSED
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            problems.add(path, "INVALID_TEXT", "has half of a surrogate pair", "Send the whole character.")
            return REFUSED
    return value


def octets(value: Any, path: str, problems: Problems) -> Any:
    """Return bytes, which JSON carries in base 64."""
    try:
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError):
        problems.add(path, "NOT_BASE64", "is not bytes in base 64", "Encode them with the standard alphabet.")
        return REFUSED


def truth(value: Any, path: str, problems: Problems) -> Any:
    """Return a boolean."""
    if type(value) is bool:
        return value
    problems.add(path, "WRONG_TYPE", f"must be true or false, not {said(value)}", "Write true or false.")
    return REFUSED


def whole_number(bits: int) -> Convert:
    """Return the converter of signed integers; those of 64 bits may come as text, as JSON numbers lose their end."""
    limit = 1 << (bits - 1)

    def convert(value: Any, path: str, problems: Problems) -> Any:
        if bits > 32 and type(value) is str and _WHOLE.fullmatch(value):
            value = int(value)
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            wrong = "a fraction" if type(value) is float else said(value)
            problems.add(path, "WRONG_TYPE", f"must be a whole number, not {wrong}", "Write digits without quotes.")
            return REFUSED
        if not -limit <= value < limit:
            problems.add(path, "OUT_OF_RANGE", f"must be between {-limit} and {limit - 1}")
            return REFUSED
        return value

    return convert


def decimal(value: Any, path: str, problems: Problems) -> Any:
    """Return a finite number."""
    if type(value) not in (int, float):
        problems.add(path, "WRONG_TYPE", f"must be a number, not {said(value)}", "Write it without quotes.")
        return REFUSED
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        problems.add(path, "OUT_OF_RANGE", "is too large a number")
        return REFUSED
    return number


def choice(enum: EnumDescriptor) -> Convert:
    """Return the converter of an enum's names, short or full, in any case."""
    known, listed = enums.numbers(enum), enums.choices(enum)

    def convert(value: Any, path: str, problems: Problems) -> Any:
        if type(value) is str and (number := known.get(value.lower())) is not None:
            return number
        one_of = f"Use one of {', '.join(listed)}."
        if type(value) is not str:
            problems.add(path, "WRONG_TYPE", f"must be a name, not {said(value)}", one_of)
        else:
            hint = did_you_mean(value[:100], listed, one_of)
            problems.add(path, "UNKNOWN_VALUE", "is not one of its values", hint)
        return REFUSED

    return convert


def converter(field: FieldDescriptor) -> Convert:
    """Return the converter of a field that is not a message. Raises ValueError for a type the contract never used."""
    if field.enum_type is not None:
        return choice(field.enum_type)
    match field.cpp_type:
        case FieldDescriptor.CPPTYPE_STRING:
            return text if field.type == FieldDescriptor.TYPE_STRING else octets
        case FieldDescriptor.CPPTYPE_BOOL:
            return truth
        case FieldDescriptor.CPPTYPE_INT32:
            return whole_number(32)
        case FieldDescriptor.CPPTYPE_INT64:
            return whole_number(64)
        case FieldDescriptor.CPPTYPE_DOUBLE:
            return decimal
    raise ValueError(f"{field.full_name} has a type that HTTP callers cannot send yet")


def from_text(field: FieldDescriptor) -> Convert:
    """Return the converter of a field's values as a path or a query gives them."""
    convert = converter(field)
    if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        words = {"true": True, "false": False}
        return lambda value, path, problems: convert(words.get(value, value), path, problems)
    if field.cpp_type in (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64):
        return lambda value, path, problems: convert(int(value) if _WHOLE.fullmatch(value) else value, path, problems)
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return lambda value, path, problems: convert(
            float(value) if _DECIMAL.fullmatch(value) else value, path, problems
        )
    return convert


def fill_timestamp(target: Timestamp, value: Any, path: str, problems: Problems) -> None:
    """Set an instant from RFC 3339 text."""
    try:
        target.FromJsonString(value if type(value) is str else "")
    except (ValueError, OverflowError):
        example = "Write it as 2026-03-02T09:00:00Z or with an offset such as +01:00."
        problems.add(path, "INVALID_TIME", "is not an instant in RFC 3339 form", example)


def fill_duration(target: Duration, value: Any, path: str, problems: Problems) -> None:
    """Set a duration from seconds with an `s`."""
    try:
        target.FromJsonString(value if type(value) is str else "")
    except (ValueError, OverflowError):
        problems.add(path, "INVALID_DURATION", "is not a duration", "Write seconds with an s, such as 3600s or 0.5s.")


def fill_mask(target: FieldMask, value: Any, path: str, problems: Problems) -> None:
    """Set a field mask from names in a list or with commas between; names stay as they are written."""
    names = value.split(",") if type(value) is str else value
    if type(names) is not list:
        problems.add(path, "WRONG_TYPE", f"must be field names, not {said(value)}", "Write them as tier,custom.plan.")
        return
    target.SetInParent()
    for index, name in enumerate(names):
        checked = text(name, f"{path}[{index}]", problems)
        if checked is not REFUSED and checked.strip():
            target.paths.append(checked.strip())


def fill_struct(target: Struct, value: Any, path: str, problems: Problems, depth: int = 1) -> None:
    """Set free-form fields from an object."""
    if not isinstance(value, dict):
        problems.add(path, "WRONG_TYPE", f"must be an object, not {said(value)}", 'Write it as {"name": value}.')
        return
    if depth > _DEEPEST:
        problems.add(path, "TOO_DEEP", f"is nested deeper than {_DEEPEST} levels")
        return
    target.SetInParent()
    note_repeats(value, f"{path}.", problems)
    for name, item in value.items():
        inner = f"{path}.{name}"
        if text(name, inner, problems) is not REFUSED:
            fill_value(target.fields[name], item, inner, problems, depth + 1)


def fill_value(target: Value, value: Any, path: str, problems: Problems, depth: int = 1) -> None:
    """Set a free-form value; whole numbers that a double cannot hold exactly are refused, never rounded."""
    kind = type(value)
    if kind is str:
        if text(value, path, problems) is not REFUSED:
            target.string_value = value
    elif value is None:
        target.null_value = 0  # type: ignore[assignment]
    elif kind is bool:
        target.bool_value = value
    elif kind is int and abs(value) > _EXACT:
        problems.add(path, "OUT_OF_RANGE", "is a whole number above 2^53, which JSON cannot carry", "Send it as text.")
    elif kind in (int, float):
        number = decimal(value, path, problems)
        if number is not REFUSED:
            target.number_value = number
    elif kind is list:
        fill_list(target.list_value, value, path, problems, depth)
    else:
        fill_struct(target.struct_value, value, path, problems, depth)


def fill_list(target: ListValue, value: Any, path: str, problems: Problems, depth: int = 1) -> None:
    """Set a free-form list."""
    if type(value) is not list:
        problems.add(path, "WRONG_TYPE", f"must be a list, not {said(value)}", "Write it in square brackets.")
        return
    if depth > _DEEPEST:
        problems.add(path, "TOO_DEEP", f"is nested deeper than {_DEEPEST} levels")
        return
    target.SetInParent()
    for index, item in enumerate(value):
        fill_value(target.values.add(), item, f"{path}[{index}]", problems, depth + 1)


WELL_KNOWN: dict[str, Fill] = {
    Timestamp.DESCRIPTOR.full_name: fill_timestamp,
    Duration.DESCRIPTOR.full_name: fill_duration,
    FieldMask.DESCRIPTOR.full_name: fill_mask,
    Struct.DESCRIPTOR.full_name: fill_struct,
    Value.DESCRIPTOR.full_name: fill_value,
    ListValue.DESCRIPTOR.full_name: fill_list,
}
"""Protobuf's own types, which JSON writes in forms of their own."""


def message_type(field: FieldDescriptor) -> Descriptor:
    """Return the message type of a field that has one."""
    kind = field.message_type
    assert kind is not None, f"{field.full_name} is not a message"
    return kind


def is_map(field: FieldDescriptor) -> bool:
    """Tell whether a field is a map."""
    return field.message_type is not None and field.message_type.GetOptions().map_entry
