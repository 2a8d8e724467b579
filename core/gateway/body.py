"""JSON bodies: from bytes to a request message, refusing whatever could be understood in two ways."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from typing import Any, NoReturn

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from starlette.requests import Request

from core.domain.errors import invalid
from core.gateway.errors import BodyTooLarge, UnsupportedMediaType
from core.gateway.problems import Problems
from core.gateway.values import (
    REFUSED,
    WELL_KNOWN,
    Fill,
    Repeating,
    converter,
    is_map,
    message_type,
    note_repeats,
    said,
)

LARGEST = 4 * 1024 * 1024
"""Bytes of the largest accepted body."""
LARGEST_FILE = 10 * 1024 * 1024
"""Where the body is a file."""


class _NotANumber(ValueError):
    pass


async def read(request: Request, *, file: bool = False) -> bytes:
    """Return the body; that of a file may be of any kind, and is not looked into.

    Raises BodyTooLarge as soon as that is known, and UnsupportedMediaType for anything but plain JSON in UTF-8.
    """
    largest = LARGEST_FILE if file else LARGEST
    length = request.headers.get("content-length", "")
    if length.isdigit() and int(length) > largest:
        raise BodyTooLarge(limit=largest)
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > largest:
            raise BodyTooLarge(limit=largest)
        chunks.append(chunk)
    raw = b"".join(chunks)
    if raw and not file:
        _check_type(request.headers.get("content-type", ""), request.headers.get("content-encoding", ""))
    return raw


def _check_type(content_type: str, encoding: str) -> None:
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(given=f"the encoding {encoding[:100]}")
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    named = dict(part.strip().lower().partition("=")[::2] for part in parameters.split(";") if part.strip())
    known = kind in ("", "application/json") or (kind.startswith("application/") and kind.endswith("+json"))
    if not known or named.get("charset", "utf-8").strip('"') not in ("utf-8", "utf8"):
        raise UnsupportedMediaType(given=content_type[:100])


def parse(raw: bytes) -> dict[str, Any]:
    """Return the object that a body is; an empty body is an empty object. Raises Invalid."""
    try:
        data = json.loads(raw.decode() or "{}", object_pairs_hook=_object, parse_constant=_not_a_number)
    except UnicodeDecodeError as error:
        raise invalid("body", "NOT_UTF8", f"is not UTF-8 from byte {error.start} on", "Encode it as UTF-8.") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise invalid("body", "NOT_JSON", f"is not JSON; the fault is at {where}", "Send a JSON object.") from None
    except _NotANumber as error:
        raise invalid("body", "NOT_JSON", f"is not JSON: it has no {error}", "Leave the field out.") from None
    except ValueError:
        raise invalid("body", "NOT_JSON", "has a number with too many digits", "Send it as text.") from None
    except RecursionError:
        raise invalid("body", "TOO_DEEP", "is nested too deep", "Send fewer levels.") from None
    if not isinstance(data, dict):
        raise invalid("body", "WRONG_TYPE", f"must be an object, not {said(data)}", 'Write it as {"field": value}.')
    return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    times = Counter(name for name, _ in pairs)
    return Repeating(found, tuple(name for name, count in times.items() if count > 1))


def _not_a_number(name: str) -> NoReturn:
    raise _NotANumber(name)


def fill(message: Message, data: dict[str, Any], prefix: str, problems: Problems) -> None:
    """Set a message's fields from an object; snake_case and camelCase names are both known, null means not given."""
    fields = _fields(message.DESCRIPTOR)
    note_repeats(data, prefix, problems)
    for name, value in data.items():
        if problems.full:
            return
        known = fields.get(name)
        if known is None:
            own = [field.name for field in message.DESCRIPTOR.fields]
            problems.unknown(prefix + name[:200], name, own, "a field here")
            continue
        field_name, set_field = known
        if name != field_name and field_name in data:
            problems.add(prefix + field_name, "GIVEN_TWICE", f"is given twice, also as {name}", "Give it once.")
        set_field(message, value, prefix + field_name, problems)


@cache
def _fields(descriptor: Descriptor) -> dict[str, tuple[str, Fill]]:
    """Return what to do with each name, prepared once per message type."""
    known: dict[str, tuple[str, Fill]] = {}
    for field in descriptor.fields:
        known[field.name] = known[field.json_name] = (field.name, _setter(field))
    return known


def _setter(field: FieldDescriptor) -> Fill:
    if is_map(field):
        return _map_setter(field)
    if field.is_repeated:
        return _list_setter(field)
    if field.message_type is not None:
        return _message_setter(field)
    convert, name = converter(field), field.name

    def set_scalar(message: Message, value: Any, path: str, problems: Problems) -> None:
        if value is not None and (converted := convert(value, path, problems)) is not REFUSED:
            setattr(message, name, converted)

    return set_scalar


def filler(descriptor: Descriptor) -> Fill:
    """Return what sets a message of this type from a JSON value."""
    well_known = WELL_KNOWN.get(descriptor.full_name)
    if well_known is not None:
        return well_known

    def fill_message(target: Message, value: Any, path: str, problems: Problems) -> None:
        if not isinstance(value, dict):
            hint = 'Write it as {"field": value}.'
            problems.add(path, "WRONG_TYPE", f"must be an object, not {said(value)}", hint)
            return
        target.SetInParent()
        fill(target, value, f"{path}.", problems)

    return fill_message


def _message_setter(field: FieldDescriptor) -> Fill:
    kind, name = message_type(field), field.name
    fill_target, takes_null = filler(kind), kind.full_name == "google.protobuf.Value"

    def set_message(message: Message, value: Any, path: str, problems: Problems) -> None:
        if value is not None or takes_null:
            fill_target(getattr(message, name), value, path, problems)

    return set_message


def _list_setter(field: FieldDescriptor) -> Fill:
    name = field.name
    fill_item = filler(field.message_type) if field.message_type is not None else None
    convert = converter(field) if fill_item is None else None

    def set_list(message: Message, value: Any, path: str, problems: Problems) -> None:
        if value is None:
            return
        if type(value) is not list:
            problems.add(path, "WRONG_TYPE", f"must be a list, not {said(value)}", "Write it in square brackets.")
            return
        items = getattr(message, name)
        for index, item in enumerate(value):
            if problems.full:
                return
            if fill_item is not None:
                fill_item(items.add(), item, f"{path}[{index}]", problems)
            elif convert is not None and (done := convert(item, f"{path}[{index}]", problems)) is not REFUSED:
                items.append(done)

    return set_list


def _map_setter(field: FieldDescriptor) -> Fill:
    entry = message_type(field).fields_by_name
    if entry["key"].type != FieldDescriptor.TYPE_STRING or entry["value"].message_type is not None:
        raise ValueError(f"{field.full_name} is a map that HTTP callers cannot send yet")
    convert_key, convert, name = converter(entry["key"]), converter(entry["value"]), field.name

    def set_map(message: Message, value: Any, path: str, problems: Problems) -> None:
        if value is None:
            return
        if not isinstance(value, dict):
            problems.add(path, "WRONG_TYPE", f"must be an object, not {said(value)}", 'Write it as {"name": value}.')
            return
        note_repeats(value, f"{path}.", problems)
        entries = getattr(message, name)
        for key, item in value.items():
            if convert_key(key, f"{path}.{key}", problems) is not REFUSED:
                done = convert(item, f"{path}.{key}", problems)
                if done is not REFUSED:
                    entries[key] = done

    return set_map
