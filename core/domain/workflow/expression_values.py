"""Values on their way into the CEL engine and out of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

from core.domain.workflow.storable import storable_text

LARGEST_INPUT = 10_000
"""Values in one variable, all the nested ones counted."""
DEEPEST_INPUT = 64

_LARGEST_INTEGER = 2**63
_SIMPLE = frozenset({type(None), str, bool, float})


class TooLarge(Exception):
    """A value holds more than the engine is given."""


def converter(kind: str, keys: frozenset[str] | None) -> Callable[[Any], Any]:
    """Return how values of a kind become the engine's; of a map only `keys`, where that is all that is looked at."""
    if kind in ("instant", "date"):
        return as_instant
    if kind == "number":
        return _number
    if kind == "integer":
        return _integer
    if keys is not None:
        return lambda value: _part(value, keys, kind)
    return _map if kind == "map" else _any


def _number(value: Any) -> Any:
    if type(value) is int and abs(value) < _LARGEST_INTEGER:
        return float(value)
    return value if type(value) is float else _any(value)


def _integer(value: Any) -> Any:
    if type(value) is float and value.is_integer() and abs(value) < _LARGEST_INTEGER:
        return int(value)
    return _any(value)


def _map(value: Any) -> Any:
    return {} if value is None else _any(value)


def _part(value: Any, keys: frozenset[str], kind: str) -> Any:
    if type(value) is dict or isinstance(value, Mapping):
        room = [LARGEST_INPUT]
        part = {}
        for key in keys:
            if key in value:
                item = value[key]
                part[key] = item if type(item) in _SIMPLE else _plain(item, room, 0)
        return part
    return _map(value) if kind == "map" else _any(value)


def weight(value: Any) -> int:
    """Return how many values are nested in a value of the engine."""
    if type(value) is dict:
        value = value.values()
    elif type(value) is not list:
        return 0
    return len(value) + sum([weight(item) for item in value if type(item) not in _SIMPLE])


def _any(value: Any) -> Any:
    kind = type(value)
    if kind in _SIMPLE or (kind is int and -_LARGEST_INTEGER <= value < _LARGEST_INTEGER):
        return value
    return _plain(value, [LARGEST_INPUT], 0)


def _plain(value: Any, room: list[int], depth: int) -> Any:
    match value:
        case None | bool() | str() | float():
            return value
        case int():
            return value if -_LARGEST_INTEGER <= value < _LARGEST_INTEGER else _huge(value)
        case datetime() | date():
            return value.isoformat()
        case Mapping() | list() | tuple():
            room[0] -= len(value)
            if room[0] < 0 or depth > DEEPEST_INPUT:
                raise TooLarge
            if isinstance(value, Mapping):
                return {str(key): _plain(item, room, depth + 1) for key, item in value.items()}
            return [_plain(item, room, depth + 1) for item in value]
        case _:
            return str(value)


def _huge(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def as_instant(value: Any) -> datetime | None:
    """Return an ISO 8601 text, a date or a datetime as an instant in UTC; None when it is none of them."""
    if value is None:
        return None
    if type(value) is str:
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day, tzinfo=UTC) if isinstance(value, date) else None
    if value.tzinfo is UTC:
        return value
    try:
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except OverflowError:
        return None


def result_of(answer: Any) -> Any:
    """Return an answer of the engine as plain values; raises ValueError with what it says when it is an error.

    The engine's own conversion (0.1.3) gives up a reference to None that it does not hold, once for each null in a
    result; after some thousand of them the interpreter stops. So nulls are never converted by it.
    """
    name = answer.type().name()
    if name == "NULL":
        return None
    if name.startswith("LIST"):
        return [result_of(item) for item in answer.value()]
    if name.startswith("MAP"):
        return {key: result_of(item) for key, item in answer.value().items()}
    if name == "ERROR":
        raise ValueError(str(answer.value()))
    return answer.plain_value()


def from_engine(value: Any) -> Any:
    """Return a value of the engine as JSON has it: instants as ISO 8601 text, lengths of time in seconds."""
    if type(value) is str:
        return value if value.isascii() and "\0" not in value else storable_text(value)
    match value:
        case None | bool() | int():
            return value
        case str():
            return storable_text(value)
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return value.isoformat()
        case dict():
            return {storable_text(str(key)): from_engine(item) for key, item in value.items()}
        case list():
            return [from_engine(item) for item in value]
        case timedelta():
            return value.total_seconds()
        case bytes() | bytearray():
            return storable_text(bytes(value).decode(errors="replace"))
        case _:
            return storable_text(str(value))


def dig(value: Any, keys: tuple[str, ...]) -> Any:
    """Return what is inside a value of the engine; None when there is nothing."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value
