"""What the systems that post here call things, so that most need no mapping: name, time, id and data of an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.domain.inbound.bodies import Message
from core.domain.inbound.verifiers import Kind

_NAMES = ("type", "event", "event_type", "event_name", "topic")
_ENVELOPE_TIMES = ("timestamp", "created_at")
_ID_HEADERS: Mapping[Kind, str] = {
    Kind.GITHUB: "x-github-delivery",
    Kind.SHOPIFY: "x-shopify-webhook-id",
}
_ID_KEYS: Mapping[Kind, str] = {Kind.STRIPE: "id", Kind.SLACK: "event_id"}


def event_name(kind: Kind, message: Message) -> str:
    """Return what the sender calls the event; empty where nothing tells."""
    if message.event is not None:
        return message.event.name
    body = _mapping(message.body)
    if kind is Kind.GITHUB and (name := message.headers.get("x-github-event")):
        action = body.get("action")
        return f"{name}.{action}" if isinstance(action, str) and action else name
    if kind is Kind.SHOPIFY and (name := message.headers.get("x-shopify-topic")):
        return name
    inner = _mapping(body.get("event")).get("type")
    if kind is Kind.SLACK and isinstance(inner, str):
        return inner
    return next((name for key in _NAMES if isinstance(name := body.get(key), str) and name.strip()), "")


def fields(message: Message) -> Mapping[str, Any] | None:
    """Return the event's attributes: of an envelope its data, else the body as it is; None where it has no names."""
    if message.event is not None:
        data = message.body
        return data if isinstance(data, dict) else {} if data is None else {"data": data}
    if isinstance(message.body, dict):
        return message.body["data"] if _is_envelope(message.body) else message.body
    return None


def occurred(kind: Kind, message: Message) -> Any:
    """Return when it happened, as it was told: a text, or seconds since 1970; None where nothing tells."""
    if message.event is not None:
        return message.event.time or None
    body = _mapping(message.body)
    if kind is Kind.STRIPE:
        return body.get("created")
    if kind is Kind.SLACK:
        return body.get("event_time")
    if _is_envelope(body):
        return next((body[key] for key in _ENVELOPE_TIMES if body.get(key)), None)
    return None


def message_id(kind: Kind, message: Message) -> str:
    """Return what the sender's repeats of a message have in common; empty where nothing does.

    An `id` in a body of unknown form may be that of a contact or an order: two events about it are no repeats. Where
    the signature covers an id, that one counts: who caught a signed request could send it again under other headers.
    """
    if message.event is not None and not (message.event.binary and kind is Kind.STANDARD_WEBHOOKS):
        return message.event.message_id
    body = _mapping(message.body)
    if key := _ID_KEYS.get(kind):
        value = body.get(key)
        return value if isinstance(value, str) else ""
    header = _ID_HEADERS.get(kind)
    found = message.headers.get(header, "") if header else _standard_id(message)
    return f"{found}#{message.item}" if found and message.item is not None else found


def _standard_id(message: Message) -> str:
    family = "webhook" if "webhook-signature" in message.headers else "svix"
    return message.headers.get(f"{family}-id", "") or message.headers.get("webhook-id", "")


def _is_envelope(body: Mapping[str, Any]) -> bool:
    """Tell whether a body is `{type, timestamp, data}`, as Standard Webhooks advise, or `{event, created_at, data}`."""
    named = isinstance(body.get("type"), str) or isinstance(body.get("event"), str)
    return named and isinstance(body.get("data"), dict) and any(body.get(key) for key in _ENVELOPE_TIMES)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
