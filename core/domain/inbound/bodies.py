"""From the bytes of a genuine request to the messages in it: JSON, forms, CloudEvents, and lists of messages.

What cannot be read is a message too, with its fault: it is kept, and somebody learns of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any
from urllib.parse import parse_qsl

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.inbound import cloudevents, json_values
from core.domain.inbound.cloudevents import CloudEvent
from core.domain.inbound.json_values import Unreadable
from core.domain.inbound.request import Arrived, without_secrets
from core.domain.workflow.storable import storable_text

MOST_MESSAGES = 1_000
"""In one request."""
MOST_FORM_FIELDS = 1_000

_FORM = "application/x-www-form-urlencoded"


@frozen
class Message:
    """One message of a request."""

    body: Any
    """What expressions call `body`: of a CloudEvent, its data."""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    kept: Arrived = field(default_factory=lambda: Arrived(b""), repr=False)
    """What to keep of it if it does not fit: read again, it is this message."""
    event: CloudEvent | None = None
    """The CloudEvent it is."""
    item: int | None = None
    """Its position in a list of messages."""
    fault: Violation | None = None
    """Why it cannot be read."""


def read(arrived: Arrived) -> list[Message]:
    """Return the messages of a request: one at least, unless it is an empty list.

    They are read from what is kept, so that it is the same when it is read again.
    """
    kept = Arrived(arrived.body, without_secrets(arrived.headers), without_secrets(arrived.query))
    whole = Message(None, kept.headers, kept.query, kept)
    binary = cloudevents.is_binary(kept.headers)
    try:
        value = _value(kept)
        listed = isinstance(value, list) and not binary
        if listed and len(value) > MOST_MESSAGES:
            hint = "Send several requests."
            raise Unreadable("TOO_MANY_ITEMS", f"has {len(value):,} items, at most {MOST_MESSAGES:,} are taken", hint)
    except Unreadable as unreadable:
        return [replace(whole, fault=unreadable.fault)]
    if binary:
        return [_of_event(whole, cloudevents.of_binary(whole.headers, value if arrived.body else None))]
    batch = kept.content_type == cloudevents.BATCH
    if listed and (batch or (value and all(isinstance(item, dict) for item in value))):
        return [_item(whole, item, index, batch=batch) for index, item in enumerate(value)]
    return [_single(whole, value, kept.content_type)]


def _single(whole: Message, value: Any, content_type: str) -> Message:
    declared = content_type in (cloudevents.STRUCTURED, cloudevents.BATCH)
    if declared or cloudevents.looks_structured(value):
        return _of_event(whole, cloudevents.of_structured(value))
    return replace(whole, body=value)


def _item(whole: Message, item: Any, index: int, *, batch: bool) -> Message:
    """Return one of several messages as if it had come alone."""
    content_type = cloudevents.STRUCTURED if batch else "application/json"
    raw = json.dumps(item, ensure_ascii=False, separators=(",", ":")).encode()
    kept = Arrived(raw, {**whole.headers, "content-type": content_type}, whole.query)
    return _single(Message(None, kept.headers, kept.query, kept, item=index), item, content_type)


def _of_event(message: Message, event: CloudEvent) -> Message:
    fault = event.faults[0] if event.faults else None
    headers = {**message.headers, **event.headers}
    return replace(message, body=event.data, headers=headers, event=event, fault=fault)


def _value(arrived: Arrived) -> Any:
    """Return what a body holds: JSON's value, a form's fields, or else its text."""
    if arrived.headers.get("content-encoding", "").strip().lower() not in ("", "identity"):
        raise Unreadable("UNSUPPORTED_ENCODING", "comes compressed", "Send it as it is.")
    try:
        text = arrived.body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable("NOT_UTF8", f"is not UTF-8 from byte {error.start} on", "Encode it as UTF-8.") from None
    if arrived.content_type == _FORM:
        return _form(text)
    if not text.strip():
        return {}
    kind = arrived.content_type
    is_json = kind in ("", "application/json") or kind.endswith("+json")
    try:
        return json_values.parse(text)
    except Unreadable as unreadable:
        if is_json or unreadable.fault.reason not in ("NOT_JSON", "NOT_FINITE"):
            raise
        return storable_text(text)


def _form(text: str) -> Any:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FORM_FIELDS)
    except ValueError:
        message = f"is a form of more than {MOST_FORM_FIELDS:,} fields"
        raise Unreadable("TOO_MANY_ITEMS", message, "Send fewer.") from None
    if len(pairs) == 1 and pairs[0][0] == "payload":
        try:
            inner = json_values.parse(pairs[0][1])
        except Unreadable as unreadable:
            if unreadable.fault.reason == "NOT_FINITE":
                raise
            inner = None
        if isinstance(inner, dict | list):
            return inner
    found: dict[str, Any] = {}
    for name, value in pairs:
        name, value = storable_text(name), storable_text(value)
        if name not in found:
            found[name] = value
        elif isinstance(found[name], list):
            found[name].append(value)
        else:
            found[name] = [found[name], value]
    return found
