"""Between the contract's own values and plain JSON, kept short enough for a model's context."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Iterator, Mapping
from datetime import UTC
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

_EXACT = 2**53
_OURS = re.compile(r"[\W_]*(next|undo|preview|done|replayed|not applied|retry after)\b", re.IGNORECASE)
"""How the lines begin by which an answer tells what was done and what follows."""
LONGEST_CALL = 600
"""Characters of a suggested call; longer ones are told in words."""


def to_struct(mapping: Mapping[str, Any]) -> Struct:
    """Return a JSON object as a Struct; an integer that a double cannot hold travels as text."""
    struct = Struct()
    struct.update({key: _exact(value) for key, value in mapping.items()})
    return struct


def _exact(value: Any) -> Any:
    match value:
        case bool():
            return value
        case int() if abs(value) >= _EXACT:
            return str(value)
        case dict():
            return {key: _exact(item) for key, item in value.items()}
        case list():
            return [_exact(item) for item in value]
        case _:
            return value


def to_value(value: Any) -> Value:
    """Return plain JSON as a Value."""
    return to_struct({"value": value}).fields["value"]


def from_struct(struct: Struct) -> dict[str, Any]:
    """Return a Struct as a JSON object; whole numbers become integers."""
    return {key: from_value(value) for key, value in struct.fields.items()}


def from_value(value: Value) -> Any:
    """Return a Value as plain JSON."""
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


def instant(timestamp: Timestamp) -> str:
    """Return an instant as ISO 8601 to the second; empty when it is not set."""
    if not timestamp.seconds:
        return ""
    return timestamp.ToDatetime(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def word(name: str, prefix: str) -> str:
    """Return an enum value's name as a lower-case word: `DECISION_QUALIFIED` becomes `qualified`."""
    return name.removeprefix(prefix).lower()


def in_state(state: str) -> str:
    """Return the filter of a list for a state; none for `all`."""
    return "" if state == "all" else f'state = "{state}"'


def clip(value: Any, length: int = 200, items: int = 10) -> Any:
    """Return a value with long texts and lists cut, each cut marked by an ellipsis."""
    match value:
        case str() if len(value) > length:
            return value[: length - 1] + "…"
        case dict():
            short = {key: clip(item, length, items) for key, item in list(value.items())[:items]}
            return short | ({"…": f"{len(value) - items} more"} if len(value) > items else {})
        case list():
            short_list = [clip(item, length, items) for item in value[:items]]
            return short_list + ([f"… {len(value) - items} more"] if len(value) > items else [])
        case _:
            return value


def fit(value: dict[str, Any], characters: int) -> dict[str, Any]:
    """Return an object cut as little as makes its JSON at most about that long."""
    for length, items in ((2_000, 100), (400, 60), (120, 40), (60, 30), (30, 20)):
        short: dict[str, Any] = clip(value, length, items)
        if len(compact(short)) <= characters:
            return short
    return clip(value, 30, 8)  # type: ignore[no-any-return]


def quoted(text: str, held: Any = None) -> str:
    """Return a text in which no line after the first one can be taken for ours; records may hold any line.

    `held` is what the text was made of: whatever line one of its texts goes on with is marked, however it reads.
    """
    first, *others = text.splitlines() or [""]
    theirs = tuple(_continued(held)) if others else ()
    return "\n".join([first, *(f"| {line}" if _is_theirs(line, theirs) else line for line in others)])


def _continued(held: Any) -> Iterator[str]:
    """Yield every line but the first one of each text in plain JSON."""
    match held:
        case str():
            yield from filter(None, held.splitlines()[1:])
        case dict():
            for item in (*held, *held.values()):
                yield from _continued(item)
        case list():
            for item in held:
                yield from _continued(item)


def _is_theirs(line: str, theirs: tuple[str, ...]) -> bool:
    if line.startswith(theirs):
        return True
    stem = line.removesuffix("…")  # a text may have been cut once more
    if stem != line and any(one.startswith(stem) for one in theirs):
        return True
    plain = unicodedata.normalize("NFKC", line)
    return bool(_OURS.match("".join(sign for sign in plain[:200] if unicodedata.category(sign) != "Cf")))


def compact(value: Any) -> str:
    """Return a value as JSON without a wasted character."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def invocation(tool: str, **arguments: Any) -> str:
    """Return a tool call as text, such as `get-record {"record_id":"cnt_1"}`; empty values are left out."""
    return f"{tool} {compact({name: value for name, value in arguments.items() if value not in ('', None, {}, [])})}"


def commit_of(tool: str, **arguments: Any) -> str:
    """Return the call that commits what was previewed, under a key of its own; the same call in words if it is long."""
    key = new_key(tool.partition("-")[0])
    call = invocation(tool, **arguments, mode="commit", idempotency_key=key)
    return call if len(call) <= LONGEST_CALL else f'the same call with "mode":"commit","idempotency_key":"{key}"'


def new_key(tool: str) -> str:
    """Return an idempotency key for a suggested commit; used by whoever follows the suggestion, once."""
    return f"{tool}-{os.urandom(6).hex()}"
