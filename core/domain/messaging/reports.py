"""What others report of messages, as events that come in: bounces, spam complaints, unsubscribes.

A provider's own names are mapped onto these by the source; the fields are `email` (or `address` with `channel`),
`message_id`, `kind` and `purpose`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal

from core.domain.frozen import frozen
from core.domain.messaging.addresses import EMAIL

What = Literal["bounced", "complained", "unsubscribed"]

EVENTS: Mapping[str, What] = {
    "message.bounced": "bounced",
    "message.complained": "complained",
    "message.unsubscribed": "unsubscribed",
}
"""Event name to what it reports."""

_WORD = re.compile(r"[a-z][a-z0-9_]{0,49}")
_HARD = frozenset({"", "hard", "permanent", "hardbounce", "hard_bounce"})
_LONGEST_ID = 200
_LONGEST_ADDRESS = 400


@frozen
class Report:
    """A report, as far as it could be read."""

    what: What
    hard: bool
    """Of a bounce: for good. What names no kind is; what names another one is not."""
    message_id: str
    """Ours or the other system's; empty for none."""
    channel: str
    address: str
    """Empty where only the message is named."""
    purpose: str
    """Empty for the message's own."""


def read(event_name: str, fields: Mapping[str, Any]) -> Report | None:
    """Return what an event reports; None for an event that reports nothing, or of nobody."""
    what = EVENTS.get(event_name)
    if what is None:
        return None
    channel, address = _address(fields)
    message_id = _message_id(fields.get("message_id"))
    if not address and not message_id:
        return None
    kind = _text(fields.get("kind"), 40).lower()
    return Report(what, kind in _HARD, message_id, channel, address, _word(fields.get("purpose")))


def _address(fields: Mapping[str, Any]) -> tuple[str, str]:
    channel = _word(fields.get("channel"))
    for name, usual in (("email", EMAIL), ("phone", "sms"), ("address", EMAIL)):
        address = _text(fields.get(name), _LONGEST_ADDRESS)
        if address and (name == "address" or channel in ("", usual)):
            return channel or usual, address
    return channel or EMAIL, ""


def _message_id(value: Any) -> str:
    """Return an id as it is stored: a Message-ID header of ours comes as `<msg_…@acme.example>`."""
    text = _text(value, _LONGEST_ID).strip("<>")
    return text.partition("@")[0] if text.startswith("msg_") else text


def _word(value: Any) -> str:
    text = _text(value, 50)
    return text if _WORD.fullmatch(text) else ""


def _text(value: Any, longest: int) -> str:
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return text if len(text) <= longest and text.isprintable() else ""
