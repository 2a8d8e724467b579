"""Between the contract's own values and plain JSON, kept short enough for a model's context."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import BaseModel

_EXACT = 2**53
_CUT = "…"
_OURS = re.compile(
    r"[\W_]*(next|more|undo|preview|done|replayed|not applied|retry after|idempotency_key)\b", re.IGNORECASE
)
"""How the lines begin by which an answer tells what was done and what follows."""
_VERSION = re.compile(r"[\s\\\"']*v?(\d+)[\s\\\"']*")
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")
"""What ends a line and JSON does not escape."""
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_BREAKS = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
"""What JSON leaves as it is, and some take for the end of a line or write backwards after."""
UNTRUSTED = {"dripstone/untrusted": True}
"""In the `_meta` of what may hold texts that others wrote, for clients that treat such texts with care."""
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
    return f"{datetime.fromtimestamp(timestamp.seconds, UTC).replace(tzinfo=None).isoformat()}Z"


def word(name: str, prefix: str) -> str:
    """Return an enum value's name as a lower-case word: `DECISION_QUALIFIED` becomes `qualified`."""
    return name.removeprefix(prefix).lower()


def version_of(etag: Any) -> Any:
    """Return a version as tools show and take it: a bare number, however it is written; what is none stays as it is."""
    if isinstance(etag, int) and not isinstance(etag, bool):
        return str(etag)
    found = _VERSION.fullmatch(etag) if isinstance(etag, str) else None
    return found[1] if found else etag


def etag_of(version: str) -> str:
    """Return a version as the contract has it; empty for none."""
    bare = version_of(version)
    return f'"{bare}"' if bare and not bare.startswith('"') else bare


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
    """Return an object cut as little as makes its JSON at most that long."""
    short: dict[str, Any] = value
    for length, items in ((2_000, 100), (400, 60), (120, 40), (60, 30), (30, 20), (30, 8)):
        short = clip(value, length, items)
        if len(compact(short)) <= characters:
            return short
    for name in sorted(short, key=lambda name: len(compact(short[name])), reverse=True):
        short[name] = _CUT
        if len(compact(short)) <= characters:
            return short
    names = [name for name in short if name != _CUT]
    while names:  # these alone are too long
        short = dict.fromkeys(names, _CUT)
        if left := len(value) - len(names):
            short[_CUT] = f"{left} more"
        if len(compact(short)) <= characters:
            return short
        names.pop()
    return {}


def fenced(text: str, about: str) -> str:
    """Return a document as it is, between fences that it does not hold itself, under a line about it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    end = "" if text.endswith("\n") else "\n"
    return f"{about}\n{fence}\n{text}{end}{fence}"


def quoted(text: str, held: Any = None) -> str:
    """Return a text in which no line after the first one can be taken for ours; records may hold any line.

    `held` is what the text was made of: whatever line one of its texts goes on with is marked, however it reads.
    """
    first, *others = text.splitlines() or [""]
    if not others:
        return first
    theirs = _continued(held)
    return "\n".join([first, *(f"| {line}" if _is_theirs(line, theirs) else line for line in others)])


def _continued(held: Any) -> tuple[str, ...]:
    """Return every line but the first one of each text in an answer, or in plain JSON."""
    found: list[str] = []
    left = [held]
    for one in left:  # and what is put behind it meanwhile
        if isinstance(one, str):
            found += one.splitlines()[1:]
        elif isinstance(one, dict):
            left += one
            left += one.values()
        elif isinstance(one, (list, tuple)):
            left += one
        elif isinstance(one, BaseModel):
            left += one.__dict__.values()
    return tuple(filter(None, found))


def _is_theirs(line: str, theirs: tuple[str, ...]) -> bool:
    if line.startswith(theirs):
        return True
    stem = line.removesuffix("…")  # a text may have been cut once more
    if stem != line and any(one.startswith(stem) for one in theirs):
        return True
    if line.isascii():  # as nearly all are: there is one way to write each sign, and no invisible one
        return bool(_OURS.match(line[:200]))
    plain = unicodedata.normalize("NFKC", line)
    return bool(_OURS.match("".join(sign for sign in plain[:200] if unicodedata.category(sign) != "Cf")))


def compact(value: Any) -> str:
    """Return a value as JSON without a wasted character, on one line whoever draws it: texts end at their marks."""
    return _BREAKS.sub(lambda sign: f"\\u{ord(sign[0]):04x}", _COMPACT.encode(value))


def invocation(tool: str, **arguments: Any) -> str:
    """Return a tool call as text, such as `get-record {"record_id":"cnt_1"}`; empty values are left out."""
    return f"{tool} {compact({name: value for name, value in arguments.items() if value not in ('', None, {}, [])})}"


def page_after(cursor: str, tool: str, **arguments: Any) -> str:
    """Return the call for the next page of a list; empty after the last one."""
    return invocation(tool, **arguments, cursor=cursor) if cursor else ""


def commit_of(tool: str, **arguments: Any) -> str:
    """Return the call that commits what was previewed, under a key of its own; the same call in words if it is long."""
    key = new_key(tool.partition("-")[0])
    call = invocation(tool, **arguments, mode="commit", idempotency_key=key)
    if len(call) <= LONGEST_CALL:
        return call
    seen = {"if_version": arguments["if_version"]} if arguments.get("if_version") else {}
    return f"the same call with {compact({**seen, 'mode': 'commit', 'idempotency_key': key})[1:-1]}"


def new_key(tool: str) -> str:
    """Return an idempotency key for a suggested commit; used by whoever follows the suggestion, once."""
    return f"{tool}-{os.urandom(6).hex()}"
