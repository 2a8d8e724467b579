"""Bodies of webhooks: canonical JSON, made once when the event is emitted, stored, signed and sent as stored.

`standard` is the message's own form. An endpoint may ask for another, whose bytes are then stored with its delivery.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from core.domain.errors import Invalid, Violation
from core.domain.frozen import frozen
from core.domain.webhooks.event_types import CATALOGUE, validate_payload

MAX_PAYLOAD_BYTES = 262_144


class PayloadFormat(StrEnum):
    """Forms of the body."""

    STANDARD = "standard"
    EVENT = "event"
    ARRAY = "array"


@frozen
class Addresses:
    """How to reach the person whom an event is about."""

    email: str = ""
    phone: str = ""


NOBODY = Addresses()


def standard(event_type: str, at: datetime, data: Mapping[str, Any]) -> str:
    """Return `{type, timestamp, data}`.

    Raises Invalid when the data does not fit the type's schema, has no JSON form, or is too large.
    """
    try:
        text = _canonical({"type": event_type, "timestamp": _iso(at), "data": data})
        size = len(text.encode())
    except (TypeError, ValueError):  # not a JSON value, a number that is none, half a surrogate pair
        raise Invalid(Violation("data", "NOT_JSON", "the data has no JSON form", "Use JSON values only.")) from None
    if size > MAX_PAYLOAD_BYTES:
        message = f"the message has {size} bytes, more than {MAX_PAYLOAD_BYTES}"
        raise Invalid(Violation("data", "PAYLOAD_TOO_LARGE", message, "Send ids and let the receiver fetch the rest."))
    if event_type in CATALOGUE:
        validate_payload(event_type, data_in(text))
    return text


def data_in(body: str) -> Any:
    """Return the data in a standard body, as the receiver will read it."""
    return json.loads(body)["data"]


def in_form(
    form: PayloadFormat,
    org_id: str,
    event_type: str,
    at: datetime,
    data: Mapping[str, Any],
    addresses: Addresses = NOBODY,
) -> str | None:
    """Return the body in an endpoint's own form, or None where that is the standard one.

    The data has been through `standard`. `addresses` fill in what it does not say of the person.
    """
    match form:
        case PayloadFormat.STANDARD:
            return None
        case PayloadFormat.EVENT:
            # A receiver tells accounts apart by `user_id`: here that is the organization. Persons stand in `data`.
            return _canonical({"event": event_type, "user_id": org_id, "created_at": _iso(at), "data": data})
        case PayloadFormat.ARRAY:
            return _canonical([_as_object(event_type, at, data, addresses)])


def contact_of(data: Mapping[str, Any]) -> str:
    """Return the contact whom an event is about; empty where it is about none."""
    named = data.get("contact_id")
    if named is None and data.get("record_type") == "contact":
        named = data.get("record_id")
    return named if isinstance(named, str) else ""


def _as_object(event_type: str, at: datetime, data: Mapping[str, Any], addresses: Addresses) -> dict[str, Any]:
    own = {"email": _text(data.get("email")) or addresses.email, "phone": _text(data.get("phone")) or addresses.phone}
    return {
        "automation_id": _text(data.get("workflow_id")),
        "title": event_type,
        "execution_date": at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        **own,
        "variables": [{name: data[name]} for name in sorted(data) if name not in own or data[name] != own[name]],
    }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def _canonical(value: object) -> str:
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":"), default=_json_form
    )


def _json_form(value: object) -> object:
    if isinstance(value, datetime):
        return _iso(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(type(value).__name__)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
