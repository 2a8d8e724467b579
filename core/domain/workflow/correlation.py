"""Keys by which an event finds the enrollments that wait for it: whose it is, and what its fields say."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from core.domain.workflow.storable import storable_text

MOST_KEYS = 50
"""Keys of one event."""

LONGEST_KEY = 200
"""In characters; a longer value finds nobody, and nobody can wait for it."""


def correlation_key(field: str, value: Any) -> str:
    """Return the key of a field and its value, such as `order_id=123`; empty when nothing can be matched on it.

    A number and the text that writes it give the same key: senders differ in which of them they use.
    """
    text = _canonical(value)
    key = storable_text(f"{field}={text}")
    return key if text and len(key) <= LONGEST_KEY else ""


def event_keys(contact_id: str | None, fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Return every key under which an enrollment may wait for an event: the contact's id, then its fields.

    Of an event with more fields than there may be keys, those named like ids come first, then the shortest.
    """
    found = [(str(name), key) for name, value in fields.items() if (key := correlation_key(str(name), value))]
    found.sort(key=lambda one: ("id" not in one[0].lower(), len(one[1]), one[1]))
    keys = (contact_id, *(key for _, key in found)) if contact_id else tuple(key for _, key in found)
    return keys[:MOST_KEYS]


def _canonical(value: Any) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value.strip() if len(value) <= LONGEST_KEY else ""
        case float() if not math.isfinite(value) or abs(value) > 1e15:
            return ""  # beyond this a float is no longer the number that was sent
        case float() if value.is_integer():
            return str(int(value))
        case int() if value.bit_length() > 4 * LONGEST_KEY:
            return ""
        case int() | float():
            return str(value)
        case _:
            return ""
