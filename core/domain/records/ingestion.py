"""Reading an event that comes in: is it well formed, when did it happen, whom is it about."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from core.domain.errors import Violation
from core.domain.frozen import frozen
from core.domain.nearest import did_you_mean
from core.domain.records import identity
from core.domain.records.fields import STANDARD_FIELDS, normalise
from core.domain.records.identity import Identifier
from core.domain.records.lateness import is_ahead, is_history, is_late
from core.domain.records.values import BadValue, parse_instant

EVENT_TYPES = ("lead", "conversion", "action")

_LENGTHS = {
    "event_type": 20,
    "event_name": 200,
    "source_id": 100,
    "event_id": 200,
    "person_id": 200,
    "ga_client_id": 200,
    "created_at": 40,
    "message_id": 200,
}
_REQUIRED = ("event_type", "event_name", "source_id")
_PERSON = ("person_id", "event_id", "ga_client_id")
_NOT_OBSERVED = frozenset({"company_id", "owner_id", "unsubscribed"})
"""Contact fields that only a caller who means them may set, never a form."""


@frozen
class IncomingEvent:
    """An event as it was sent."""

    event_type: str = ""
    event_name: str = ""
    source_id: str = ""
    fields: Mapping[str, Any] | None = None
    event_id: str = ""
    person_id: str = ""
    ga_client_id: str = ""
    created_at: str = ""
    message_id: str = ""


@frozen
class ReadEvent:
    """A well-formed event, and what it tells of a person."""

    event_type: str
    event_name: str
    source_id: str
    fields: Mapping[str, Any]
    """As they came."""
    occurred_at: datetime
    message_id: str
    contact_fields: Mapping[str, Any]
    identifiers: tuple[Identifier, ...]
    """Beside the e-mail and the phone among the contact fields; junk is left out."""
    left_out: tuple[str, ...] = ()
    """Fields named like a contact's whose value does not fit; they stay with the event alone."""
    late: bool = False
    """It took so long to arrive that what is known since goes before it."""
    history: bool = False
    """It is too old to start or wake anything."""


def read(event: IncomingEvent, now: datetime) -> ReadEvent | list[Violation]:
    """Return an event ready to be stored, or everything that is wrong with it, by field."""
    violations = [*_shape(event), *_event_type(event.event_type)]
    occurred_at = _occurred_at(event.created_at, now, violations)
    fields = event.fields or {}
    contact_fields, left_out = _contact_fields(fields, violations)
    if violations:
        return violations
    person = (identity.normalise(kind, getattr(event, kind)) for kind in _PERSON)
    return ReadEvent(
        event_type=event.event_type,
        event_name=event.event_name.strip(),
        source_id=event.source_id,
        fields=fields,
        occurred_at=occurred_at,
        message_id=event.message_id,
        contact_fields=contact_fields,
        identifiers=tuple(identifier for identifier in person if identifier is not None),
        left_out=tuple(left_out),
        late=is_late(occurred_at, now),
        history=is_history(occurred_at, now),
    )


def _shape(event: IncomingEvent) -> list[Violation]:
    # The pipeline checks this for a single event; in a batch each item answers for itself.
    missing = [
        Violation(name, "REQUIRED", "is required and missing", f"Set {name}.")
        for name in _REQUIRED
        if not getattr(event, name).strip()
    ]
    if event.fields is None:
        missing.append(Violation("fields", "REQUIRED", "is required and missing", "Set fields; it may be empty."))
    long = [
        Violation(name, "TOO_LONG", f"has more than {most} characters", "Shorten it.")
        for name, most in _LENGTHS.items()
        if len(getattr(event, name)) > most
    ]
    name = event.event_name.strip()
    if name.startswith("$") or any(ord(character) < 32 for character in name):
        why = "names that begin with $ are the core's own, and a name has no line breaks"
        missing.append(Violation("event_name", "BAD_EVENT_NAME", why, "Send a name such as form.submitted."))
    return missing + long


def _event_type(event_type: str) -> list[Violation]:
    if not event_type.strip() or event_type in EVENT_TYPES:
        return []
    hint = did_you_mean(event_type, EVENT_TYPES, "Use lead, conversion or action.")
    return [Violation("event_type", "UNKNOWN_EVENT_TYPE", f"`{event_type[:20]}` is no event type", hint)]


def _occurred_at(created_at: str, now: datetime, violations: list[Violation]) -> datetime:
    if not created_at.strip():
        return now
    try:
        occurred_at = parse_instant(created_at)
    except ValueError:
        message = f"`{created_at[:40]}` is not an ISO 8601 instant"
        violations.append(Violation("created_at", "NOT_AN_INSTANT", message, "Send it like 2026-03-02T09:00:00Z."))
        return now
    if is_ahead(occurred_at, now):
        message = f"{created_at[:40]} is more than a day in the future"
        hint = "Send when it happened, or leave it out for the time of arrival."
        violations.append(Violation("created_at", "OCCURRED_IN_FUTURE", message, hint))
    return occurred_at


def _contact_fields(fields: Mapping[str, Any], violations: list[Violation]) -> tuple[dict[str, Any], list[str]]:
    """Return the fields that describe the person.

    A wrong e-mail is an error, since it would lose the person; anything else that does not fit is what a form happened
    to call by the same name.
    """
    accepted: dict[str, Any] = {}
    left_out: list[str] = []
    for name, value in fields.items():
        if name not in STANDARD_FIELDS["contact"] or name in _NOT_OBSERVED:
            continue
        try:
            stored = normalise("contact", name, value)
        except BadValue as bad:
            if name == "email":
                violations.append(Violation("fields.email", bad.reason, bad.message, bad.hint))
            else:
                left_out.append(name)
            continue
        if stored is not None:
            accepted[name] = stored
    return accepted, left_out
