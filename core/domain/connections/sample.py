"""What calls may name, and a made-up message to try them with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.domain.frozen import frozen
from core.domain.workflow.expressions import Kind
from core.domain.workflow.variables import record_variables

_OF_MESSAGE = ("id", "channel", "purpose", "to", "subject", "text", "html")

VARIABLES: Mapping[str, Kind] = {
    **{f"message.{name}": "string" for name in _OF_MESSAGE},
    "message.ordinal": "integer",
    **record_variables("contact"),
    "enrollment.id": "string",
    "enrollment.key": "string",
    "enrollment.workflow_id": "string",
    "enrollment.step_id": "string",
    "now": "instant",
}
"""What the texts of a call may name."""


@frozen
class Carried:
    """A message, as the texts of a call see it."""

    id: str
    channel: str
    to: str
    text: str
    purpose: str = "marketing"
    subject: str = ""
    html: str = ""
    ordinal: int = 1


class _AnyKey(dict[str, Any]):
    """Own fields of a made-up contact: whatever is asked for is there."""

    def __missing__(self, key: str) -> str:
        return "1"

    def get(self, key: str, default: Any = None) -> Any:
        """Return what stands for any value."""
        return self[key]


def values(
    message: Carried, contact: Mapping[str, Any], enrollment: Mapping[str, Any], now: object = None
) -> dict[str, Any]:
    """Return the values of every variable; `contact` holds its id and its fields."""
    return {
        **{f"message.{name}": getattr(message, name) for name in (*_OF_MESSAGE, "ordinal")},
        **{f"contact.{name}": value for name, value in contact.items()},
        **{f"enrollment.{name}": value for name, value in enrollment.items()},
        "now": now,
    }


def made_up(message: Carried, now: object = None) -> dict[str, Any]:
    """Return the values of a message to a contact who has every field."""
    return {**values(message, MADE_UP_CONTACT, MADE_UP_ENROLLMENT, now), "contact.custom": _AnyKey()}


_TEXTS = {"email": "ada@example.com", "first_name": "Ada", "last_name": "Lovelace", "phone": "+15550100"}

MADE_UP_CONTACT: Mapping[str, Any] = {
    name.removeprefix("contact."): {
        "integer": 1, "number": 1, "boolean": True, "instant": "2026-03-02T09:00:00+00:00", "date": "2026-03-02",
    }.get(kind, _TEXTS.get(name.removeprefix("contact."), "sample"))
    for name, kind in record_variables("contact").items()
    if kind != "map"
}  # fmt: skip
"""A contact who has every field."""

MADE_UP_ENROLLMENT: Mapping[str, str] = {
    "id": "enr_sample", "key": "", "workflow_id": "sample", "step_id": "first_dm",
}  # fmt: skip
"""An enrollment that is none."""

SAMPLE = Carried("msg_sample", "dm", "@ada", 'Hello "Ada",\nhow are you? \\o/')
"""A message with everything in it that a body must escape."""
