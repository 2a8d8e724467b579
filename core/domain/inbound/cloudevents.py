"""CloudEvents 1.0 over HTTP: structured, batched and binary, each recognised by itself.

Source: the CloudEvents specification, its JSON format and its HTTP protocol binding.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import field, replace
from typing import Any
from urllib.parse import unquote

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.inbound import json_values
from core.domain.workflow.storable import storable_text

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
PREFIX = "ce-"

_REQUIRED = ("specversion", "id", "source", "type")
_DATA = ("data", "data_base64")


@frozen
class CloudEvent:
    """An event with its attributes as texts, and its data."""

    attributes: Mapping[str, str]
    data: Any
    faults: tuple[Violation, ...] = field(default=())
    binary: bool = False
    """Its attributes came as headers, which no signature of a body covers."""

    @property
    def name(self) -> str:
        """Return the event's type."""
        return self.attributes.get("type", "")

    @property
    def time(self) -> str:
        """Return when it happened, as it was written."""
        return self.attributes.get("time", "")

    @property
    def message_id(self) -> str:
        """Return what is the same for a repeated event alone: only source and id together are unique."""
        return f"{self.attributes.get('source', '')}#{self.attributes.get('id', '')}"

    @property
    def headers(self) -> dict[str, str]:
        """Return the attributes as the headers of the binary form, so that one mapping reads both."""
        return {PREFIX + name: value for name, value in self.attributes.items()}


def is_binary(headers: Mapping[str, str]) -> bool:
    """Tell whether headers are those of the binary form: their body is the data."""
    return "ce-specversion" in headers and not headers.get("content-type", "").lower().startswith("application/cloude")


def of_binary(headers: Mapping[str, str], data: Any) -> CloudEvent:
    """Return the event of the binary form."""
    given = {name[len(PREFIX) :]: value for name, value in headers.items() if name.startswith(PREFIX)}
    attributes = {name: storable_text(unquote(value)) for name, value in given.items()}
    return CloudEvent(attributes, data, _faults(attributes, PREFIX), binary=True)


def looks_structured(value: Any) -> bool:
    """Tell whether a JSON value is a CloudEvent, whatever its media type says."""
    return isinstance(value, Mapping) and all(isinstance(value.get(name), str) for name in _REQUIRED)


def of_structured(value: Any) -> CloudEvent:
    """Return the event of the structured form, or of one item of a batch."""
    if not isinstance(value, Mapping):
        fault = Violation("body", "BAD_CLOUDEVENT", "is no CloudEvent, which is an object", "Send {specversion, …}.")
        return CloudEvent({}, None, (fault,))
    attributes = {name: _text(item) for name, item in value.items() if name not in _DATA and item is not None}
    data, faults = value.get("data"), _faults(attributes, "body.")
    encoded = value.get("data_base64")
    if data is None and encoded is not None:
        data, wrong = _decoded(encoded, attributes.get("datacontenttype", ""))
        faults += wrong
    return CloudEvent(attributes, data, faults)


def _faults(attributes: Mapping[str, str], prefix: str) -> tuple[Violation, ...]:
    hint = "CloudEvents 1.0 asks for specversion, id, source and type."
    return tuple(
        Violation(prefix + name, "BAD_CLOUDEVENT", "is required and missing", hint)
        for name in _REQUIRED
        if not attributes.get(name)
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _decoded(encoded: Any, media_type: str) -> tuple[Any, tuple[Violation, ...]]:
    """Return binary data: as JSON where it says that it is that, else as base64 still."""
    try:
        raw = base64.b64decode(encoded, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return None, (Violation("body.data_base64", "BAD_CLOUDEVENT", "is not base64", "Encode it as base64."),)
    kind = media_type.partition(";")[0].strip().lower()
    if kind in ("", "application/json") or kind.endswith("+json"):
        try:
            return json_values.parse(raw.decode()), ()
        except UnicodeDecodeError:
            pass  # bytes of another kind, told as they are
        except json_values.Unreadable as unreadable:
            if unreadable.fault.reason == "NOT_FINITE":
                return None, (replace(unreadable.fault, field="body.data_base64"),)
    return {"data_base64": encoded}, ()
