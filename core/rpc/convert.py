"""Between protobuf's own types and Python's, in one place each way."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.struct_pb2 import NULL_VALUE, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

_EXACT = 2**53
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_value(value: Any) -> Value:
    """Return a JSON-like value as a protobuf Value; instants become ISO 8601 text."""
    told = Value()
    _tell(told, value)
    return told


def to_struct(mapping: Mapping[str, Any]) -> Struct:
    """Return a mapping as a protobuf Struct."""
    told = Struct()
    _fill(told, mapping)
    return told


def _fill(told: Struct, mapping: Mapping[str, Any]) -> None:
    """Fill in place: messages that are made apart are copied into those around them."""
    fields = told.fields
    for key, value in mapping.items():
        _tell(fields[key], value)


def _tell(told: Value, value: Any) -> None:
    match value:
        case str():
            told.string_value = value
        case None:
            told.null_value = NULL_VALUE
        case bool():
            told.bool_value = value
        case int() | float():
            told.number_value = value
        case datetime():
            told.string_value = value.isoformat()
        case Mapping():
            told.struct_value.SetInParent()  # an empty one is there, too
            _fill(told.struct_value, value)
        case list() | tuple():
            told.list_value.SetInParent()
            for item in value:
                _tell(told.list_value.values.add(), item)
        case _:
            told.string_value = str(value)


def from_value(value: Value) -> Any:
    """Return a protobuf Value as Python has it; whole numbers below 2^53 become int."""
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < _EXACT else number
        case "string_value":
            return value.string_value
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [from_value(item) for item in value.list_value.values]
        case _:
            return None


def from_struct(struct: Struct) -> dict[str, Any]:
    """Return a protobuf Struct as a dict; larger integers must travel as strings."""
    return {key: from_value(value) for key, value in struct.fields.items()}


def to_timestamp(instant: datetime | None) -> Timestamp | None:
    """Return an instant as a Timestamp; None stays None, which leaves a field unset."""
    if instant is None:
        return None
    since = instant - _EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def from_timestamp(timestamp: Timestamp) -> datetime:
    """Return a Timestamp as an aware instant in UTC."""
    return timestamp.ToDatetime(UTC)


def to_duration(seconds: float) -> Duration:
    """Return seconds as a Duration."""
    duration = Duration()
    duration.FromTimedelta(timedelta(seconds=seconds))
    return duration
